"""contract/pysyncobj-hazards.md, 8: snapshot files."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmkit.ca.cipher import InvalidKeyError, RecordCipher
from swarmkit.raft import snapshots
from swarmkit.raft.errors import DiskFullError, SnapshotDamagedError, WrongKeyError
from swarmkit.raft.records import BadFrameError, Entry, Kind, frame
from swarmkit.raft.snapshots import CHUNK_BYTES, Image, SnapshotStore
from swarmkit.raft.wal import Identity
from tests.fakes.disk import FakeDisk

FOLDER = Path("/state/raft/snap-v3-encrypted")
CIPHER = RecordCipher(bytes(range(32)))
IDENTITY = Identity(0xABC, "node-1")


def image(index: int, payload: bytes = b"the tables", term: int = 1) -> Image:
    return Image(Entry(b"before", index - 1, term), Entry(b"last", index, term), payload)


SMALL = b"".join(snapshots.encode(image(7), IDENTITY, CIPHER))


def store(disk: FakeDisk, cipher: RecordCipher = CIPHER) -> SnapshotStore:
    return SnapshotStore(disk, FOLDER, cipher)


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES * 2 + 1])
def test_a_snapshot_comes_back_as_it_was(size: int) -> None:
    disk = FakeDisk()
    store(disk).save(image(7, b"x" * size), IDENTITY)

    assert store(disk).load_newest() == image(7, b"x" * size)


def test_the_newest_is_the_one_with_the_highest_index() -> None:
    disk = FakeDisk()
    for index, term in ((300, 2), (9, 9), (40, 3)):
        store(disk).save(image(index, term=term), IDENTITY)

    loaded = store(disk).load_newest()
    assert loaded is not None
    assert loaded.index == 300


def test_no_snapshot_is_none() -> None:
    assert store(FakeDisk()).load_newest() is None


def test_the_payload_is_encrypted_on_disk() -> None:
    assert b"the tables" not in SMALL


def test_pruning_keeps_the_newest_and_what_was_asked_for() -> None:
    disk = FakeDisk()
    for index in (10, 20, 30, 40):
        store(disk).save(image(index), IDENTITY)

    assert store(disk).prune(keep_old=1) == 30
    assert len(disk.paths(".snap")) == 2
    assert store(disk).prune(keep_old=0) == 40
    assert len(disk.paths(".snap")) == 1


def test_an_unreadable_newest_is_an_error_even_if_an_older_one_is_sound() -> None:
    disk = FakeDisk()
    store(disk).save(image(10), IDENTITY)
    store(disk).save(image(20), IDENTITY)
    path = disk.paths(".snap")[-1]
    disk.overwrite(path, disk.read(path)[:-1])

    with pytest.raises(SnapshotDamagedError, match="cut off") as caught:
        store(disk).load_newest()
    assert caught.value.path == path


def test_a_wrong_key_is_refused() -> None:
    disk = FakeDisk()
    store(disk).save(image(10), IDENTITY)
    with pytest.raises(WrongKeyError):
        store(disk, RecordCipher(bytes(32))).load_newest()


def test_a_full_disk_leaves_the_older_snapshot_and_no_leftover() -> None:
    disk = FakeDisk()
    store(disk).save(image(10), IDENTITY)
    disk.space = 50
    with pytest.raises(DiskFullError, match="snapshot"):
        store(disk).save(image(20), IDENTITY)

    assert store(disk).load_newest() == image(10)
    assert len(disk.paths("")) == 1


@given(st.integers(0, len(SMALL) - 1), st.integers(1, 255))
def test_a_flipped_byte_is_noticed_wherever_it_is(position: int, flip: int) -> None:
    damaged = bytearray(SMALL)
    damaged[position] ^= flip
    with pytest.raises((BadFrameError, InvalidKeyError)):
        snapshots.decode(bytes(damaged), CIPHER)


@given(st.integers(0, len(SMALL) - 1))
def test_a_cut_is_noticed_wherever_it_is(size: int) -> None:
    with pytest.raises(ValueError, match=r"cut off|missing|not a snapshot"):
        snapshots.decode(SMALL[:size], CIPHER)


def test_frames_that_are_missing_doubled_or_foreign_are_noticed() -> None:
    pieces = list(snapshots.encode(image(7, b"x" * 3), IDENTITY, CIPHER))
    for without in range(1, len(pieces)):
        with pytest.raises(ValueError, match="missing"):
            snapshots.decode(b"".join(pieces[:without] + pieces[without + 1 :]), CIPHER)
    with pytest.raises(ValueError, match="something follows"):
        snapshots.decode(SMALL + pieces[-1], CIPHER)
    with pytest.raises(ValueError, match="record kind 2"):
        snapshots.decode(pieces[0] + frame(Kind.BATCH, b""), CIPHER)
    other = list(snapshots.encode(image(7, b"y" * 3), IDENTITY, CIPHER))
    with pytest.raises(ValueError, match="digest"):
        snapshots.decode(b"".join([*pieces[:3], other[3], pieces[4]]), CIPHER)
    moved = list(snapshots.encode(image(8, b"x" * 3), IDENTITY, CIPHER))
    with pytest.raises(ValueError, match="do not agree"):
        snapshots.decode(b"".join([pieces[0], *moved[1:]]), CIPHER)
