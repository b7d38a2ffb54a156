"""contract/raft-store-manager.md, 22 and 25, "Force new cluster": the old group is gone, or nearly so."""

import asyncio

import pytest

from swarmkit.raft import SnapshotPolicy
from tests.fakes.raft import TestNode
from tests.sim.raft_machines import Member
from tests.sim.raft_world import World, in_world

OFTEN = SnapshotPolicy(interval=30, keep_entries=5)


async def _forced(world: World, power_cut: bool = True) -> tuple[TestNode, list[Member], dict[bytes, int]]:
    """Lose the leader and a follower, and bring the group back from the other follower.

    Returns the survivor, the lost machines, and what the survivor must have: all it had applied.
    """
    leader = await world.elected()
    await world.write_many(leader, 70)
    await world.settled()
    gone, survivor = world.followers()
    lost = [world.member_of(leader), world.member_of(gone)]
    alone = world.member_of(survivor)
    applied = {data: index for index, data in survivor.machine.entries[:-1]}
    for member in (*lost, alone):
        world.kill(member, power_cut)
    world.part_with(*lost)
    started = asyncio.get_running_loop().time()
    node = await world.start(alone, force_new_cluster=True)
    await world.until(lambda: node.may_propose)
    assert asyncio.get_running_loop().time() - started < 0.1  # a sole member waits for nobody
    return node, lost, applied


@pytest.mark.parametrize("policy", [SnapshotPolicy(), OFTEN], ids=["log", "snapshot"])
@pytest.mark.parametrize("seed", range(1, 5))
def test_one_of_three_goes_on_alone_and_new_members_join(seed: int, policy: SnapshotPolicy) -> None:
    @in_world(seed=seed, policy=policy)
    async def story(world: World) -> None:
        node, _, applied = await _forced(world)
        assert [member.raft_id for member in node.members()] == [node.raft_id]
        assert applied.keys() <= set(node.machine.values)
        await world.write_many(node, 40)
        for number in (1, 2, 3):
            if world.members[number].node is None:
                del world.members[number]
        await world.grow()
        await world.grow()
        await world.settled()
        assert {len(each.members()) for each in world.nodes} == {3}
        world.checker.check_final(world.nodes)

        world.kill(world.member_of(node))  # and it is a group like any other
        await world.settled()

    story()


@in_world()
async def test_the_old_members_are_told_when_they_return_and_change_nothing(world: World) -> None:
    _, lost, _ = await _forced(world)
    await world.grow()
    await world.settled()
    leader = await world.elected()
    term = leader.status().term
    for member in lost:
        await world.start(member)
    await world.until(lambda: not any(member.number in world.members for member in lost), limit=10)
    await world.settled()
    assert [member.disk.paths("") for member in lost] == [[], []]
    assert leader.heard == [True]
    assert leader.status().term == term
    world.checker.check_final(world.nodes)


@in_world()
async def test_an_old_group_that_lived_on_elsewhere_cannot_reach_the_new_one(world: World) -> None:
    """Its terms and its log may be far ahead: nothing of it counts here."""
    _, lost, _ = await _forced(world)
    for _ in range(2):
        await world.grow()
    await world.settled()
    new = [each.raft_id for each in world.nodes]
    leader = await world.elected()
    term = leader.status().term

    old = [await world.start(member) for member in lost]
    ids = [each.raft_id for each in old]
    world.network.cut_links(pair for one in new for other in ids for pair in ((one, other), (other, one)))
    for _ in range(4):  # elections among themselves, and writes
        await world.until(lambda: any(each.may_propose for each in old))
        author = next(each for each in old if each.may_propose)
        await asyncio.gather(*(author.propose(b"old %d %d" % (author.status().term, i)) for i in range(50)))
        await author.group.hand_over()
    assert max(each.status().term for each in old) > term

    world.network.cut_links(())
    await world.until(lambda: not any(member.number in world.members for member in lost), limit=10)
    await world.settled()
    assert leader.heard == [True]
    assert leader.status().term == term
    assert not any(value.startswith(b"old") for each in world.nodes for value in each.machine.values)
    world.checker.check_final(world.nodes)


@in_world()
async def test_one_that_was_told_may_join_the_new_group_as_a_new_member(world: World) -> None:
    node, lost, _ = await _forced(world)
    await world.start(lost[0])
    await world.until(lambda: lost[0].number not in world.members)
    assert node._driver is not None
    removed = node._driver.replica.membership.removed
    assert len(removed) == 2
    again = await world.join(node, lost[0].number)
    await world.settled()
    assert again.raft_id not in removed
    assert len(node.members()) == 2


@in_world()
async def test_what_only_the_survivor_had_takes_effect_though_nobody_decided_it(world: World) -> None:
    leader = await world.elected()
    await world.write_many(leader, 20)
    await world.settled()
    lost = [world.member_of(node) for node in world.followers()]
    world.network.isolate(leader.raft_id)
    writing = asyncio.ensure_future(world.write(leader))
    await asyncio.sleep(0.1)
    alone = world.member_of(leader)
    tail = leader.machine.values
    for member in (alone, *lost):
        world.kill(member)
    assert not await writing
    world.network.isolate()
    world.part_with(*lost)
    node = await world.start(alone, force_new_cluster=True)
    await world.until(lambda: node.may_propose)
    assert node.machine.values[:-1] == tail
    assert node.machine.values[-1] == b"%d" % world.written
    await world.write_many(node, 5)


@in_world()
async def test_forcing_twice_forces_once(world: World) -> None:
    node, _, _ = await _forced(world)
    await world.write_many(node, 5)
    values, last = list(node.machine.values), node.status().last_index
    alone = world.member_of(node)
    world.kill(alone)
    again = await world.start(alone, force_new_cluster=True)
    await world.until(lambda: again.may_propose)
    assert again.machine.values == values
    assert again.status().last_index == last + 1  # the no-op of its term
