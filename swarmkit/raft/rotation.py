"""The data keys of log and snapshots, and how one takes the place of another while the node runs.

Source: contract/raft-store-manager.md, 15; contract/security.md, 13. A rotation goes through these states:

- *wanted*: the key file's flag is set. Begins once no snapshot is being written: the new key is stored as the
  pending one, and the log goes on in a new segment under it.
- *covering*: both keys are needed. Ends once a snapshot under the new key is durable that covers all entries
  written under the old one.
- *cleaning*: old segments and snapshots are deleted, then the pending key becomes the current one.

PARITY: the original stores the keys first and deletes then. Here a crash between the two must not leave files
that no key opens: a log is refused as a whole if one of its records cannot be read.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from swarmkit.ca.cipher import KEY_BYTES, RecordCipher
from swarmkit.ca.errors import StateDirError
from swarmkit.ca.keyfile import KeyHeaders
from swarmkit.clock import Clock
from swarmkit.log import get_logger
from swarmkit.raft.errors import WriteFailedError, WrongKeyError
from swarmkit.raft.lanes import Lane
from swarmkit.raft.log import RaftLog
from swarmkit.raft.snapshotter import Snapshotter
from swarmkit.raft.storage import Storage

log = get_logger(__name__)

#: Least time between two attempts to store the keys, in seconds: entries may come by the hundred.
RETRY_SECONDS = 1.0


class KeyStore(Protocol):
    """What keeps the data keys: ``swarmkit.ca.keyfile.KeyFile``. All methods may block.

    Those that write raise ``StateDirError``; nothing has changed then.
    """

    def data_key(self) -> bytes:
        """Return the current data key; the first call makes it."""
        ...

    def headers(self) -> KeyHeaders:
        """Return what is stored."""
        ...

    def update_headers(self, change: Callable[[KeyHeaders], KeyHeaders]) -> KeyHeaders:
        """Store what ``change`` makes of it, durably, all or nothing."""
        ...

    def drop_data_keys(self) -> None:
        """Forget all keys: log and snapshots are gone."""
        ...


def cipher_for(headers: KeyHeaders) -> RecordCipher:
    """Return the cipher that writes with the pending key, if there is one, and reads with all."""
    if headers.pending_data_key is None:
        return RecordCipher(headers.data_key)
    assert headers.data_key is not None  # the key file refuses a pending key without a current one
    return RecordCipher(headers.pending_data_key, headers.data_key)


def begun(headers: KeyHeaders, new_key: bytes) -> KeyHeaders:
    """Return the headers after the beginning of a rotation; unchanged if none is asked for, or one runs."""
    if not headers.needs_rotation or headers.pending_data_key is not None:
        return headers
    return replace(headers, pending_data_key=new_key, needs_rotation=False)


def finished(headers: KeyHeaders) -> KeyHeaders:
    """Return the headers after the end of a rotation; a flag that was set meanwhile stays."""
    if headers.pending_data_key is None:
        return headers
    return replace(headers, data_key=headers.pending_data_key, pending_data_key=None)


@dataclass(frozen=True)
class Sealing:
    """How log and snapshots are sealed at the start of a node.

    Attributes:
        keys: where the keys are kept.
        cipher: made of them.
        covering: entry that a snapshot must reach before the old key can go; 0: it is not needed any more,
            None: no rotation is under way.
        wanted: a rotation shall begin.
    """

    keys: KeyStore
    cipher: RecordCipher
    covering: int | None = None
    wanted: bool = False


def open_sealed(
    keys: KeyStore, open_with: Callable[[RecordCipher], Storage | None]
) -> tuple[Storage | None, Sealing]:
    """Open log and snapshots with the keys stored, and find out how far a rotation has come. Blocks.

    A pending key is tried alone first: if it opens everything, only the end of the rotation is missing.

    Args:
        keys: makes the first key if there is none yet.
        open_with: opens with a cipher, or raises ``StorageError`` and leaves all as it is.

    Raises:
        StorageError: as ``open_with``; ``WrongKeyError`` if not even both keys open all.
        StateDirError: the first key cannot be stored.
    """
    keys.data_key()
    headers = keys.headers()
    sealing = Sealing(keys, cipher_for(headers), wanted=headers.needs_rotation)
    if headers.pending_data_key is None:
        return open_with(sealing.cipher), sealing
    alone = RecordCipher(headers.pending_data_key)
    try:
        return open_with(alone), replace(sealing, cipher=alone, covering=0)
    except WrongKeyError:
        storage = open_with(sealing.cipher)
    assert storage is not None  # something was there that one key alone did not open
    last = storage.wal.switch(sealing.cipher, storage.state.clamped_commit)
    covering = max(last, storage.image.index + 1 if storage.image is not None else 0)
    log.info("going on with the rotation of the data key", covering=covering)
    return storage, replace(sealing, covering=covering)


class KeyRotation:
    """Drives the rotations of one node, one after the other; the driver asks it in each cycle.

    However often a rotation is asked for while one runs, exactly one more follows. What fails is tried again
    when a later entry is applied, after ``RETRY_SECONDS``; a failed snapshot by the ``Snapshotter`` itself.

    Args:
        sealing: the keys, and how far a rotation had come.
        storage: the opened log.
        log_state: tells the commit index.
        snapshotter: takes the snapshot that makes the old key superfluous.
        lane: the log's.
        clock: time.
        random_bytes: where keys come from.
    """

    def __init__(
        self,
        sealing: Sealing,
        storage: Storage,
        log_state: RaftLog,
        snapshotter: Snapshotter,
        lane: Lane,
        clock: Clock,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._keys = sealing.keys
        self._wal = storage.wal
        self._log_state = log_state
        self._snapshotter = snapshotter
        self._lane = lane
        self._clock = clock
        self._random_bytes = random_bytes
        self._covering = snapshotter.needed = sealing.covering
        self._wanted = sealing.wanted
        #: Applied index at the last failure, and when to try again.
        self._tried = 0
        self._retry_at = 0.0

    def request(self) -> None:
        """Note that the key file's flag was set."""
        self._wanted = True

    def is_due(self, applied: int) -> bool:
        """Tell whether ``step`` has something to do."""
        if applied <= self._tried or not self._snapshotter.is_idle:
            return False
        due = self._wanted if self._covering is None else self._snapshotter.index >= self._covering
        return due and self._clock.monotonic() >= self._retry_at

    async def step(self, applied: int) -> None:
        """Begin or finish a rotation. Call it right after a sync, when the log has nothing unwritten.

        Raises:
            WriteFailedError: the log cannot go on; the node must stop.
        """
        try:
            if self._covering is None:
                await self._begin()
            else:
                await self._finish()
        except StateDirError as error:
            self._tried, self._retry_at = applied, self._clock.monotonic() + RETRY_SECONDS
            log.error("cannot store the data keys; trying again later", error=error)

    async def _begin(self) -> None:
        new_key = self._random_bytes(KEY_BYTES)

        def begin() -> tuple[KeyHeaders, int | None]:
            headers = self._keys.update_headers(lambda old: begun(old, new_key))
            if headers.pending_data_key is None:
                return headers, None
            return headers, self._wal.switch(cipher_for(headers), self._log_state.getRaftCommitIndex())

        headers, last = await self._lane.run(begin)
        self._wanted = headers.needs_rotation
        if last is None:
            return
        await self._snapshotter.use(cipher_for(headers))
        # A snapshot that covers the same entries as the one before is none to the consensus library.
        self._covering = self._snapshotter.needed = max(last, self._snapshotter.index + 1)
        log.info("a rotation of the data key has begun", covering=self._covering)

    async def _finish(self) -> None:
        try:
            await self._lane.run(self._wal.drop_before_switch)
            await self._snapshotter.drop_older()
        except WriteFailedError as error:
            raise StateDirError(f"what the old data key has sealed is still there: {error}") from error
        headers = await self._lane.run(lambda: self._keys.update_headers(finished))
        self._covering = self._snapshotter.needed = None
        self._wanted = headers.needs_rotation
        log.info("the rotation of the data key is finished")
