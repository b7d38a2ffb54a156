"""The queue to one peer (contract/raft-store-manager.md, 8: per-peer send queue)."""

from swarmkit.net.server import MAX_RECEIVE_BYTES
from swarmkit.raft.outbox import BATCH_BYTES, CONGESTED_BYTES, MAX_BYTES, MAX_MESSAGES, Outbox


def filled(count: int, size: int) -> Outbox:
    outbox = Outbox()
    assert all(outbox.put(bytes(size)) for _ in range(count))
    return outbox


def test_messages_leave_in_order_and_share_a_write() -> None:
    outbox = Outbox()
    for number in range(10):
        outbox.put(bytes([number]))
    assert outbox.take() == [bytes([number]) for number in range(10)]
    assert outbox.take() == []


def test_a_write_is_bounded_but_for_a_single_longer_message() -> None:
    outbox = filled(3, BATCH_BYTES // 2)
    assert [len(outbox.take()) for _ in range(3)] == [2, 1, 0]
    outbox = filled(2, BATCH_BYTES * 2)
    assert [len(outbox.take()) for _ in range(3)] == [1, 1, 0]
    assert BATCH_BYTES * 2 < MAX_RECEIVE_BYTES


def test_no_more_than_the_contracts_4096_messages_wait_and_then_all_are_dropped() -> None:
    outbox = filled(MAX_MESSAGES, 1)
    assert not outbox.put(b"x")
    assert outbox.take() == []
    assert outbox.put(b"x")


def test_no_more_than_so_many_bytes_wait_those_being_written_included() -> None:
    outbox = filled(MAX_BYTES >> 20, 1 << 20)
    outbox.take()
    assert not outbox.put(b"x")
    outbox.written()
    assert outbox.put(b"x")


def test_congestion_counts_what_is_being_written_until_it_is() -> None:
    outbox = filled(1, CONGESTED_BYTES)
    seen = [outbox.is_congested]
    for step in (lambda: outbox.put(b"x"), outbox.take, outbox.written):
        step()
        seen.append(outbox.is_congested)
    assert seen == [False, True, True, False]
    assert CONGESTED_BYTES * 4 <= MAX_BYTES
