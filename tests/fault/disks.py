"""What managers have on their disks, read without them and without changing anything."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from swarmd.rafttool.folder import newest_snapshot, open_folder
from swarmkit.clock import SystemClock
from swarmkit.raft.errors import MembershipError
from swarmkit.raft.files import OsFiles
from swarmkit.raft.records import Entry
from swarmkit.raft.replica import Replica
from swarmkit.raft.scan import LogState, replay, scan_log, segment_names
from swarmkit.raft.snapshots import Image
from swarmkit.raft.storage import LOG_FOLDER
from swarmkit.store.codec import decode_snapshot
from swarmkit.store.store import Store


@dataclass(frozen=True)
class Disk:
    """Log and newest snapshot of one manager.

    Attributes:
        term: current term.
        commit: highest entry that is known to be committed.
        entries: by index; the oldest may be covered by the snapshot.
        image: the snapshot, or None.
    """

    term: int
    commit: int
    entries: dict[int, Entry]
    image: Image | None

    @property
    def last(self) -> int:
        """The newest entry."""
        return max(self.entries, default=0 if self.image is None else self.image.index)

    def store(self, upto: int) -> Store:
        """Return the objects after entry ``upto``."""
        store = Store(SystemClock())
        replica = Replica(store)
        covered = 0
        if self.image is not None:
            assert self.image.index <= upto
            replica.restore(self.image)
            covered = self.image.index
        for index in range(covered + 1, upto + 1):
            try:
                replica.apply(index, self.entries[index].data)
            except MembershipError:
                continue  # it was refused on all members alike
        return store


def read_disk(state_dir: Path) -> Disk:
    """Read a manager's log and snapshot; the manager may run, its newest records are missing then."""
    folder = open_folder(state_dir, b"")
    state: LogState | None = None
    for file in scan_log(folder.files, folder.log):
        state = state or LogState.begin(file.segment.header)
        replay(file, state, folder.cipher)
    assert state is not None
    entries = {entry.index: entry for entry in state.entries}
    return Disk(state.term, state.clamped_commit, entries, newest_snapshot(folder))


def newest_segment(state_dir: Path) -> Path:
    """Return the file that a manager's log goes on in."""
    return state_dir / LOG_FOLDER / segment_names(OsFiles(), state_dir / LOG_FOLDER)[-1]


def check_equal(disks: Iterable[Disk], reach: int) -> Store:
    """Check that managers have the same log as far as all have it, and the same objects then; return them.

    All must have it as far as entry ``reach``. Beyond that entries of the managers' own, about nodes that
    come and go, may be on their way at any time.
    """
    disks = list(disks)
    upto = min(disk.last for disk in disks)
    assert upto >= reach, f"one has {upto} entries of {reach}"
    shared = set.intersection(*(set(disk.entries) for disk in disks))
    assert shared, "the logs have no entry in common"
    for index in shared:
        assert len({disk.entries[index] for disk in disks}) == 1, f"entry {index} differs"
    stores = [disk.store(upto) for disk in disks]
    first, *others = (decode_snapshot(store.snapshot()()) for store in stores)
    assert all(other == first for other in others), f"objects differ after entry {upto}"
    return stores[0]
