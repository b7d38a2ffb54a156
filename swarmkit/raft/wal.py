"""Writing the log on disk: segments of batches, one sync a batch (contract/pysyncobj-hazards.md, 7).

``scan.py`` reads it.

Methods of ``WriteAheadLog`` block and belong to one thread at a time: the starting one, then the log thread.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from swarmkit.ca.cipher import RecordCipher
from swarmkit.log import get_logger
from swarmkit.raft import records
from swarmkit.raft.errors import write_failure
from swarmkit.raft.files import AppendFile, FileSystem, remove_leftovers, write_new
from swarmkit.raft.log_pb2 import SegmentHeader
from swarmkit.raft.records import Entry, Kind, Record, Term, Truncate
from swarmkit.raft.scan import SUFFIX, LogState, replay, scan_log

log = get_logger(__name__)

#: How far ahead a segment is made longer than what it holds: one sync in some hundreds then records a length.
_RESERVED_BYTES = 256 << 10


@dataclass(frozen=True)
class Identity:
    """Who writes a log: the raft id, and the node id of the certificate."""

    raft_id: int
    node_id: str


@dataclass
class _SegmentFile:
    sequence: int
    path: Path
    #: Highest index of an entry in it; the segment is needed while that entry is.
    max_index: int = 0


@dataclass
class _Tail:
    """What the header of the next segment has to repeat."""

    next_index: int
    term: int
    vote: str
    commit: int
    next_batch: int

    def take(self, record: Record) -> None:
        if isinstance(record, Entry):
            self.next_index = record.index + 1
        elif isinstance(record, Truncate):
            self.next_index = record.index
        elif isinstance(record, Term):
            self.term, self.vote = record.term, record.vote
        else:
            self.next_index = record.entries[-1].index + 1


class WriteAheadLog:
    """Appends batches of records and deletes segments that are no longer needed."""

    def __init__(
        self,
        files: FileSystem,
        folder: Path,
        cipher: RecordCipher,
        identity: Identity,
        segments: list[_SegmentFile],
        tail: _Tail,
        current: AppendFile,
        current_bytes: int,
        segment_bytes: int,
    ) -> None:
        self.identity = identity
        self.cipher = cipher
        self._files = files
        self._folder = folder
        self._segments = segments
        self._tail = tail
        self._current = current
        self._current_bytes = current_bytes
        self._reserved_bytes = current_bytes
        self._is_closed = False
        self._segment_bytes = segment_bytes
        #: First segment under the present cipher; earlier ones may hold what another key has sealed.
        self._first_sequence = segments[0].sequence

    @classmethod
    def create(
        cls,
        files: FileSystem,
        folder: Path,
        cipher: RecordCipher,
        identity: Identity,
        first: Sequence[Record],
        commit: int,
        segment_bytes: int,
    ) -> "WriteAheadLog":
        """Found a log whose first batch is ``first``; it exists with that batch or not at all.

        Raises:
            WriteFailedError: nothing was founded.
        """
        tail = _Tail(next_index=1, term=0, vote="", commit=0, next_batch=1)
        path = folder / _name(1, 1)
        try:
            files.make_folder(folder)
            remove_leftovers(files, folder)
            header = _header_frame(1, tail, identity)
            body = _batch(cipher, tail, first, commit)
            current = write_new(files, path, [header, body])
        except OSError as error:
            raise write_failure(error, "the raft log", path) from error
        segment = _SegmentFile(1, path, records.highest_index(first))
        size = len(header) + len(body)
        return cls(files, folder, cipher, identity, [segment], tail, current, size, segment_bytes)

    @property
    def path(self) -> Path:
        """The segment being written."""
        return self._segments[-1].path

    def append(self, batch: Sequence[Record], commit: int, new_segment: bool = False) -> None:
        """Write ``batch`` and the commit index and sync, all in one go.

        A power cut may leave the beginning of a batch. With ``new_segment`` it leaves all or nothing: a
        segment gets its name when it is complete.

        Raises:
            WriteFailedError: nothing of it may be acknowledged, and the log must not be used any more.
        """
        try:
            if new_segment or self._current_bytes >= self._segment_bytes:
                self._append_to_new_segment(batch, commit)
            else:
                data = _batch(self.cipher, self._tail, batch, commit)
                self._current_bytes += len(data)
                if self._current_bytes > self._reserved_bytes:
                    self._reserved_bytes = self._current_bytes + _RESERVED_BYTES
                    self._current.reserve(self._reserved_bytes)
                self._current.write(data)
                self._current.sync()
        except OSError as error:
            raise write_failure(error, "the raft log", self.path) from error
        segment = self._segments[-1]
        segment.max_index = max(segment.max_index, records.highest_index(batch))

    def _append_to_new_segment(self, batch: Sequence[Record], commit: int) -> None:
        sequence = self._segments[-1].sequence + 1
        path = self._folder / _name(sequence, self._tail.next_index)
        header = _header_frame(sequence, self._tail, self.identity)
        body = _batch(self.cipher, self._tail, batch, commit)
        current = write_new(self._files, path, [header, body])
        self._current.trim()
        self._current.close()
        self._current, self._current_bytes = current, len(header) + len(body)
        self._reserved_bytes = self._current_bytes
        self._segments.append(_SegmentFile(sequence, path))

    def switch(self, cipher: RecordCipher, commit: int) -> int:
        """Seal all that follows with ``cipher``, in a new segment; return the last index before it.

        Raises:
            WriteFailedError: the log must not be used any more.
        """
        self.cipher = cipher
        try:
            self._append_to_new_segment((), commit)
        except OSError as error:
            raise write_failure(error, "the raft log", self.path) from error
        self._first_sequence = self._segments[-1].sequence
        return self._tail.next_index - 1

    def drop_before_switch(self) -> None:
        """Delete the segments from before ``switch``. A snapshot must cover all their entries.

        Raises:
            WriteFailedError: some segments remain; the log stays usable.
        """
        self._drop_while(lambda oldest: oldest.sequence < self._first_sequence)

    def drop_before(self, index: int) -> None:
        """Delete the oldest segments as far as all their entries are below ``index``.

        Raises:
            WriteFailedError: some segments remain; the log stays usable.
        """
        self._drop_while(lambda oldest: oldest.max_index < index)

    def _drop_while(self, unneeded: Callable[[_SegmentFile], bool]) -> None:
        try:
            while len(self._segments) > 1 and unneeded(self._segments[0]):
                self._files.remove(self._segments[0].path)
                # One by one: should a later removal outlast an earlier one, a segment would seem missing.
                self._files.sync_folder(self._folder)
                del self._segments[0]
        except OSError as error:
            raise write_failure(error, "the raft log's folder", self._segments[0].path) from error

    def trim(self) -> None:
        """Cut off what was reserved for batches to come: nothing more is appended.

        Raises:
            WriteFailedError: it stays; the log is none the worse.
        """
        try:
            self._current.trim()
        except OSError as error:
            raise write_failure(error, "the raft log", self.path) from error

    def close(self) -> None:
        """Close the file. Writes nothing; may be called twice."""
        if not self._is_closed:
            self._is_closed = True
            self._current.close()


def open_log(
    files: FileSystem, folder: Path, cipher: RecordCipher, segment_bytes: int
) -> tuple[WriteAheadLog, LogState] | None:
    """Read the log in ``folder``, cut off a torn tail, and open it for appending. None: there is none.

    What was reserved behind the last batch is written next.

    Raises:
        LogDamagedError: a segment is missing or damaged; nothing was changed.
        WrongKeyError: no key of ``cipher`` opens a record; nothing was changed.
        WriteFailedError: the torn tail could not be cut off.
    """
    state: LogState | None = None
    segments: list[_SegmentFile] = []
    for file in scan_log(files, folder):
        state = state or LogState.begin(file.segment.header)
        max_index = replay(file, state, cipher)
        segments.append(_SegmentFile(file.segment.header.sequence, file.path, max_index))
    if state is None:
        return None
    path, last, header = file.path, file.segment, file.segment.header
    if last.torn is not None:
        log.warning(
            "cut off the torn tail of the raft log",
            file=path,
            offset=last.end,
            bytes=file.size - last.end,
            reason=last.torn,
        )
    try:
        remove_leftovers(files, folder)
        if last.torn is not None:
            files.cut(path, last.end)
        current = files.reopen(path, last.end)
    except OSError as error:
        raise write_failure(error, "the raft log", path) from error
    next_batch = last.batches[-1].number + 1 if last.batches else header.next_batch
    tail = _Tail(state.next_index, state.term, state.vote, state.clamped_commit, next_batch)
    identity = Identity(header.raft_id, header.node_id)
    wal = WriteAheadLog(files, folder, cipher, identity, segments, tail, current, last.end, segment_bytes)
    return wal, state


def _batch(cipher: RecordCipher, tail: _Tail, batch: Sequence[Record], commit: int) -> bytes:
    """Encode a batch, sealing each entry by itself, and move ``tail`` on."""
    tail.commit = max(tail.commit, commit)
    pieces = [records.batch_frame(tail.next_batch, tail.commit)]
    tail.next_batch += 1
    for record in batch:
        pieces.append(record_frame(cipher, record))
        tail.take(record)
    return b"".join(pieces)


def record_frame(cipher: RecordCipher, record: Record) -> bytes:
    """Return the frame of a record, each entry sealed by itself."""
    if isinstance(record, Entry):
        return records.entry_frame(record.index, record.term, cipher.seal(record.data))
    if isinstance(record, Truncate):
        return records.truncate_frame(record)
    if isinstance(record, Term):
        return records.term_frame(record)
    return records.replace_frame(
        [records.entry_frame(e.index, e.term, cipher.seal(e.data)) for e in record.entries]
    )


def _header_frame(sequence: int, tail: _Tail, identity: Identity) -> bytes:
    header = SegmentHeader(
        format=records.FORMAT,
        sequence=sequence,
        next_batch=tail.next_batch,
        next_index=tail.next_index,
        term=tail.term,
        vote=tail.vote,
        commit=tail.commit,
        raft_id=identity.raft_id,
        node_id=identity.node_id,
    )
    return records.frame(Kind.SEGMENT, header.SerializeToString())


def _name(sequence: int, next_index: int) -> str:
    return f"{sequence:016x}-{next_index:016x}{SUFFIX}"
