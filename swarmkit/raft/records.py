"""The records of the log and of snapshots, and how they lie in a file. Pure: bytes in, bytes out.

A file is a sequence of frames::

    kind u8 "SWL" | length of the body u32 | its CRC-32 u32 | CRC-32 of these 12 bytes u32 | body | 0xA5

All numbers are little-endian. The log consists of segments; each begins with a SEGMENT frame and goes on with
batches: a BATCH frame (number, commit index), then the records of one sync. A batch is written only after the
one before it was synced. That is what tells a torn tail, which a power cut leaves and which nobody relied on,
from damage to records that were acknowledged: see ``read_segment``. Behind the last record zeros may
follow: room for more.
"""

import enum
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple
from zlib import crc32

from google.protobuf.message import DecodeError

from swarmkit.raft.log_pb2 import SegmentHeader

FORMAT = 1

_MARK = b"SWL"
_HEAD = struct.Struct("<4sII")
_U32 = struct.Struct("<I")
_HEAD_BYTES = _HEAD.size + _U32.size
#: A frame begins and ends with a byte that is not zero, so that neither end can be mistaken for a sector that
#: was never written.
_END = b"\xa5"
_SECTOR_BYTES = 512

_BATCH = struct.Struct("<QQ")
_INDEX_TERM = struct.Struct("<QQ")
_U64 = struct.Struct("<Q")


class Kind(enum.IntEnum):
    """The kind of a frame; part of the format, never renumbered."""

    SEGMENT = 1
    BATCH = 2
    ENTRY = 3
    TRUNCATE = 4
    TERM = 5
    REPLACE = 6
    SNAPSHOT = 16
    CHUNK = 17
    TRAILER = 18


_KIND_MARKS = {kind: bytes([kind]) + _MARK for kind in Kind}
_BATCH_MARK = _KIND_MARKS[Kind.BATCH]
_ENTRY_MARK = _KIND_MARKS[Kind.ENTRY]


class Entry(NamedTuple):
    """A log entry in the form the consensus library uses: the command, its index, its term."""

    data: bytes
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls here
    term: int


@dataclass(frozen=True, slots=True)
class Truncate:
    """All entries from ``index`` on are gone."""

    index: int


@dataclass(frozen=True, slots=True)
class Term:
    """The current term, and the raft id voted for in it (text; empty: none)."""

    term: int
    vote: str


@dataclass(frozen=True, slots=True)
class Replace:
    """The whole log is replaced by the last two entries of an installed snapshot."""

    entries: tuple[Entry, ...]


Record = Entry | Truncate | Term | Replace


def highest_index(batch: Iterable[Record]) -> int:
    """Return the highest index of an entry among records; 0 if there is none."""
    highest = 0
    for record in batch:
        if isinstance(record, Entry):
            highest = max(highest, record.index)
        elif isinstance(record, Replace):
            highest = max(highest, record.entries[-1].index)
    return highest


