"""The events behind one stream, one at a time, with a bound on the wait."""

import asyncio
from collections import deque
from typing import Any

from swarmkit.aio import cancel_and_wait
from swarmkit.manager.dispatcher.errors import DispatcherError, StreamCanceledError
from swarmkit.store import Commit, Event, Watcher


class EventSource:
    """A watcher's events and pushed ones for one reader, until that closes it or somebody else ends it."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._events: deque[Event] = deque()
        self._receiving: asyncio.Task[Commit | None] | None = None
        self._pushed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._error: DispatcherError | None = None

    async def next(self, seconds: float | None = None) -> Event | None:
        """Return the next event; None if none has come within ``seconds``. What waits is returned at once.

        Raises:
            DispatcherError: the source was ended with it, or the store closed the watcher.
        """
        if not self._events:
            self._collect()
        if not self._events and self._error is None and (seconds is None or seconds > 0):
            await self._receive(seconds)
            self._collect()
        if self._error is not None:
            raise self._error
        return self._events.popleft() if self._events else None

    def push(self, event: Event) -> None:
        """Add an event that the watcher does not watch."""
        self._events.append(event)
        if not self._pushed.done():
            self._pushed.set_result(None)

    def end(self, error: DispatcherError) -> None:
        """Make the reader's present or next wait raise ``error``; events that wait are dropped."""
        if self._error is None:
            self._error = error
            self._watcher.close()

    async def close(self) -> None:
        """Stop watching."""
        self._watcher.close()
        await cancel_and_wait(self._receiving)

    async def _receive(self, seconds: float | None) -> None:
        """Wait for a commit or a push. The task outlives a wait without a commit, so that none is lost."""
        loop = asyncio.get_running_loop()
        if self._pushed.done():
            self._pushed = loop.create_future()
        if self._receiving is None:
            self._receiving = loop.create_task(self._first(), name="dispatcher:stream")
        awaited: set[asyncio.Future[Any]] = {self._receiving, self._pushed}
        await asyncio.wait(awaited, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)

    def _collect(self) -> None:
        """Queue what has arrived, without waiting."""
        if self._receiving is None:
            commit = self._watcher.next_nowait()
        elif self._receiving.done():
            receiving, self._receiving = self._receiving, None
            commit = receiving.result()
            if commit is None:
                self.end(StreamCanceledError())
        else:
            return
        if commit is not None:
            self._events.extend(commit.events)

    async def _first(self) -> Commit | None:
        async for commit in self._watcher:
            return commit
        return None
