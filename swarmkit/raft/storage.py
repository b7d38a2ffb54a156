"""Opening and founding the raft directory: log and snapshots that fit together, or a clear refusal."""

from dataclasses import dataclass
from pathlib import Path

from swarmkit.api import messages as api
from swarmkit.ca.cipher import RecordCipher
from swarmkit.log import get_logger
from swarmkit.raft.entries import FIRST_COMMAND, membership_command
from swarmkit.raft.errors import ForeignStateError, SnapshotGapError, write_failure
from swarmkit.raft.files import FileSystem
from swarmkit.raft.log_pb2 import MembershipChange
from swarmkit.raft.records import Entry, Replace
from swarmkit.raft.scan import LogState
from swarmkit.raft.snapshots import Image, SnapshotStore
from swarmkit.raft.wal import Identity, WriteAheadLog, open_log

log = get_logger(__name__)

#: Below the state directory (contract/security.md, 5).
LOG_FOLDER = Path("raft") / "wal-v3-encrypted"
SNAPSHOT_FOLDER = Path("raft") / "snap-v3-encrypted"

#: Index of the founder's own member record.
FOUNDING_INDEX = 2


@dataclass
class Storage:
    """An opened raft directory."""

    wal: WriteAheadLog
    state: LogState
    snapshots: SnapshotStore
    image: Image | None


def open_storage(
    files: FileSystem, state_dir: Path, cipher: RecordCipher, node_id: str, segment_bytes: int
) -> Storage | None:
    """Read log and newest snapshot below ``state_dir``; None if there is neither. Blocks.

    Raises:
        StorageError: they cannot be trusted, do not fit together, or belong to another node. Nothing was
            changed, except that a torn tail of a sound log may have been cut off.
    """
    snapshots = SnapshotStore(files, state_dir / SNAPSHOT_FOLDER, cipher)
    image = snapshots.load_newest()
    folder = state_dir / LOG_FOLDER
    opened = open_log(files, folder, cipher, segment_bytes)
    if opened is None:
        if image is None:
            return None
        raise SnapshotGapError(
            f"a snapshot up to entry {image.index} is there, but the raft log is missing", folder
        )
    wal, state = opened
    try:
        if wal.identity.node_id != node_id:
            raise ForeignStateError(
                f"the raft log belongs to node {wal.identity.node_id}, this is node {node_id}", folder
            )
        _reconcile(wal, state, image, folder)
    except BaseException:
        wal.close()
        raise
    return Storage(wal, state, snapshots, image)


def missing_replacement(state: LogState, image: Image | None, folder: Path) -> Replace | None:
    """Check that the log continues the snapshot; return the record that an interrupted installation lacks.

    After a rotation of the data key the log may begin right behind the snapshot: the entries in memory then
    begin with the snapshot's own two, as the consensus library needs them.

    Raises:
        SnapshotGapError: it does not.
    """
    first = state.next_index - len(state.entries)
    if image is None:
        if first > 1:
            raise SnapshotGapError(f"the raft log begins at entry {first}, but there is no snapshot", folder)
        return None
    if first == image.index + 1:
        state.entries[:0] = (image.previous, image.last)
        first = image.previous.index
    if first > image.index:
        raise SnapshotGapError(
            f"the raft log begins at entry {first}, but the newest snapshot ends at {image.index}", folder
        )
    at_end = state.entries[image.index - first] if image.index < state.next_index else None
    if at_end is None or at_end.term != image.term:
        # A snapshot from the leader is made durable before the log is replaced: that last step is missing.
        return Replace((image.previous, image.last))
    return None


def _reconcile(wal: WriteAheadLog, state: LogState, image: Image | None, folder: Path) -> None:
    """Check that the log continues the snapshot; finish an installation that was interrupted."""
    replacement = missing_replacement(state, image, folder)
    if image is None:
        return
    if replacement is not None:
        log.warning(
            "the raft log ends before the snapshot or differs from it; replaced", snapshot=image.index
        )
        wal.append([replacement], image.index)
        state.take(replacement)
    state.commit = max(state.commit, image.index)


def erase_storage(files: FileSystem, state_dir: Path) -> None:
    """Delete log and snapshots below ``state_dir``. Blocks; may be repeated.

    The oldest segment goes first: what an interrupted call leaves is refused at start, never taken for a log.

    Raises:
        WriteFailedError: something is left.
    """
    for folder in (state_dir / SNAPSHOT_FOLDER, state_dir / LOG_FOLDER):
        names = files.names(folder)
        try:
            for name in names:
                files.remove(folder / name)
            if names:
                files.sync_folder(folder)
        except OSError as error:
            raise write_failure(error, "the raft directory", folder) from error


def found_storage(
    files: FileSystem,
    state_dir: Path,
    cipher: RecordCipher,
    identity: Identity,
    addr: str,
    segment_bytes: int,
) -> Storage:
    """Found a new group with this node as its only member. Blocks.

    The log begins with the library's own first entry and, committed with it, the founder's member record.

    Raises:
        WriteFailedError: nothing was founded.
    """
    member = api.RaftMember(raft_id=identity.raft_id, node_id=identity.node_id, addr=addr)
    change = MembershipChange(kind=MembershipChange.ADD, member=member)
    entries = [Entry(FIRST_COMMAND, 1, 0), Entry(membership_command(change), FOUNDING_INDEX, 0)]
    wal = WriteAheadLog.create(
        files, state_dir / LOG_FOLDER, cipher, identity, entries, FOUNDING_INDEX, segment_bytes
    )
    state = LogState(next_index=FOUNDING_INDEX + 1, commit=FOUNDING_INDEX, entries=entries)
    return Storage(wal, state, SnapshotStore(files, state_dir / SNAPSHOT_FOLDER, cipher), None)


def join_storage(
    files: FileSystem, state_dir: Path, cipher: RecordCipher, identity: Identity, segment_bytes: int
) -> Storage:
    """Begin the log of a member that an existing group has just added. Blocks.

    It holds the library's own first entry alone; everything else comes from the leader.

    Raises:
        WriteFailedError: nothing was begun.
    """
    entries = [Entry(FIRST_COMMAND, 1, 0)]
    folder = state_dir / LOG_FOLDER
    wal = WriteAheadLog.create(files, folder, cipher, identity, entries, 1, segment_bytes)
    state = LogState(next_index=2, commit=1, entries=entries)
    return Storage(wal, state, SnapshotStore(files, state_dir / SNAPSHOT_FOLDER, cipher), None)