class BadFrameError(ValueError):
    """The bytes at ``offset`` are not a whole frame; ``end`` is where it would end, as far as is known."""

    def __init__(self, reason: str, offset: int, end: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.offset = offset
        self.end = end


class Frame(NamedTuple):
    """A frame that passed its checksums."""

    kind: int
    body: bytes
    offset: int
    end: int


def _frame(mark: bytes, body: bytes) -> bytes:
    head = _HEAD.pack(mark, len(body), crc32(body))
    return b"".join((head, _U32.pack(crc32(head)), body, _END))


def frame(kind: Kind, body: bytes) -> bytes:
    """Wrap ``body`` in a frame."""
    return _frame(_KIND_MARKS[kind], body)


def batch_frame(number: int, commit: int) -> bytes:
    """Return the frame that opens batch ``number``; ``commit`` is the commit index when it was made."""
    return _frame(_BATCH_MARK, _BATCH.pack(number, commit))


def entry_frame(index: int, term: int, sealed: bytes) -> bytes:
    """Return the frame of a log entry whose data is sealed already."""
    return _frame(_ENTRY_MARK, _INDEX_TERM.pack(index, term) + sealed)


def truncate_frame(record: Truncate) -> bytes:
    """Return the frame of a truncation."""
    return frame(Kind.TRUNCATE, _U64.pack(record.index))


def term_frame(record: Term) -> bytes:
    """Return the frame of a term and vote."""
    return frame(Kind.TERM, _U64.pack(record.term) + record.vote.encode())


def replace_frame(entry_frames: list[bytes]) -> bytes:
    """Return the frame of a replaced log: one record, so a power cut leaves the old log or the new one."""
    return frame(Kind.REPLACE, b"".join(entry_frames))


def read_frame(data: bytes, offset: int) -> Frame:
    """Read the frame at ``offset``.

    Raises:
        BadFrameError: there is none, or it is damaged or cut off.
    """
    body_start = offset + _HEAD_BYTES
    if body_start > len(data):
        raise BadFrameError("record cut off", offset, body_start)
    mark, length, body_crc = _HEAD.unpack_from(data, offset)
    if crc32(data[offset : offset + _HEAD.size]) != _U32.unpack_from(data, offset + _HEAD.size)[0]:
        raise BadFrameError("checksum of record head does not match", offset, body_start)
    end = body_start + length + len(_END)
    if end > len(data):
        raise BadFrameError("record cut off", offset, end)
    body = data[body_start : end - len(_END)]
    if mark[1:] != _MARK or crc32(body) != body_crc or data[end - len(_END) : end] != _END:
        raise BadFrameError("checksum of record does not match", offset, end)
    return Frame(mark[0], body, offset, end)


def read_frames(data: bytes) -> Iterator[Frame]:
    """Read all frames of a file that must be whole.

    Raises:
        BadFrameError: as ``read_frame``.
    """
    offset = 0
    while offset < len(data):
        found = read_frame(data, offset)
        yield found
        offset = found.end


def split_entry(body: bytes) -> tuple[int, int, bytes]:
    """Return index, term and sealed data of an ENTRY frame's body.

    Raises:
        ValueError: the body is too short.
    """
    if len(body) < _INDEX_TERM.size:
        raise ValueError("entry record too short")
    index, term = _INDEX_TERM.unpack_from(body)
    return index, term, body[_INDEX_TERM.size :]


def parse_truncate(body: bytes) -> Truncate:
    """Read the body of a TRUNCATE frame; raises ``struct.error``."""
    return Truncate(_U64.unpack(body)[0])


def parse_term(body: bytes) -> Term:
    """Read the body of a TERM frame; raises ``struct.error`` or UnicodeDecodeError."""
    return Term(_U64.unpack_from(body)[0], body[_U64.size :].decode())


@dataclass(frozen=True)
class Batch:
    """One batch as read: its number, the commit index it carries, and its records still sealed."""

    number: int
    commit: int
    frames: list[Frame]


@dataclass(frozen=True)
class Segment:
    """What a segment file holds.

    Attributes:
        header: its first record.
        batches: what follows, in order.
        end: bytes that can be trusted; less than the file's size if its tail is torn, or reserved.
        torn: why the rest cannot be, or None.
    """

    header: SegmentHeader
    batches: list[Batch]
    end: int
    torn: str | None


def read_segment(data: bytes, is_last: bool) -> Segment:
    """Read a segment file, up to the zeros that were reserved and never written.

    Only the last segment may have a torn tail. A bad frame there is taken for one if no later batch follows
    it (otherwise its own batch had been synced) and if it is cut off by the end of the file or covers a
    stretch of zeros up to a sector boundary, which is what data that never reached the disk looks like. A
    flipped bit fits neither and is damage: the record may have been acknowledged.

    Raises:
        BadFrameError: damage.
    """
    first = read_frame(data, 0)
    if first.kind != Kind.SEGMENT:
        raise BadFrameError("not a log segment", 0, first.end)
    try:
        header = SegmentHeader.FromString(first.body)
    except DecodeError as error:
        raise BadFrameError("not a log segment", 0, first.end) from error
    if header.format != FORMAT:
        raise BadFrameError(f"log format {header.format} is not known", 0, first.end)
    batches: list[Batch] = []
    offset = first.end
    next_batch = header.next_batch
    while offset < len(data):
        try:
            found = read_frame(data, offset)
        except BadFrameError as error:
            if data.count(0, offset) == len(data) - offset:
                break
            if is_last and _is_torn(data, error):
                return Segment(header, batches, offset, error.reason)
            raise
        if found.kind == Kind.BATCH:
            number, commit = _BATCH.unpack(found.body)
            if number != next_batch:
                raise BadFrameError(f"batch {next_batch} is missing", offset, found.end)
            batches.append(Batch(number, commit, []))
            next_batch += 1
        elif not batches:
            raise BadFrameError("record outside a batch", offset, found.end)
        else:
            batches[-1].frames.append(found)
        offset = found.end
    return Segment(header, batches, offset, None)


def _is_torn(data: bytes, bad: BadFrameError) -> bool:
    if _later_batch(data, bad.offset):
        return False
    if bad.end > len(data):
        return True
    sector = bad.offset - bad.offset % _SECTOR_BYTES
    while sector < bad.end:
        # What lies before the bad frame in its first sector may have been synced earlier.
        piece = data[max(sector, bad.offset) : sector + _SECTOR_BYTES]
        if not any(piece):
            return True
        sector += _SECTOR_BYTES
    return False


def _later_batch(data: bytes, offset: int) -> bool:
    """Tell whether a whole BATCH frame lies behind ``offset``."""
    found = data.find(_BATCH_MARK, offset + 1)
    while found >= 0:
        try:
            read_frame(data, found)
        except BadFrameError:
            found = data.find(_BATCH_MARK, found + 1)
        else:
            return True
    return False
