"""contract/raft-store-manager.md, 7: proposals that wait."""

import asyncio

import pytest

from swarmkit.raft.errors import MembershipError, ProposalQueueFullError
from swarmkit.raft.proposals import Proposals
from swarmkit.store.proposer import LeadershipLostError


async def test_indexes_follow_the_order_of_the_calls() -> None:
    proposals = Proposals(10, 1000, lambda: 0.0)
    proposals.next_index = 7
    first, second = proposals.add(b"a"), proposals.add(b"b")
    assert proposals.take(10, 1000) == [b"a", b"b"]
    proposals.applied(7)
    proposals.applied(8)
    assert [await first, await second] == [7, 8]
    assert len(proposals) == 0


async def test_a_foreign_entry_resolves_nothing() -> None:
    proposals = Proposals(10, 1000, lambda: 0.0)
    proposals.next_index = 7
    future = proposals.add(b"a")
    proposals.applied(6)
    assert not future.done()


async def test_an_entry_may_be_applied_and_refused() -> None:
    proposals = Proposals(10, 1000, lambda: 0.0)
    proposals.next_index = 7
    future = proposals.add(b"a")
    proposals.applied(7, MembershipError("no"))
    with pytest.raises(MembershipError):
        await future


async def test_a_pass_takes_at_least_one_and_no_more_than_fits() -> None:
    proposals = Proposals(10, 1000, lambda: 0.0)
    for size in (300, 50, 60, 10):
        proposals.add(bytes(size))
    assert [len(c) for c in proposals.take(10, 100)] == [300]
    assert [len(c) for c in proposals.take(10, 110)] == [50, 60]
    assert [len(c) for c in proposals.take(0, 100)] == []
    assert proposals.queued


async def test_the_limits_count_what_is_not_decided() -> None:
    proposals = Proposals(3, 100, lambda: 0.0)
    proposals.next_index = 1
    proposals.add(bytes(150))  # one alone always fits
    with pytest.raises(ProposalQueueFullError):
        proposals.add(b"x")
    proposals.take(9, 999)
    with pytest.raises(ProposalQueueFullError):
        proposals.add(b"x")  # appended is not applied
    proposals.applied(1)
    for _ in range(3):
        proposals.add(b"x")
    with pytest.raises(ProposalQueueFullError, match="3"):
        proposals.add(b"x")


async def test_all_fail_together_in_order_and_nothing_stays_queued() -> None:
    proposals = Proposals(10, 100, lambda: 0.0)
    proposals.next_index = 1
    futures = [proposals.add(b"x") for _ in range(3)]
    order: list[int] = []
    for future in futures:
        future.add_done_callback(lambda future: order.append(futures.index(future)))
    futures[1].cancel()
    proposals.fail_all(LeadershipLostError)
    await asyncio.sleep(0)

    assert isinstance(futures[0].exception(), LeadershipLostError)
    assert isinstance(futures[2].exception(), LeadershipLostError)
    assert sorted(order) == [0, 1, 2]
    assert order.index(0) < order.index(2)
    assert not proposals.queued
    assert proposals.take(9, 99) == []
    proposals.applied(1)  # the entry is committed after all: nobody waits any more


async def test_the_oldest_is_known_and_the_first_that_waits_is_told_of() -> None:
    now, told = [5.0], [0]
    proposals = Proposals(10, 1000, lambda: now[0])
    proposals.next_index = 7

    def tell() -> None:
        told[0] += 1

    proposals.on_first = tell
    seen = [proposals.oldest]
    proposals.add(b"a")
    now[0] = 6.0
    proposals.add(b"b")
    seen.append(proposals.oldest)
    assert told == [1]
    for index in (7, 8):
        proposals.applied(index)
        seen.append(proposals.oldest)
    assert seen == [None, (7, 5.0), (8, 6.0), None]
    proposals.add(b"c")
    assert told == [2]
