"""contract/pysyncobj-hazards.md, 7: the log on disk."""

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmkit.ca.cipher import RecordCipher
from swarmkit.raft.errors import DiskFullError, LogDamagedError, WriteFailedError, WrongKeyError
from swarmkit.raft.records import Entry, Record, Replace, Term, Truncate
from swarmkit.raft.scan import LogState, scan_log
from swarmkit.raft.wal import Identity, WriteAheadLog, open_log
from tests.fakes.disk import FakeDisk, PowerCut

FOLDER = Path("/state/raft/wal-v3-encrypted")
CIPHER = RecordCipher(bytes(range(32)))
IDENTITY = Identity(0xABC, "node-1")
FIRST: list[Record] = [Entry(b"\x01", 1, 0)]


def create(disk: FakeDisk, segment_bytes: int = 1 << 20) -> WriteAheadLog:
    return WriteAheadLog.create(disk, FOLDER, CIPHER, IDENTITY, FIRST, 1, segment_bytes)


def load(disk: FakeDisk, cipher: RecordCipher = CIPHER) -> LogState:
    opened = open_log(disk, FOLDER, cipher, 1 << 20)
    assert opened is not None
    wal, state = opened
    assert wal.identity == IDENTITY
    wal.close()
    return state


def entries(first: int, last: int, term: int = 1) -> list[Record]:
    return [Entry(f"entry {index}".encode() * 20, index, term) for index in range(first, last + 1)]


def test_an_empty_folder_holds_no_log() -> None:
    assert open_log(FakeDisk(), FOLDER, CIPHER, 4096) is None


def test_everything_written_is_read_back() -> None:
    disk = FakeDisk()
    wal = create(disk)
    wal.append([Term(3, "abc"), *entries(2, 5, 3)], 1)
    wal.append([Truncate(4), *entries(4, 4, 3)], 3)

    state = load(disk)

    assert [entry.index for entry in state.entries] == [1, 2, 3, 4]
    assert state.entries[1].data == b"entry 2" * 20
    assert (state.term, state.vote, state.clamped_commit) == (3, "abc", 3)


def test_one_append_is_one_write_and_one_sync() -> None:
    disk = FakeDisk()
    wal = create(disk)
    disk.log.clear()

    wal.append(entries(2, 500), 1)

    assert disk.log == ["reserve", "write", "sync"]


def test_hundreds_of_batches_go_into_room_that_is_reserved_once() -> None:
    disk = FakeDisk()
    wal = create(disk)
    disk.log.clear()
    for index in range(2, 502):
        wal.append(entries(index, index), 1)
    assert 1 <= disk.log.count("reserve") <= 2
    assert len(load(disk).entries) == 501


def test_a_log_goes_on_in_the_room_that_its_former_writer_had_reserved() -> None:
    disk = FakeDisk()
    create(disk).append(entries(2, 3), 1)
    before, calls = disk.read(disk.paths(".wal")[0]), disk.calls

    opened = open_log(disk, FOLDER, CIPHER, 1 << 20)
    assert opened is not None
    assert (disk.read(disk.paths(".wal")[0]), disk.calls) == (before, calls)
    opened[0].append(entries(4, 4), 1)

    assert [e.index for e in load(disk).entries] == [1, 2, 3, 4]
    assert len(disk.read(disk.paths(".wal")[0])) >= len(before)


def test_what_was_reserved_is_given_back_where_the_log_goes_on_elsewhere_or_ends() -> None:
    disk = FakeDisk()
    wal = create(disk)
    wal.append(entries(2, 3), 1)
    wal.append(entries(4, 5), 1, new_segment=True)
    wal.append(entries(6, 7), 1)
    wal.trim()
    assert [disk.read(path) for path in disk.paths(".wal")] == [
        disk.written(path) for path in disk.paths(".wal")
    ]
    assert len(load(disk).entries) == 7


