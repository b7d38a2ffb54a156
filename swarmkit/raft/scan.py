"""Reading the write-ahead log: segments from the disk, and what their records add up to.

Nothing here changes anything on the disk. ``wal.py`` writes.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from swarmkit.ca.cipher import InvalidKeyError, RecordCipher
from swarmkit.raft import records
from swarmkit.raft.errors import LogDamagedError, WrongKeyError
from swarmkit.raft.files import Readable
from swarmkit.raft.log_pb2 import SegmentHeader
from swarmkit.raft.records import Entry, Frame, Kind, Record, Replace, Term, Truncate

SUFFIX = ".wal"

#: How often a segment is read that changes while it is read and makes no sense.
_READ_ATTEMPTS = 4


@dataclass
class LogState:
    """What the records of a log add up to.

    Attributes:
        entries: consecutive, the oldest first.
        next_index: index of the entry that comes next.
        term: current term, never below that of the last entry.
        vote: raft id voted for in ``term``, or empty.
        commit: highest commit index recorded; ``clamped_commit`` is the one to use.
    """

    next_index: int = 1
    term: int = 0
    vote: str = ""
    commit: int = 0
    entries: list[Entry] = field(default_factory=list)

    @property
    def clamped_commit(self) -> int:
        """The commit index, never beyond the last entry: the tail behind it may be lost (H20)."""
        return min(self.commit, self.next_index - 1)

    @classmethod
    def begin(cls, header: SegmentHeader) -> "LogState":
        """Return what the header of the oldest segment establishes."""
        return cls(header.next_index, header.term, header.vote, header.commit)

    def take(self, record: Record) -> None:
        """Apply one record.

        Raises:
            ValueError: it does not follow from those before it.
        """
        if isinstance(record, Entry):
            if record.index != self.next_index:
                raise ValueError(f"entry {record.index} follows entry {self.next_index - 1}")
            self.entries.append(record)
            self.next_index += 1
            self._raise_term(record.term)
        elif isinstance(record, Truncate):
            if record.index > self.next_index:
                raise ValueError(f"truncation from {record.index} follows entry {self.next_index - 1}")
            # It may go back behind the first entry here: the segment that held the entries was deleted.
            first = self.next_index - len(self.entries)
            del self.entries[max(record.index - first, 0) :]
            self.next_index = record.index
        elif isinstance(record, Term):
            if record.term < self.term:
                raise ValueError(f"term {record.term} follows term {self.term}")
            self.term, self.vote = record.term, record.vote
        else:
            self.entries = list(record.entries)
            self.next_index = record.entries[-1].index + 1
            self._raise_term(record.entries[-1].term)

    def _raise_term(self, term: int) -> None:
        if term > self.term:
            self.term, self.vote = term, ""


@dataclass(frozen=True)
class ScannedSegment:
    """A segment as it lies on the disk; all its checksums match.

    Attributes:
        path: the file.
        size: its length in bytes; more than ``segment.end`` if its tail is torn, or reserved.
        segment: its records, still sealed.
    """

    path: Path
    size: int
    segment: records.Segment


def scan_log(files: Readable, folder: Path) -> Iterator[ScannedSegment]:
    """Read the segments in ``folder`` one by one, and check that they follow each other. Changes nothing.

    Raises:
        LogDamagedError: a segment is missing or damaged.
        OSError: a file cannot be read.
    """
    names = segment_names(files, folder)
    before: ScannedSegment | None = None
    for name in names:
        before = scan_segment(files, folder / name, name == names[-1], before)
        yield before


def segment_names(files: Readable, folder: Path) -> list[str]:
    """Return the names of the segments in ``folder``, the oldest first."""
    return [name for name in files.names(folder) if name.endswith(SUFFIX) and not name.startswith(".")]


def scan_segment(files: Readable, path: Path, is_last: bool, before: ScannedSegment | None) -> ScannedSegment:
    """Read one segment and check that it follows ``before``. Changes nothing.

    Args:
        files: the disk.
        path: the segment.
        is_last: it is the newest one: its tail may be torn.
        before: the segment before it; None: the oldest one, or one that cannot be read.

    Raises:
        LogDamagedError: it is damaged, or one before it is missing.
        OSError: it cannot be read.
    """
    segment, size = _read_segment(files, path, is_last)
    if before is not None:
        old, new, batches = before.segment.header, segment.header, before.segment.batches
        next_batch = batches[-1].number + 1 if batches else old.next_batch
        if new.sequence != old.sequence + 1 or new.next_batch != next_batch:
            raise LogDamagedError(f"raft log is damaged (segment {old.sequence + 1} is missing)", path)
        if (new.raft_id, new.node_id) != (old.raft_id, old.node_id):
            raise LogDamagedError("raft log is damaged (segment of another node)", path)
    return ScannedSegment(path, size, segment)


def _read_segment(files: Readable, path: Path, is_last: bool) -> tuple[records.Segment, int]:
    """Read one segment; return its size as well. What is bad there may just be being written: look again."""
    data, attempts = files.read(path), _READ_ATTEMPTS if is_last else 1
    while True:
        try:
            return records.read_segment(data, is_last), len(data)
        except records.BadFrameError as error:
            attempts -= 1
            again = files.read(path) if attempts else data
            if again == data:
                text = f"raft log is damaged ({error.reason})"
                raise LogDamagedError(text, path, error.offset) from error
            data = again


def open_record(path: Path, found: Frame, cipher: RecordCipher) -> Record:
    """Decrypt and parse one record of a segment.

    Raises:
        LogDamagedError: it is no record of a log.
        WrongKeyError: no key of ``cipher`` opens it.
    """
    try:
        return _open_record(found, cipher)
    except InvalidKeyError as error:
        raise WrongKeyError("no known data key decrypts the raft log", path, found.offset) from error
    except (ValueError, struct.error) as error:
        raise LogDamagedError(f"raft log is damaged ({error})", path, found.offset) from error


def follow(state: LogState, record: Record, path: Path, offset: int) -> None:
    """Apply a record to ``state``.

    Raises:
        LogDamagedError: it does not follow from those before it.
    """
    try:
        state.take(record)
    except ValueError as error:
        raise LogDamagedError(f"raft log is damaged ({error})", path, offset) from error


def replay(file: ScannedSegment, state: LogState, cipher: RecordCipher) -> int:
    """Apply a segment's records to ``state``; return the highest index in it.

    Raises:
        LogDamagedError, WrongKeyError: as ``open_record``, or a record does not follow from those before it.
    """
    max_index = 0
    # Not the highest ever: a group that was forced anew may have taken back what a lost entry promised.
    state.commit = file.segment.header.commit
    for batch in file.segment.batches:
        for found in batch.frames:
            record = open_record(file.path, found, cipher)
            follow(state, record, file.path, found.offset)
            max_index = max(max_index, records.highest_index((record,)))
        state.commit = max(state.commit, batch.commit)
    return max_index


def _open_record(found: Frame, cipher: RecordCipher) -> Record:
    if found.kind == Kind.ENTRY:
        index, term, sealed = records.split_entry(found.body)
        return Entry(cipher.open(sealed), index, term)
    if found.kind == Kind.REPLACE:
        entries = []
        for inner in records.read_frames(found.body):
            index, term, sealed = records.split_entry(inner.body)
            entries.append(Entry(cipher.open(sealed), index, term))
        if not entries:
            raise ValueError("empty replacement of the log")
        return Replace(tuple(entries))
    if found.kind == Kind.TRUNCATE:
        return records.parse_truncate(found.body)
    if found.kind == Kind.TERM:
        return records.parse_term(found.body)
    raise ValueError(f"record kind {found.kind} in a log")
