"""contract/pysyncobj-hazards.md, 7: the list protocol of the library, and what waits for the next sync."""

from typing import Any

import pytest

from swarmkit.raft.log import RaftLog
from swarmkit.raft.records import Entry, Replace, Term, Truncate
from swarmkit.raft.scan import LogState


class FakeWal:
    def __init__(self) -> None:
        self.appended: list[tuple[list[Any], int]] = []
        self.dropped: list[int] = []
        self.trimmed = False
        self.closed = False

    def append(self, batch: list[Any], commit: int) -> None:
        self.appended.append((batch, commit))

    def drop_before(self, index: int) -> None:
        self.dropped.append(index)

    def trim(self) -> None:
        self.trimmed = True

    def close(self) -> None:
        self.closed = True


def filled(last: int = 10) -> tuple[RaftLog, FakeWal]:
    wal = FakeWal()
    log = RaftLog(wal, LogState())  # type: ignore[arg-type]
    for index in range(1, last + 1):
        log.add(b"%d" % index, index, 1)
    pending = log.take_pending()
    assert pending is not None
    return log, wal


def indexes(entries: Any) -> list[int]:
    return [entry[1] for entry in entries]


def test_it_is_true_even_when_empty() -> None:
    assert RaftLog(FakeWal(), LogState())  # type: ignore[arg-type]


def test_offsets_negative_offsets_and_slices() -> None:
    log, _ = filled()
    assert len(log) == 10
    assert log[0] == (b"1", 1, 1)
    assert log[-1][1] == 10
    assert indexes(log[2:4]) == [3, 4]
    assert indexes(log[7:]) == [8, 9, 10]
    assert indexes(log[99:]) == []
    assert indexes(log[-2:]) == [9, 10]


def test_an_open_slice_is_a_view_that_answers_like_a_list() -> None:
    log, _ = filled()
    tail = log[4:]
    assert not isinstance(tail, list)
    assert len(tail) == 6
    assert (tail[0][1], tail[-1][1]) == (5, 10)
    assert indexes(tail[1:3]) == [6, 7]
    assert indexes(tail[:2]) == [5, 6]
    with pytest.raises(IndexError):
        tail[6]
    with pytest.raises(IndexError):
        tail[-7]


def test_changes_wait_in_their_order_and_are_written_with_the_commit_index() -> None:
    log, wal = filled()
    log.setCurrentTerm(2, "abc")
    log.deleteEntriesFrom(8)
    log.add(b"new", 9, 2)
    log.setRaftCommitIndex(7)
    pending = log.take_pending()
    assert pending is not None
    log.write(pending)

    assert wal.appended == [([Term(2, "abc"), Truncate(9), Entry(b"new", 9, 2)], 7)]
    assert log.take_pending() is None
    assert (log.getCurrentTerm(), log.getVotedForNodeId(), log.last_index) == (2, "abc", 9)


def test_the_commit_index_alone_is_no_reason_to_write() -> None:
    log, _ = filled()
    log.setRaftCommitIndex(10)
    log.setCurrentTerm(0, None)
    assert log.take_pending() is None


def test_the_commit_index_is_clamped_to_the_log() -> None:
    log, _ = filled()
    log.setRaftCommitIndex(50)
    assert log.getRaftCommitIndex() == 10


def test_clear_and_two_adds_are_one_record() -> None:
    log, _ = filled()
    log.clear()
    log.add(b"p", 99, 3)
    with pytest.raises(RuntimeError):
        log.take_pending()
    log.add(b"l", 100, 3)
    log.add(b"next", 101, 3)
    pending = log.take_pending()

    assert pending is not None
    replaced = Replace((Entry(b"p", 99, 3), Entry(b"l", 100, 3)))
    assert pending.records == [replaced, Entry(b"next", 101, 3)]
    assert indexes(log[:]) == [99, 100, 101]


def test_an_entry_that_does_not_follow_is_refused() -> None:
    log, _ = filled()
    with pytest.raises(ValueError, match="entry 12 appended behind entry 10"):
        log.add(b"", 12, 1)


def test_compaction_keeps_entries_for_slow_followers() -> None:
    log, wal = filled(100)
    log.keep_entries = 30
    log.deleteEntriesTo(20)
    assert log.first_index == 1
    log.deleteEntriesTo(80)
    pending = log.take_pending()
    assert pending is not None
    log.write(pending)

    assert log.first_index == 51
    assert wal.dropped == [51]
    assert wal.appended == []


def test_compaction_leaves_on_disk_what_an_older_snapshot_needs() -> None:
    log, wal = filled(100)
    log.keep_entries, log.disk_floor = 0, 40
    log.deleteEntriesTo(80)
    pending = log.take_pending()
    assert pending is not None
    log.write(pending)
    assert log.first_index == 81
    assert wal.dropped == [40]


def test_entries_between_two_indexes() -> None:
    log, _ = filled(100)
    log.keep_entries = 0
    log.deleteEntriesTo(50)
    assert indexes(log.between(60, 63)) == [61, 62, 63]
    assert indexes(log.between(0, 52)) == [51, 52]
    assert log.between(100, 100) == []


def test_closing_writes_the_commit_index_and_abandoning_writes_nothing() -> None:
    log, wal = filled()
    log.setRaftCommitIndex(10)
    log.close()
    assert wal.appended == [([], 10)]
    assert wal.closed

    log, wal = filled()
    log.add(b"unsynced", 11, 1)
    log.abandon()
    assert wal.appended == []
    assert wal.closed
