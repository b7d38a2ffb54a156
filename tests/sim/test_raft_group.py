"""Three raft nodes on a healthy or briefly broken network: what one member's design must already carry."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from swarmkit.raft import SnapshotPolicy
from swarmkit.store.proposer import LeadershipLostError
from tests.fakes.swarm import Group


@pytest.fixture
async def group() -> AsyncIterator[Group]:
    group = Group(random.Random(3), SnapshotPolicy(interval=50, keep_entries=10))
    await group.grow(3)
    yield group
    await group.close()


async def test_a_group_grows_without_an_election_and_applies_the_same_everywhere(group: Group) -> None:
    leader = group.leader()
    term = leader.status().term
    await leader.write(*(b"%d" % i for i in range(30)))
    await asyncio.sleep(30)  # no heartbeat is missed

    assert leader.status().term == term
    assert {len(node.members()) for node in group.nodes.values()} == {3}
    for node in group.nodes.values():
        assert node.machine.values == leader.machine.values
        assert node.leader_id == leader.raft_id
        assert node.may_propose == (node is leader)


async def test_no_reply_or_vote_leaves_before_the_sync_it_speaks_of(group: Group) -> None:
    leader = group.leader()
    follower = next(node for node in group.nodes.values() if node is not leader)
    for lane in (follower._lanes.log,):
        lane.latency = 0.2  # type: ignore[attr-defined]
    third = next(node for node in group.nodes.values() if node not in (leader, follower))
    group.network.isolate(third.raft_id)
    start = asyncio.get_running_loop().time()
    await leader.propose(b"needs the slow follower")
    assert asyncio.get_running_loop().time() - start >= 0.2


async def test_a_disk_that_is_slow_for_seconds_costs_nobody_an_election(group: Group) -> None:
    leader = group.leader()
    term = leader.status().term
    slow = next(node for node in group.nodes.values() if node is not leader)
    slow._lanes.log.latency = 5.0  # type: ignore[attr-defined]
    for number in range(20):
        await leader.propose(b"%d" % number)
        await asyncio.sleep(1)

    assert leader.status().term == term  # what waited was delivered before the deadline was looked at
    slow._lanes.log.latency = 0.0  # type: ignore[attr-defined]
    await asyncio.sleep(6)
    await group.settled()
    assert slow.machine.values == leader.machine.values


async def test_a_dead_leader_is_replaced_and_nothing_is_lost(group: Group) -> None:
    leader = group.leader()
    await leader.write(*(b"%d" % i for i in range(20)))
    number = next(number for number, node in group.nodes.items() if node is leader)
    start = asyncio.get_running_loop().time()
    await group.stop(number)
    successor = await group.elected()
    await successor.propose(b"after")

    assert asyncio.get_running_loop().time() - start < 3.0
    assert successor.machine.values == [*(b"%d" % i for i in range(20)), b"after"]
    returned = await group.restart(number)
    await group.settled()
    assert returned.machine.values == successor.machine.values
    assert not returned.may_propose


async def test_a_leader_without_a_majority_steps_down_and_fails_what_waits_together(group: Group) -> None:
    leader = group.leader()
    group.network.isolate(leader.raft_id)
    futures = [leader.propose(b"%d" % i) for i in range(3)]
    start = asyncio.get_running_loop().time()
    await asyncio.wait(futures)

    assert asyncio.get_running_loop().time() - start < 1.5
    assert [type(future.exception()) for future in futures] == [LeadershipLostError] * 3
    assert leader.machine.calls[-2:] == ["leading False", "leadership_lost"]
    with pytest.raises(LeadershipLostError):
        leader.propose(b"refused at once")
    successor = await group.elected()
    await successor.propose(b"meanwhile")
    group.network.isolate()
    await asyncio.sleep(3)
    await group.settled()
    assert leader.machine.values == [b"meanwhile"]


async def test_a_member_down_across_a_snapshot_gets_it_and_the_tail(group: Group) -> None:
    leader = group.leader()
    number = next(number for number, node in group.nodes.items() if node is not leader)
    await group.stop(number)
    for start in range(0, 300, 10):
        await leader.write(*(b"%d" % i for i in range(start, start + 10)))
    assert leader.status().first_index > 200

    returned = await group.restart(number)
    await asyncio.sleep(3)
    await group.settled()
    assert "restore" in returned.machine.calls
    assert returned.machine.values == leader.machine.values
    assert returned.status().snapshot_index > 200
    assert len(returned.members()) == 3

    await group.stop(number)
    again = await group.restart(number)
    await group.settled()
    assert again.machine.values == leader.machine.values


async def test_one_of_two_unacknowledged_ends_of_the_log_wins(group: Group) -> None:
    leader = group.leader()
    others = [node for node in group.nodes.values() if node is not leader]
    group.network.isolate(leader.raft_id)
    leader.propose(b"never confirmed").add_done_callback(lambda future: future.exception())
    successor = await group.elected()
    await successor.write(*(b"%d" % i for i in range(5)))
    group.network.isolate()
    await asyncio.sleep(3)
    await group.settled()
    assert [node.machine.values for node in others] == [leader.machine.values] * 2
    assert b"never confirmed" not in leader.machine.values


async def test_a_deposed_leader_far_behind_gives_up_its_own_end_of_the_log_and_catches_up(
    group: Group,
) -> None:
    """What it lacks travels in several messages: those behind the first must not hide where it differs."""
    leader = group.leader()
    group.network.notice_seconds = 2.0  # its successor sends into the void at first
    group.network.isolate(leader.raft_id)
    for number in range(3):
        leader.propose(b"never confirmed %d" % number).add_done_callback(lambda future: future.exception())
    successor = await group.elected()
    await successor.write(*(b"%d" % i + bytes(10_000) for i in range(40)))
    group.network.isolate()
    await asyncio.sleep(3)
    assert leader.machine.values == successor.machine.values
    assert len(leader.machine.values) == 40
