"""Taking snapshots: the object in the place of the library's serializer, and the writing beside the loop."""

import asyncio
import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from swarmkit.aio import TaskOwner
from swarmkit.clock import Clock
from swarmkit.log import get_logger
from swarmkit.raft.config import SnapshotPolicy
from swarmkit.raft.errors import StorageError
from swarmkit.raft.lanes import Lane
from swarmkit.raft.records import Entry
from swarmkit.raft.snapshots import Image, SnapshotStore
from swarmkit.raft.wal import Identity

log = get_logger(__name__)


class SnapshotState(enum.IntEnum):
    """The library's own numbers."""

    IDLE = 0
    WRITING = 1
    WRITTEN = 2
    FAILED = 3


@dataclass(frozen=True)
class SnapshotJob:
    """A pinned state that is to be written.

    Attributes:
        previous: the last entry but one that it covers.
        last: the last entry it covers.
        payload: serialises the state; for the snapshot thread.
    """

    previous: Entry
    last: Entry
    payload: Callable[[], bytes]


class Snapshotter:
    """Follows one snapshot at a time from pinning to the compaction of the log.

    The library calls ``serialize`` within a tick. The driver calls ``begin`` after the sync of that cycle, so
    that a snapshot never gets durable ahead of the log. The next tick's ``checkSerializing`` passes the
    outcome on, once, and the library compacts the log.

    Args:
        store: where snapshots lie.
        identity: written into each.
        pin: pins the present state.
        policy: when to take one and what to keep.
        lane: the thread to write in.
        clock: measures.
        wake: called when one is written or has failed.
    """

    def __init__(
        self,
        store: SnapshotStore,
        identity: Identity,
        pin: Callable[[], Callable[[], bytes]],
        policy: Callable[[], SnapshotPolicy],
        lane: Lane,
        clock: Clock,
        wake: Callable[[], None],
    ) -> None:
        self._store = store
        self._identity = identity
        self._pin = pin
        self._policy = policy
        self._lane = lane
        self._clock = clock
        self._wake = wake
        self._owner = TaskOwner("raft snapshots")
        self._state = SnapshotState.IDLE
        self._covered: int | None = None
        self._job: SnapshotJob | None = None
        self._writing: asyncio.Task[None] | None = None
        self._tried = 0
        #: Last entry of the newest durable snapshot, or 0.
        self.index = 0
        #: First entry that an older snapshot, kept on disk, still needs.
        self.oldest_index: int | None = None

    def is_due(self, applied: int) -> bool:
        """Tell whether the next tick should pin a snapshot. A failed one is retried on a later entry."""
        interval = self._policy().interval
        if not interval or self._state != SnapshotState.IDLE or applied - self.index < interval:
            return False
        if applied <= self._tried:
            return False
        self._tried = applied
        return True

    def begin(self) -> None:
        """Begin to write what was pinned, if anything was."""
        job, self._job = self._job, None
        if job is not None:
            self._writing = self._owner.spawn(self._write(job), f"snapshot {job.last.index}")

    async def _write(self, job: SnapshotJob) -> None:
        keep_old = self._policy().keep_old
        started = self._clock.monotonic()

        def write() -> int | None:
            self._store.save(Image(job.previous, job.last, job.payload()), self._identity)
            return self._store.prune(keep_old)

        try:
            oldest = await self._lane.run(write)
        except StorageError as error:
            log.error("cannot write a snapshot; trying again later", index=job.last.index, error=error)
            self._state = SnapshotState.FAILED
        else:
            self.index, self.oldest_index = job.last.index, oldest
            self._state = SnapshotState.WRITTEN
            seconds = f"{self._clock.monotonic() - started:.3f}"
            log.info("wrote a snapshot", index=job.last.index, seconds=seconds)
        self._wake()

    async def close(self) -> None:
        """Wait for a snapshot that is being written."""
        if self._writing is not None:
            await asyncio.wait([self._writing])
        await self._owner.close()

    # -- What the library calls ---------------------------------------------------------------------------

    def serialize(self, data: Any, identity: int) -> None:
        """Pin the state; ``data`` is (ignored, last entry, entry before it, ignored)."""
        if self._state == SnapshotState.IDLE:
            self._job = SnapshotJob(Entry(*data[2]), Entry(*data[1]), self._pin())
            self._covered = identity
            self._state = SnapshotState.WRITING

    def checkSerializing(self) -> tuple[int, int | None]:
        """Return the state; success and failure once only."""
        state = self._state
        if state in (SnapshotState.WRITTEN, SnapshotState.FAILED):
            self._state = SnapshotState.IDLE
        return int(state), None if state == SnapshotState.IDLE else self._covered

    def deserialize(self) -> Any:
        """Hand over the installed snapshot."""
        raise RuntimeError("no snapshot was installed")

    def getTransmissionData(self, peer: Any) -> Any:
        """Return the next piece for a peer, or None."""
        return None

    def setTransmissionData(self, data: Any) -> bool:
        """Take a piece; True when the snapshot is complete and installed."""
        return False

    def cancelTransmisstion(self, peer: Any) -> None:
        """Forget a transfer to a peer."""
