"""Taking snapshots: the object in the place of the library's serializer, and the writing beside the loop."""

import asyncio
import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError

from swarmkit.aio import TaskOwner
from swarmkit.ca.cipher import InvalidKeyError, RecordCipher
from swarmkit.clock import Clock
from swarmkit.log import get_logger
from swarmkit.raft.config import SnapshotPolicy
from swarmkit.raft.errors import StorageError
from swarmkit.raft.lanes import Lane
from swarmkit.raft.records import Entry
from swarmkit.raft.snapshots import Image, SnapshotStore, decode, encode
from swarmkit.raft.transfer import Incoming, Outgoing, Piece
from swarmkit.raft.wal import Identity

log = get_logger(__name__)

#: Largest snapshot taken from a leader; bounds the memory of an installation.
MAX_SNAPSHOT_BYTES = 2 << 30

#: The wire is encrypted, and a peer does not know this manager's data key.
_WIRE_CIPHER = RecordCipher(None)


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
        is_congested: tells whether a peer should be sent no piece now.
        is_connected: tells whether a peer can be sent to at all.
        check: raises ValueError or DecodeError for a snapshot that could not be restored.
        log_begins: tells the index of the oldest entry that the log still has.
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
        is_congested: Callable[[int], bool],
        is_connected: Callable[[int], bool],
        check: Callable[[Image], None],
        log_begins: Callable[[], int],
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
        self._is_congested = is_congested
        self._is_connected = is_connected
        self._check = check
        self._log_begins = log_begins
        self._writing: asyncio.Task[None] | None = None
        self._outgoing: Outgoing | None = None
        self._served: set[str] = set()
        self._is_fresh = False
        self._wanted = False
        self._loading = False
        self._incoming = Incoming(MAX_SNAPSHOT_BYTES)
        self._installed: Image | None = None
        self._tried = 0
        #: Last entry of the newest durable snapshot, or 0.
        self.index = 0
        #: First entry that an older snapshot, kept on disk, still needs.
        self.oldest_index: int | None = None
        #: The newest snapshot shall reach this entry whatever the policy says: a data key is being rotated.
        self.needed: int | None = None

    @property
    def is_idle(self) -> bool:
        """Whether no snapshot is pinned, being written or just written."""
        return self._state == SnapshotState.IDLE

    def is_due(self, applied: int) -> bool:
        """Tell whether the next tick should pin a snapshot. A failed one is retried on a later entry."""
        if not self.is_idle or applied <= self._tried:
            return False
        interval = self._policy().interval
        regular = interval > 0 and applied - self.index >= interval
        special = self.needed is not None and self.index < self.needed <= applied
        if regular or special:
            self._tried = applied
        return regular or special

    async def use(self, cipher: RecordCipher) -> None:
        """Write and read snapshots with ``cipher`` from now on."""
        await self._lane.run(lambda: self._store.use(cipher))

    async def drop_older(self) -> None:
        """Delete all snapshots but the newest, also those that the policy would keep.

        Raises:
            WriteFailedError: some are left.
        """
        self.oldest_index = await self._lane.run(lambda: self._store.prune(0))

    def begin(self) -> None:
        """Begin to write what was pinned, if anything was."""
        job, self._job = self._job, None
        if job is not None:
            self._writing = self._owner.spawn(self._write(job), f"snapshot {job.last.index}")
        if self._wanted and not self._loading:
            self._wanted, self._loading = False, True
            self._owner.spawn(self._load_outgoing(), "load snapshot")

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
            self.index, self.oldest_index = max(self.index, job.last.index), oldest
            self._state = SnapshotState.WRITTEN
            seconds = f"{self._clock.monotonic() - started:.3f}"
            log.info("wrote a snapshot", index=job.last.index, seconds=seconds)
        self._wake()

    async def _load_outgoing(self) -> None:
        def load() -> Outgoing | None:
            image = self._store.load_newest()
            if image is None:
                return None
            data = b"".join(encode(image, self._identity, _WIRE_CIPHER))
            return Outgoing(image.index, image.term, data)

        try:
            loaded = await self._lane.run(load)
        except (StorageError, OSError) as error:
            log.error("cannot read the snapshot that a member needs", error=error)
            return
        finally:
            self._loading = False
        if self._outgoing is None:
            self._outgoing, self._is_fresh = loaded, loaded is not None
        self._wake()

    @property
    def can_send(self) -> bool:
        """Whether a piece of a snapshot could leave now."""
        if self._outgoing is None:
            return False
        return self._is_fresh or any(not self._is_congested(int(peer, 16)) for peer in self._outgoing.peers)

    def sent(self) -> None:
        """Note that the library has just sent to all peers.

        A transfer ends when its peer took no piece although it could have: it needs none any more. The
        snapshot is freed once nobody is in the middle of it.
        """
        self._is_fresh = False
        if self._outgoing is None:
            return
        for peer in self._outgoing.peers:
            if peer not in self._served and not self._is_congested(int(peer, 16)):
                self._outgoing.cancel(peer)
        self._served.clear()
        if not self._outgoing.peers:
            self._outgoing = None

    def end_transfers(self) -> None:
        """Send nobody anything any more: this node leads no longer."""
        self._outgoing, self._is_fresh, self._wanted = None, False, False

    def _drop_outdated(self) -> None:
        """Drop the snapshot that is being sent if the log does not continue it any more.

        Whoever got the rest of it would need another one at once; and with two of them, one in the middle of
        it whenever the other begins, it would never be replaced.
        """
        if self._outgoing is not None and self._outgoing.index < self._log_begins():
            self._outgoing, self._is_fresh = None, False
            self._served.clear()

    async def receive(self, piece: Piece, applied: int) -> Image | None:
        """Take a piece from the leader; return the snapshot once it is complete, sound and durable.

        One that does not go beyond ``applied`` is refused: it would roll this member back (H4). One that is
        damaged is dropped before anything here changes (H5); the leader will begin again. Older snapshots
        than it go as after one of this member's own: who falls behind again and again writes none.
        """
        whole = self._incoming.take(piece)
        if whole is None:
            return None
        keep_old = self._policy().keep_old

        def save() -> tuple[Image, int | None] | None:
            image = decode(whole, _WIRE_CIPHER)
            if (image.index, image.term) != (piece.index, piece.term) or image.index <= applied:
                return None
            self._check(image)
            self._store.save(image, self._identity)
            return image, self._store.prune(keep_old)

        try:
            saved = await self._lane.run(save)
        except (StorageError, ValueError, DecodeError, InvalidKeyError) as error:
            log.error("cannot install the leader's snapshot", index=piece.index, error=error)
            return None
        if saved is None:
            return None
        self._installed, self.oldest_index = saved
        self.index = self._installed.index
        return self._installed

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
        """Hand over what ``receive`` made durable: (nothing, last entry, the one before, nobody)."""
        if self._installed is None:
            raise RuntimeError("no snapshot was installed")
        image, self._installed = self._installed, None
        return None, image.last, image.previous, ()

    def getTransmissionData(self, peer: Any) -> Any:
        """Return (piece, is first, is last) for a peer; None if nothing is ready or the peer is congested."""
        self._drop_outdated()
        if self._outgoing is None:
            self._wanted = True
            return None
        if self._is_congested(int(peer.id, 16)):
            return None
        piece = self._outgoing.next_piece(peer.id)
        self._served.add(peer.id)
        return piece, piece.offset == 0, piece.is_last

    def setTransmissionData(self, data: Any) -> bool:
        """Tell whether the piece completed an installation; ``receive`` has seen it before the library."""
        return self._installed is not None

    def cancelTransmisstion(self, peer: Any) -> None:
        """Forget a transfer to a peer, unless it is only left out for a while."""
        if self._outgoing is not None and not self._is_connected(int(peer.id, 16)):
            self._outgoing.cancel(peer.id)
