"""Watchers and the hub that hands each commit to those it concerns."""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from types import TracebackType
from typing import Any

from swarmkit.api import messages as api
from swarmkit.log import get_logger
from swarmkit.store.events import Commit, Event, Watch

log = get_logger(__name__)


class Watcher:
    """An endless stream of commits: ``async for commit in watcher``. For one reader at a time.

    Publishing never waits and drops nothing, so the queue has no bound (contract/raft-store-manager.md, 6):
    who watches must read. ``len(watcher)`` is the number of commits that wait, for metrics and for giving up
    on a peer that cannot follow. A wait that is cancelled loses nothing. ``close`` ends the stream, also for
    a reader that waits; what was queued is dropped.
    """

    def __init__(
        self, on_close: Callable[["Watcher"], None], backlog: Iterator[Commit] | None = None
    ) -> None:
        self._on_close = on_close
        self._backlog = backlog
        self._queue: deque[Commit] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._waking = False
        self._closed = False
        self._error: Exception | None = None

    def __len__(self) -> int:
        return len(self._queue)

    def __bool__(self) -> bool:
        return True

    def __aiter__(self) -> "Watcher":
        return self

    async def __anext__(self) -> Commit:
        while (commit := self.next_nowait()) is None:
            if self._closed:
                raise StopAsyncIteration
            if self._reader is not None:
                raise RuntimeError("the watcher is already being read")
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        return commit

    def next_nowait(self) -> Commit | None:
        """Return the next commit, or None if there is none now.

        Raises:
            Exception: what a ``where`` condition raised; the watcher is closed.
        """
        if self._error is not None:
            raise self._error
        if self._backlog is not None:
            commit = next(self._backlog, None)
            if commit is not None:
                return commit
            self._backlog = None
        return self._queue.popleft() if self._queue else None

    def close(self) -> None:
        """End the stream. May be called any number of times."""
        if not self._closed:
            self._closed = True
            self._backlog = None
            self._queue.clear()
            self._on_close(self)
            self._wake()

    def _deliver(self, commit: Commit) -> None:
        self._queue.append(commit)
        # Two turns of the loop later: in the next one who waits for the commit itself answers its client, and
        # in that after it the gateway carries the answer away. They go first.
        if self._reader is not None and not self._waking:
            self._waking = True
            loop = self._reader.get_loop()
            loop.call_soon(loop.call_soon, self._wake)

    def _fail(self, error: Exception) -> None:
        self._error = error
        self.close()

    def _wake(self) -> None:
        self._waking = False
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def __enter__(self) -> "Watcher":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_Subscription = tuple[Watcher, Watch]


class WatchHub:
    """Knows the watchers, by what they ask for."""

    def __init__(self) -> None:
        self._watches: dict[Watcher, tuple[Watch, ...]] = {}
        self._everything: dict[Watcher, None] = {}
        self._buckets: dict[Hashable, list[_Subscription]] = {}

    def subscribe(self, watches: tuple[Watch, ...], backlog: Iterator[Commit] | None = None) -> Watcher:
        """Make a watcher that gets every later commit, after those of ``backlog``."""
        watcher = Watcher(self._unsubscribe, backlog)
        self._watches[watcher] = watches
        if not watches:
            self._everything[watcher] = None
        for watch in watches:
            for key in _bucket_keys(watch):
                self._buckets.setdefault(key, []).append((watcher, watch))
        return watcher

    def _unsubscribe(self, watcher: Watcher) -> None:
        watches = self._watches.pop(watcher)
        self._everything.pop(watcher, None)
        for key in {key for watch in watches for key in _bucket_keys(watch)}:
            rest = [entry for entry in self._buckets[key] if entry[0] is not watcher]
            if rest:
                self._buckets[key] = rest
            else:
                del self._buckets[key]

    def __len__(self) -> int:
        return len(self._watches)

    def publish(self, version: int, events: Iterable[Event]) -> None:
        """Hand a transaction's events to the watchers they match: one commit to each."""
        if not self._watches:
            return
        whole = tuple(events)
        if not whole:
            return
        selected: dict[Watcher, list[Event]] = {}
        for event in whole:
            for key in _event_keys(event.object):
                for watcher, watch in self._buckets.get(key, ()):
                    _select(watcher, watch, event, selected)
        for watcher, matching in selected.items():
            if not watcher._closed:
                watcher._deliver(Commit(version, tuple(matching)))
        if self._everything:
            commit = Commit(version, whole)
            for watcher in self._everything:
                watcher._deliver(commit)

    def close(self) -> None:
        """End every watcher."""
        for watcher in list(self._watches):
            watcher.close()


def _select(watcher: Watcher, watch: Watch, event: Event, selected: dict[Watcher, list[Event]]) -> None:
    try:
        if not watch.matches(event):
            return
    except Exception as error:  # the condition is foreign code: its failure must not stop the manager
        log.exception("watch condition failed", kind=watch.kind.DESCRIPTOR.name, error=str(error))
        watcher._fail(error)
        return
    matching = selected.setdefault(watcher, [])
    if not matching or matching[-1] is not event:
        matching.append(event)


def _bucket_keys(watch: Watch) -> list[Hashable]:
    kind: Any = watch.kind
    if watch.ids is not None:
        return [(kind, "id", id) for id in dict.fromkeys(watch.ids)]
    if watch.node_id is not None:
        return [(kind, "node", watch.node_id)]
    if watch.service_id is not None:
        return [(kind, "service", watch.service_id)]
    return [kind]


def _event_keys(stored: Any) -> Iterator[Hashable]:
    kind: Any = type(stored)
    yield kind
    yield (kind, "id", stored.id)
    if kind is api.Task:
        yield (kind, "node", stored.node_id)
        yield (kind, "service", stored.service_id)


def filtered(watches: tuple[Watch, ...], version: int, events: Iterable[Event]) -> Commit | None:
    """Return what ``watches`` ask for of a transaction's events, or None if nothing."""
    matching = tuple(
        event for event in events if not watches or any(watch.matches(event) for watch in watches)
    )
    return Commit(version, matching) if matching else None
