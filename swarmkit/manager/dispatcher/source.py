"""The events behind one stream, one at a time, with a bound on the wait."""

import asyncio
from collections import deque

from swarmkit.aio import cancel_and_wait
from swarmkit.manager.dispatcher.errors import DispatcherError, StreamCanceledError
from swarmkit.store import Commit, Event, Watcher


class EventSource:
    """A watcher's events for one reader, until the reader closes it or somebody else ends it."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._events: deque[Event] = deque()
        self._receiving: asyncio.Task[Commit | None] | None = None
        self._error: DispatcherError | None = None

    async def next(self, seconds: float | None = None) -> Event | None:
        """Return the next event; None if none has come within ``seconds``. What waits is returned at once.

        Raises:
            DispatcherError: the source was ended with it, or the store closed the watcher.
        """
        if not self._events and self._receiving is None:
            self._take(self._watcher.next_nowait())
        if not self._events and self._error is None and (seconds is None or seconds > 0):
            await self._receive(seconds)
        if self._error is not None:
            raise self._error
        return self._events.popleft() if self._events else None

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
        """Wait for one commit. The task outlives a wait that ends without one, so that nothing is lost."""
        if self._receiving is None:
            self._receiving = asyncio.get_running_loop().create_task(self._first(), name="dispatcher:stream")
        await asyncio.wait({self._receiving}, timeout=seconds)
        if self._receiving.done():
            receiving, self._receiving = self._receiving, None
            commit = receiving.result()
            if commit is None:
                self.end(StreamCanceledError())
            self._take(commit)

    async def _first(self) -> Commit | None:
        async for commit in self._watcher:
            return commit
        return None

    def _take(self, commit: Commit | None) -> None:
        if commit is not None:
            self._events.extend(commit.events)