def test_what_makes_no_sense_while_it_is_being_written_is_read_again() -> None:
    disk = FakeDisk()
    create(disk).append(entries(2, 3), 1)
    (path,) = disk.paths(".wal")
    whole = disk.read(path)
    half = disk.written(path)[:-40].ljust(len(whole), b"\0")

    class Written:
        """What a reader sees while the last record is being copied into the file."""

        def __init__(self) -> None:
            self.seen = [half, half[:-1], whole]

        def names(self, folder: Path) -> list[str]:
            return disk.names(folder)

        def read(self, path: Path) -> bytes:
            return self.seen.pop(0)

    (file,) = scan_log(Written(), FOLDER)
    assert [len(batch.frames) for batch in file.segment.batches] == [1, 2]
    disk.overwrite(path, half)
    with pytest.raises(LogDamagedError, match="does not match"):
        list(scan_log(disk, FOLDER))


def test_a_damaged_segment_that_keeps_growing_is_not_read_for_ever() -> None:
    disk = FakeDisk()
    create(disk).append(entries(2, 3), 1)
    (path,) = disk.paths(".wal")
    damaged = bytearray(disk.written(path))
    damaged[len(damaged) // 2] ^= 1

    class Growing:
        """A damaged log that a manager goes on writing."""

        reads = 0

        def names(self, folder: Path) -> list[str]:
            return disk.names(folder)

        def read(self, path: Path) -> bytes:
            self.reads += 1
            return bytes(damaged) + b"x" * self.reads

    growing = Growing()
    with pytest.raises(LogDamagedError):
        list(scan_log(growing, FOLDER))
    assert 1 < growing.reads < 10


def test_entries_are_encrypted_on_disk() -> None:
    disk = FakeDisk()
    create(disk).append([Entry(b"the join token", 2, 1)], 1)

    assert b"join token" not in disk.read(disk.paths(".wal")[0])


def test_the_commit_index_never_exceeds_the_last_entry() -> None:
    disk = FakeDisk()
    create(disk).append(entries(2, 3), 500)

    assert load(disk).clamped_commit == 3


def test_a_vote_belongs_to_its_term_only() -> None:
    disk = FakeDisk()
    create(disk).append([Term(1, "abc"), *entries(2, 2, term=2)], 1)

    state = load(disk)
    assert (state.term, state.vote) == (2, "")


def test_a_replaced_log_is_one_record() -> None:
    disk = FakeDisk()
    wal = create(disk)
    wal.append(entries(2, 9), 1)
    wal.append([Replace((Entry(b"p", 99, 4), Entry(b"l", 100, 5)))], 100)

    state = load(disk)
    assert [(e.index, e.term) for e in state.entries] == [(99, 4), (100, 5)]
    assert (state.next_index, state.term, state.clamped_commit) == (101, 5, 100)


def test_segments_continue_each_other() -> None:
    disk = FakeDisk()
    wal = create(disk, segment_bytes=1000)
    for index in range(2, 60):
        wal.append([*entries(index, index), Term(index, "abc")], index - 1)

    assert len(disk.paths(".wal")) > 5
    state = load(disk)
    assert [e.index for e in state.entries] == list(range(1, 60))
    assert (state.term, state.clamped_commit) == (59, 58)


def test_whole_segments_below_an_index_are_deleted_and_the_rest_still_loads() -> None:
    disk = FakeDisk()
    wal = create(disk, segment_bytes=1000)
    for index in range(2, 60):
        wal.append([Term(index, "abc"), *entries(index, index, term=index)], index - 1)
    before = len(disk.paths(".wal"))

    wal.drop_before(40)

    state = load(disk)
    assert len(disk.paths(".wal")) < before
    assert 30 < state.entries[0].index <= 40
    assert (state.entries[-1].index, state.term, state.vote) == (59, 59, "abc")


def test_the_segment_being_written_is_never_deleted() -> None:
    disk = FakeDisk()
    wal = create(disk)
    wal.drop_before(1000)

    assert len(disk.paths(".wal")) == 1


def test_a_torn_tail_is_cut_off_and_the_log_goes_on_behind_it() -> None:
    disk = FakeDisk()
    wal = create(disk)
    wal.append(entries(2, 3), 1)
    path = disk.paths(".wal")[0]
    disk.overwrite(path, disk.written(path)[:-5])

    opened = open_log(disk, FOLDER, CIPHER, 1 << 20)
    assert opened is not None
    assert [e.index for e in opened[1].entries] == [1, 2]
    opened[0].append(entries(3, 4), 2)

    assert [e.index for e in load(disk).entries] == [1, 2, 3, 4]


def test_damage_names_file_and_offset_and_changes_nothing() -> None:
    disk = FakeDisk()
    wal = create(disk)
    wal.append(entries(2, 9), 1)
    path = disk.paths(".wal")[0]
    damaged = bytearray(disk.read(path))
    damaged[400] ^= 1
    disk.overwrite(path, bytes(damaged))
    disk.log.clear()

    with pytest.raises(LogDamagedError, match=r"damaged.*wal at byte \d+") as caught:
        load(disk)
    assert caught.value.path == path
    assert caught.value.offset is not None
    assert disk.read(path) == damaged
    assert disk.log == []


def test_a_missing_segment_is_damage() -> None:
    disk = FakeDisk()
    wal = create(disk, segment_bytes=500)
    for index in range(2, 20):
        wal.append(entries(index, index), 1)
    disk.delete(disk.paths(".wal")[1])

    with pytest.raises(LogDamagedError, match="segment 2 is missing"):
        load(disk)


def test_entries_that_do_not_follow_each_other_are_damage() -> None:
    disk = FakeDisk()
    create(disk).append(entries(3, 3), 1)

    with pytest.raises(LogDamagedError, match="entry 3 follows entry 1"):
        load(disk)


def test_a_wrong_key_is_refused_and_never_taken_for_an_empty_log() -> None:
    disk = FakeDisk()
    create(disk)
    before = disk.read(disk.paths(".wal")[0])

    with pytest.raises(WrongKeyError, match="no known data key"):
        load(disk, RecordCipher(bytes(32)))
    assert disk.read(disk.paths(".wal")[0]) == before


def test_a_key_rotated_in_the_middle_needs_both() -> None:
    disk = FakeDisk()
    new_key = bytes(reversed(range(32)))
    wal = create(disk)
    wal.append(entries(2, 3), 1)
    assert wal.switch(RecordCipher(new_key), 1) == 3
    wal.append(entries(4, 5), 3)

    both = RecordCipher(new_key, bytes(range(32)))
    assert load(disk, both).entries == [*FIRST, *entries(2, 5)]
    for alone in (CIPHER, RecordCipher(new_key)):
        with pytest.raises(WrongKeyError):
            load(disk, alone)


def test_after_the_old_segments_are_dropped_the_new_key_alone_opens_the_log() -> None:
    disk = FakeDisk()
    new = RecordCipher(bytes(reversed(range(32))))
    wal = create(disk)
    wal.append([*entries(2, 3), Term(7, "vote")], 3)
    wal.switch(new, 3)
    wal.drop_before_switch()

    state = load(disk, new)
    assert (state.entries, state.next_index, state.term, state.vote, state.commit) == ([], 4, 7, "vote", 3)
    wal.append(entries(4, 5), 3)
    wal.drop_before_switch()
    assert load(disk, new).entries == entries(4, 5)


def test_a_truncation_may_go_back_behind_the_segments_that_are_left() -> None:
    disk = FakeDisk()
    wal = create(disk)
    wal.append(entries(2, 6), 2)
    wal.switch(CIPHER, 2)
    wal.append([Truncate(4), *entries(4, 9, 3)], 9)
    wal.drop_before(7)

    assert len(disk.paths(".wal")) == 1
    assert load(disk).entries == entries(4, 9, 3)


def test_a_full_disk_says_so_and_the_log_stays_readable() -> None:
    disk = FakeDisk()
    wal = create(disk)
    disk.space = 600  # it takes no reservation, but a first batch
    wal.append(entries(2, 3), 1)

    with pytest.raises(DiskFullError, match="no space left"):
        wal.append(entries(4, 9), 1)
    assert [e.index for e in load(disk).entries] == [1, 2, 3]


def test_a_failed_sync_is_an_error_and_not_retried() -> None:
    disk = FakeDisk()
    wal = create(disk)
    disk.sync_error = OSError(5, "Input/output error")
    disk.log.clear()

    with pytest.raises(WriteFailedError, match="Input/output"):
        wal.append(entries(2, 3), 1)
    assert disk.log.count("sync") == 1


def test_founding_is_all_or_nothing() -> None:
    for cut in range(1, 12):
        disk = FakeDisk()
        disk.cut_at = cut
        try:
            create(disk)
        except PowerCut:
            pass
        for seed in range(8):
            survived = disk.after_power_cut(random.Random(seed))
            opened = open_log(survived, FOLDER, CIPHER, 4096)
            if opened is not None:
                assert [e.index for e in opened[1].entries] == [1]


def records() -> st.SearchStrategy[list[list[int]]]:
    """Batches; each number is an operation: how many entries to append, or (negative) to cut."""
    return st.lists(st.lists(st.integers(-3, 4), min_size=1, max_size=5), min_size=1, max_size=12)


@given(records(), st.integers(1, 60), st.integers(0, 2**32))
def test_after_a_power_cut_the_log_is_a_state_between_the_last_sync_and_the_cut(
    plan: list[list[int]], cut: int, seed: int
) -> None:
    disk = FakeDisk()
    model = LogState()
    model.take(Entry(b"\x01", 1, 0))
    states = [list(model.entries)]
    synced = 0
    try:
        wal = create(disk, segment_bytes=600)
        disk.cut_at = disk.calls + cut
        for number, operations in enumerate(plan, start=2):
            batch = []
            for operation in operations:
                index = model.next_index
                if operation <= 0:
                    record: Record = Truncate(max(index + operation, 2))
                else:
                    record = Entry(b"x" * 90 * operation, index, number)
                model.take(record)
                batch.append(record)
                states.append(list(model.entries))
            wal.append(batch, 1)
            synced = len(states) - 1
    except PowerCut:
        pass

    state = load(disk.after_power_cut(random.Random(seed)))

    assert state.entries in states[synced:]


def test_a_batch_in_a_new_segment_survives_a_power_cut_whole_or_not_at_all() -> None:
    seen = set()
    for cut in range(1, 8):
        for seed in range(8):
            disk = FakeDisk()
            wal = create(disk)
            wal.append(entries(2, 9), 1)
            disk.cut_at = disk.calls + cut
            try:
                wal.append([Truncate(5), *entries(5, 30, 2)], 30, new_segment=True)
            except PowerCut:
                pass
            state = load(disk.after_power_cut(random.Random(seed)))
            found = (state.next_index - 1, state.clamped_commit)
            assert found in ((9, 1), (30, 30))
            seen.add(found)
    assert len(seen) == 2


def test_a_new_segment_ends_what_earlier_ones_promised_beyond_the_log() -> None:
    disk = FakeDisk()
    create(disk).append(entries(2, 3), 500)
    opened = open_log(disk, FOLDER, CIPHER, 4096)
    assert opened is not None
    opened[0].append(entries(4, 4, 2), 3, new_segment=True)
    opened[0].append(entries(5, 5, 2), 4)
    assert load(disk).clamped_commit == 4


def test_scanning_leaves_a_torn_tail_and_leftovers_alone() -> None:
    disk = FakeDisk()
    create(disk).append(entries(2, 3), 1)
    (path,) = disk.paths(".wal")
    disk.overwrite(path, disk.written(path)[:-5])
    disk.create(FOLDER / ".tmp-x.wal")
    calls = disk.calls
    (file,) = scan_log(disk, FOLDER)
    assert file.segment.torn == "record cut off"
    assert file.segment.end < file.size
    assert disk.calls == calls
