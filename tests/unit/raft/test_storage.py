"""contract/pysyncobj-hazards.md, 7 and 8: log and snapshot must fit together."""

from pathlib import Path

import pytest

from swarmkit.ca.cipher import RecordCipher
from swarmkit.raft.errors import ForeignStateError, SnapshotGapError
from swarmkit.raft.records import Entry
from swarmkit.raft.snapshots import Image, SnapshotStore
from swarmkit.raft.storage import (
    LOG_FOLDER,
    SNAPSHOT_FOLDER,
    Storage,
    erase_storage,
    found_storage,
    open_storage,
)
from swarmkit.raft.wal import Identity
from tests.fakes.disk import FakeDisk

STATE = Path("/state")
CIPHER = RecordCipher(bytes(range(32)))
IDENTITY = Identity(0xABC, "node-1")


def founded(disk: FakeDisk, last_index: int = 20, segment_bytes: int = 500) -> None:
    storage = found_storage(disk, STATE, CIPHER, IDENTITY, "10.0.0.1:4242", segment_bytes)
    for index in range(3, last_index + 1):
        storage.wal.append([Entry(b"e" * 100, index, 1)], index - 1)
    storage.wal.close()


def snapshot(disk: FakeDisk, index: int, term: int = 1) -> None:
    image = Image(Entry(b"p", index - 1, term), Entry(b"l", index, term), b"")
    SnapshotStore(disk, STATE / SNAPSHOT_FOLDER, CIPHER).save(image, IDENTITY)


def opened(disk: FakeDisk) -> Storage:
    storage = open_storage(disk, STATE, CIPHER, "node-1", 500)
    assert storage is not None
    return storage


def test_the_folders_are_those_of_the_contract() -> None:
    assert str(LOG_FOLDER) == "raft/wal-v3-encrypted"
    assert str(SNAPSHOT_FOLDER) == "raft/snap-v3-encrypted"


def test_an_empty_directory_is_nothing() -> None:
    assert open_storage(FakeDisk(), STATE, CIPHER, "node-1", 500) is None


def test_a_founded_log_begins_with_a_committed_member_record() -> None:
    disk = FakeDisk()
    founded(disk, last_index=2)
    state = opened(disk).state
    assert [entry.index for entry in state.entries] == [1, 2]
    assert state.clamped_commit == 2


def test_a_snapshot_without_a_log_is_refused() -> None:
    disk = FakeDisk()
    snapshot(disk, 10)
    with pytest.raises(SnapshotGapError, match="raft log is missing"):
        opened(disk)


def test_a_log_that_begins_behind_the_snapshot_is_refused() -> None:
    disk = FakeDisk()
    founded(disk)
    snapshot(disk, 3)
    for path in disk.paths(".wal")[:3]:
        disk.delete(path)
    with pytest.raises(SnapshotGapError, match=r"begins at entry \d+, but the newest snapshot ends at 3"):
        opened(disk)


def test_a_compacted_log_without_its_snapshot_is_refused() -> None:
    disk = FakeDisk()
    founded(disk)
    disk.delete(disk.paths(".wal")[0])
    with pytest.raises(SnapshotGapError, match="there is no snapshot"):
        opened(disk)


def test_another_nodes_directory_is_refused() -> None:
    disk = FakeDisk()
    founded(disk)
    with pytest.raises(ForeignStateError, match="belongs to node node-1"):
        open_storage(disk, STATE, CIPHER, "node-2", 500)


@pytest.mark.parametrize(("index", "term"), [(40, 1), (15, 2)], ids=["log is behind", "log differs"])
def test_an_installation_that_was_interrupted_is_finished_durably(index: int, term: int) -> None:
    disk = FakeDisk()
    founded(disk)
    snapshot(disk, index, term)
    for _ in range(2):
        state = opened(disk).state
        assert [(entry.index, entry.term) for entry in state.entries] == [(index - 1, term), (index, term)]
        assert state.clamped_commit == index


def test_a_log_that_covers_the_snapshot_keeps_its_entries() -> None:
    disk = FakeDisk()
    founded(disk)
    snapshot(disk, 15)
    state = opened(disk).state
    assert state.entries[-1].index == 20
    assert state.clamped_commit == 19


def test_erasing_may_be_interrupted_and_repeated() -> None:
    disk = FakeDisk()
    founded(disk)
    snapshot(disk, 15)
    disk.delete(disk.paths(".snap")[0])
    disk.delete(disk.paths(".wal")[0])
    with pytest.raises(SnapshotGapError):
        opened(disk)  # what is left is no log
    erase_storage(disk, STATE)
    erase_storage(disk, STATE)
    assert disk.paths("") == []
