"""contract/pysyncobj-hazards.md, 7: framing, torn tails, damage."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmkit.raft import records
from swarmkit.raft.log_pb2 import SegmentHeader
from swarmkit.raft.records import BadFrameError, Kind

HEADER = records.frame(
    Kind.SEGMENT, SegmentHeader(format=1, sequence=1, next_batch=1, next_index=1).SerializeToString()
)


def batch(number: int, *bodies: bytes) -> bytes:
    entries = [records.entry_frame(number * 10 + i, 1, body) for i, body in enumerate(bodies)]
    return records.batch_frame(number, 0) + b"".join(entries)


def bodies_of(segment: records.Segment) -> list[bytes]:
    return [records.split_entry(f.body)[2] for b in segment.batches for f in b.frames]


WHOLE = HEADER + batch(1, b"a" * 700, b"b") + batch(2, b"c" * 1500) + batch(3, b"d" * 40, b"e" * 700)


def test_reads_back_what_was_written() -> None:
    segment = records.read_segment(WHOLE, is_last=True)

    assert bodies_of(segment) == [b"a" * 700, b"b", b"c" * 1500, b"d" * 40, b"e" * 700]
    assert [b.number for b in segment.batches] == [1, 2, 3]
    assert segment.end == len(WHOLE)
    assert segment.torn is None


@given(st.integers(min_value=len(HEADER), max_value=len(WHOLE) - 1))
def test_a_cut_in_the_last_segment_leaves_all_records_before_it(size: int) -> None:
    segment = records.read_segment(WHOLE[:size], is_last=True)

    kept = bodies_of(segment)
    assert kept == bodies_of(records.read_segment(WHOLE, is_last=True))[: len(kept)]
    assert segment.end <= size
    assert records.read_segment(WHOLE[: segment.end], is_last=True).torn is None


@given(st.integers(min_value=0, max_value=len(WHOLE) - 1), st.integers(min_value=1, max_value=255))
def test_a_flipped_byte_is_damage_wherever_it_is(position: int, flip: int) -> None:
    damaged = bytearray(WHOLE)
    damaged[position] ^= flip

    with pytest.raises(BadFrameError):
        records.read_segment(bytes(damaged), is_last=True)


def test_a_cut_in_an_earlier_segment_is_damage() -> None:
    with pytest.raises(BadFrameError, match="cut off"):
        records.read_segment(WHOLE[:-1], is_last=False)


def test_sectors_of_the_last_batch_that_never_reached_the_disk_are_a_torn_tail() -> None:
    start = len(HEADER) + len(batch(1, b"a" * 700, b"b") + batch(2, b"c" * 1500))
    hole = bytearray(WHOLE)
    sector = start + 512 - start % 512
    hole[sector : sector + 512] = bytes(len(hole[sector : sector + 512]))

    segment = records.read_segment(bytes(hole), is_last=True)

    assert segment.torn is not None
    assert bodies_of(segment)[:3] == [b"a" * 700, b"b", b"c" * 1500]


def test_zeros_in_a_batch_that_another_follows_are_damage() -> None:
    hole = bytearray(WHOLE)
    hole[1024:1536] = bytes(512)

    with pytest.raises(BadFrameError):
        records.read_segment(bytes(hole), is_last=True)


@pytest.mark.parametrize("is_last", [True, False])
@pytest.mark.parametrize("size", [1, 20, 3000])
def test_a_tail_of_zeros_is_room_that_was_reserved(is_last: bool, size: int) -> None:
    segment = records.read_segment(WHOLE + bytes(size), is_last)

    assert segment.torn is None
    assert segment.end == len(WHOLE)


@given(st.integers(min_value=0, max_value=len(WHOLE) - 1), st.integers(min_value=1, max_value=255))
def test_a_flipped_byte_is_damage_also_before_reserved_room(position: int, flip: int) -> None:
    damaged = bytearray(WHOLE + bytes(3000))
    damaged[position] ^= flip

    with pytest.raises(BadFrameError):
        records.read_segment(bytes(damaged), is_last=True)


def test_something_behind_zeros_is_damage_in_an_earlier_segment() -> None:
    with pytest.raises(BadFrameError):
        records.read_segment(WHOLE + bytes(600) + b"1", is_last=False)


@given(st.lists(st.booleans(), min_size=8, max_size=8))
def test_a_batch_of_which_some_sectors_reached_reserved_room_is_there_or_torn(kept: list[bool]) -> None:
    start = len(WHOLE) - len(batch(3, b"d" * 40, b"e" * 700))
    disk = bytearray(WHOLE[:start].ljust(4096, b"\0"))
    for sector, keep in zip(range(start - start % 512, 4096, 512), kept, strict=False):
        if keep:
            disk[sector : sector + 512] = WHOLE.ljust(4096, b"\0")[sector : sector + 512]

    segment = records.read_segment(bytes(disk), is_last=True)

    assert len(segment.batches) in (2, 3)
    assert (
        bodies_of(segment) == bodies_of(records.read_segment(WHOLE, is_last=True))[: len(bodies_of(segment))]
    )
    assert (segment.torn is None) == (not any(disk[segment.end :]))


def test_a_missing_batch_is_damage() -> None:
    with pytest.raises(BadFrameError, match="batch 2 is missing"):
        records.read_segment(HEADER + batch(1, b"a") + batch(3, b"b"), is_last=True)


def test_a_record_outside_a_batch_is_damage() -> None:
    with pytest.raises(BadFrameError, match="outside"):
        records.read_segment(HEADER + records.entry_frame(1, 1, b""), is_last=True)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "cut off"),
        (records.batch_frame(1, 0), "not a log segment"),
        (records.frame(Kind.SEGMENT, SegmentHeader(format=9).SerializeToString()), "format 9"),
        (records.frame(Kind.SEGMENT, b"\xff\xff"), "not a log segment"),
        (b"garbage that is no log at all, but long enough", "checksum"),
    ],
)
def test_a_file_that_is_no_segment_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(BadFrameError, match=reason):
        records.read_segment(data, is_last=True)
