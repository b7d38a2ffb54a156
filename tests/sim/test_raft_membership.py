"""contract/pysyncobj-hazards.md, 11 and 13; contract/raft-store-manager.md, 11 and 12: the group changes."""

import asyncio

import pytest

from swarmkit.raft import JoinReply, MembershipError, QuorumRiskError, SnapshotPolicy
from swarmkit.raft.messages import Append, Envelope, PreVoteRequest, RemovedNotice, VoteRequest
from swarmkit.store.proposer import LeadershipLostError
from tests.fakes.network import Quality
from tests.fakes.raft import TestNode
from tests.sim.raft_world import World, in_world

OFTEN = SnapshotPolicy(interval=30, keep_entries=5)


def _ids(node: TestNode) -> list[int]:
    return [member.raft_id for member in node.members()]


# -- Joining ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [SnapshotPolicy(), OFTEN], ids=["log", "snapshot"])
def test_members_join_under_load_without_an_election_and_know_everything(policy: SnapshotPolicy) -> None:
    @in_world(members=1, policy=policy)
    async def story(world: World) -> None:
        leader = await world.elected()
        await world.write_many(leader, 100)
        for _ in range(3):
            world.background(world.client(0.05))
        for count in (2, 3, 4, 5):
            joined = await world.grow()
            assert len(joined.members()) in (0, count)
        await asyncio.sleep(3)
        await world.end_background()
        await world.settled()
        assert leader.heard == [True]
        assert {len(node.members()) for node in world.nodes} == {5}
        world.checker.check_final(world.nodes)

    story()


@in_world(members=1)
async def test_a_second_member_that_starts_late_costs_the_first_no_office(world: World) -> None:
    leader = await world.elected()
    raft_id = await leader.group.add("node-2", "10.0.0.2:4242")
    waiting = asyncio.ensure_future(leader.propose(b"needs both"))
    await asyncio.sleep(5)
    assert not waiting.done()  # two of two decide
    member = world.machine(2)
    member.joined = JoinReply(raft_id, leader.members())
    await world.start(member)
    await waiting
    assert leader.heard == [True]


@in_world(members=1)
async def test_a_second_member_that_never_starts_holds_everything_up_until_it_does(world: World) -> None:
    leader = await world.elected()
    raft_id = await leader.group.add("node-2", "10.0.0.2:4242")
    with pytest.raises(LeadershipLostError):
        await leader.propose(b"needs both")
    await asyncio.sleep(30)
    assert world.leader() is None
    world.kill(world.members[1])  # and a restart of the first does not help
    await world.start(world.members[1])
    await asyncio.sleep(30)
    assert world.leader() is None
    member = world.machine(2)
    member.joined = JoinReply(raft_id, ())
    await world.start(member)
    await world.elected(10)
    await world.settled()


@in_world()
async def test_of_two_joins_at_once_one_waits(world: World) -> None:
    leader = await world.elected()
    first = asyncio.create_task(leader.group.add("node-4", "10.0.0.4:4242"))
    await asyncio.sleep(0)
    with pytest.raises(MembershipError, match="under way"):
        await leader.group.add("node-5", "10.0.0.5:4242")
    await first
    assert await leader.group.add("node-5", "10.0.0.5:4242") not in _ids(world.followers()[0])


@in_world()
async def test_the_next_change_waits_for_the_last_even_if_its_author_is_gone(world: World) -> None:
    leader = await world.elected()
    world.network.quality = Quality(delay=0.2)
    first = asyncio.create_task(leader.group.add("node-4", "10.0.0.4:4242"))
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.sleep(0.01)
    with pytest.raises(MembershipError, match="under way"):
        await leader.group.add("node-5", "10.0.0.5:4242")
    await world.until(lambda: len(leader.members()) == 4)
    await asyncio.sleep(0)
    assert await leader.group.add("node-5", "10.0.0.5:4242")


@in_world()
async def test_a_join_during_an_election_is_refused_or_decided_once(world: World) -> None:
    leader = await world.elected()
    world.network.isolate(leader.raft_id)
    joining = asyncio.create_task(leader.group.add("node-4", "10.0.0.4:4242"))
    with pytest.raises(LeadershipLostError):
        await joining
    successor = await world.until_another_leads(leader)
    raft_id = await successor.group.add("node-4", "10.0.0.4:4242")
    world.network.isolate()
    member = world.machine(4)
    member.joined = JoinReply(raft_id, successor.members())
    await world.start(member)
    await world.settled()
    assert all(len(node.members()) == 4 for node in world.nodes)


@in_world()
async def test_a_node_that_joins_again_keeps_its_raft_id_and_may_have_moved(world: World) -> None:
    leader = await world.elected()
    follower = world.followers()[0]
    known = next(member for member in leader.members() if member.raft_id == follower.raft_id)
    index = leader.next_index()
    assert await leader.group.add(known.node_id, known.addr) == known.raft_id
    assert leader.next_index() == index
    assert await leader.group.add(known.node_id, "10.9.9.9:1") == known.raft_id
    await world.settled()
    for node in world.nodes:
        assert [m.addr for m in node.members() if m.raft_id == known.raft_id] == ["10.9.9.9:1"]
    member = world.member_of(follower)
    world.kill(member)
    again = await world.start(member)
    assert [m.addr for m in again.members() if m.raft_id == known.raft_id] == ["10.9.9.9:1"]


@in_world(policy=OFTEN)
async def test_a_member_down_across_a_compaction_knows_who_joined_meanwhile(world: World) -> None:
    leader = await world.elected()
    member = world.member_of(world.followers()[0])
    world.kill(member)
    await world.grow()
    for _ in range(5):
        await world.write_many(leader, 40)
    node = await world.start(member)
    await world.settled()
    assert node.machine.restores > 0
    assert _ids(node) == _ids(leader)
    assert len(_ids(node)) == 4


@in_world(members=4)
async def test_a_member_that_never_saw_the_new_leader_join_follows_it(world: World) -> None:
    leader = await world.elected()
    away = world.member_of(world.followers()[0])
    world.kill(away)
    newcomer = await world.grow()
    await world.until(lambda: len(newcomer.members()) == 5)
    assert await leader.group.hand_over(newcomer.raft_id) == newcomer.raft_id
    await world.until(lambda: newcomer.may_propose)
    for node in (leader, world.nodes[1]):  # only the newcomer can tell it
        world.network.links[node.raft_id, away.number] = Quality()
    node = await world.start(away)
    world.network.cut_links(
        (other.raft_id, node.raft_id) for other in world.nodes if other not in (node, newcomer)
    )
    await world.until(lambda: len(node.members()) == 5)
    assert node.leader_id == newcomer.raft_id


# -- Leaving ----------------------------------------------------------------------------------------------


@in_world()
async def test_a_removed_member_learns_it_once_erases_its_state_and_harms_nobody(world: World) -> None:
    leader = await world.elected()
    gone, stays = world.followers()
    member = world.member_of(gone)
    told: list[int] = []
    gone._on_removed = lambda: told.append(1)  # it does not leave by itself here
    await leader.group.remove(gone.raft_id)
    await world.until(lambda: bool(told))
    await asyncio.sleep(20)
    assert told == [1]
    assert gone.removed
    assert leader.heard == [True]
    assert stays.status().term == leader.status().term == 1
    world.retire(member)
    await asyncio.sleep(0.1)
    assert member.disk.paths("") == []
    await world.settled()
    assert len(leader.members()) == 2
    with pytest.raises(MembershipError, match="was removed"):
        await leader.group.remove(gone.raft_id)


@in_world()
async def test_a_follower_that_has_seen_a_removal_knows_of_it_after_a_crash(world: World) -> None:
    leader = await world.elected()
    gone, stays = world.followers()
    member = world.member_of(stays)
    await leader.group.remove(gone.raft_id)
    await world.until(lambda: len(stays.members()) == 2)
    await asyncio.sleep(0.05)  # less than a heartbeat: nobody tells it anything more
    for one in list(world.members.values()):
        world.kill(one)
    await world.start(member)
    assert [len(node.members()) for node in world.nodes] == [2]


@in_world()
async def test_a_member_removed_while_it_was_down_is_told_when_it_returns(world: World) -> None:
    leader = await world.elected()
    stays, gone = world.followers()
    member = world.member_of(gone)
    world.kill(member)
    await asyncio.sleep(0.1)
    await leader.group.remove(gone.raft_id)
    await world.start(member)
    await world.until(lambda: member.number not in world.members, limit=10)
    assert leader.heard == [True]
    assert stays.status().term == 1


@in_world()
async def test_a_member_removed_before_it_started_is_told_when_it_does(world: World) -> None:
    """Nobody counts it any more, so nobody sends it anything; and its own log does not tell who to ask."""
    leader = await world.elected()
    raft_id = await leader.group.add("node-4", "10.0.0.4:4242")
    joined = JoinReply(raft_id, leader.members())
    await leader.group.remove(raft_id)
    member = world.machine(4)
    member.joined = joined
    await world.start(member)
    await world.until(lambda: member.number not in world.members, limit=10)
    assert leader.heard == [True]
    assert leader.status().term == 1


@in_world()
async def test_whatever_a_removed_member_says_it_is_told_and_nothing_more(world: World) -> None:
    leader = await world.elected()
    gone = world.followers()[0]
    raft_id = gone.raft_id
    await leader.group.remove(raft_id)
    answers: list[Envelope] = []

    def note(envelope: Envelope) -> None:
        if envelope.target == raft_id and envelope.source == leader.raft_id:
            answers.append(envelope)

    await world.until(lambda: len(world.nodes) == 2)
    world.network.observe = note
    for message in (VoteRequest(99, 9), PreVoteRequest(1, 99, 9), Append(9, 1, 0)):
        world.network.inject(Envelope(raft_id, leader.raft_id, 9, message))
    await asyncio.sleep(0.1)
    assert [type(answer.message) for answer in answers] == [RemovedNotice] * 3
    assert leader.status().term == 1
    assert leader.may_propose


@in_world()
async def test_no_removal_may_cost_the_quorum(world: World) -> None:
    leader = await world.elected()
    alive, dead = world.followers()
    dead_id = dead.raft_id
    world.kill(world.member_of(dead))
    await asyncio.sleep(0.1)
    index = leader.next_index()
    with pytest.raises(QuorumRiskError, match="may result in loss of quorum"):
        await leader.group.remove(alive.raft_id)
    assert leader.next_index() == index
    assert not leader.group.survives_removal(alive.raft_id)
    assert leader.group.survives_removal(dead_id)
    await leader.group.remove(dead_id)
    await world.write_many(leader, 5)
    assert len(leader.members()) == 2


@in_world()
async def test_with_two_of_three_down_nothing_can_be_removed(world: World) -> None:
    leader = await world.elected()
    ids = [node.raft_id for node in world.followers()]
    for node in world.followers():
        world.kill(world.member_of(node))
    await asyncio.sleep(0.05)
    for raft_id in ids:
        with pytest.raises(QuorumRiskError):
            await leader.group.remove(raft_id)


@in_world()
async def test_a_group_shrinks_to_one_and_grows_again(world: World) -> None:
    leader = await world.elected()
    for node in world.followers():
        await leader.group.remove(node.raft_id)
    await world.until(lambda: len(world.nodes) == 1)
    await world.write_many(leader, 10)
    assert leader.heard == [True]
    await world.grow()
    await world.grow()
    await world.settled()
    assert {len(node.members()) for node in world.nodes} == {3}


@in_world()
async def test_a_leader_is_not_removed_by_itself_but_by_its_successor(world: World) -> None:
    leader = await world.elected()
    with pytest.raises(MembershipError, match="transfer the leadership"):
        await leader.group.remove(leader.raft_id)
    await leader.group.hand_over()
    successor = await world.until_another_leads(leader)
    await successor.group.remove(leader.raft_id)
    await world.until(lambda: len(world.nodes) == 2)
    await world.settled()
    assert successor.heard == [True]


# -- Replay -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_split_between_commit_and_append_replays_to_the_same_group() -> None:
    """H21: one member comes, moves, goes; a follower restarts knowing any part of it."""
    for cut in range(1, 40):

        @in_world(seed=cut, members=5)
        async def story(world: World, cut: int = cut) -> None:
            leader = await world.elected()
            victim = world.member_of(world.followers()[0])
            victim.disk.cut_at = victim.disk.calls + cut
            world.background(_kill_in_the_dark(world, victim.number))
            raft_id = await leader.group.add("node-9", "10.0.0.9:4242")
            await world.write_many(leader, 2)
            await leader.group.add("node-9", "10.0.0.10:4242")
            await leader.group.remove(raft_id)
            await world.write_many(leader, 2)
            await asyncio.sleep(0.3)
            world.kill(victim)
            node = await world.start(victim)
            await world.settled()
            assert _ids(node) == _ids(leader)
            assert len(_ids(node)) == 5

        story()


async def _kill_in_the_dark(world: World, number: int) -> None:
    member = world.members[number]
    await member.disk.dark.wait()
    world.kill(member)


@pytest.mark.parametrize("seed", range(1, 6))
def test_the_last_member_needs_nobody_after_a_power_cut_once_the_other_has_erased_its_log(seed: int) -> None:
    @in_world(seed=seed, members=2)
    async def story(world: World) -> None:
        leader = await world.elected()
        (other,) = world.followers()
        gone = world.member_of(other)
        await leader.group.remove(other.raft_id)
        await world.until(lambda: gone.number not in world.members, limit=10)
        alone = world.member_of(leader)
        world.kill(alone)
        again = await world.start(alone)
        await world.until(lambda: again.may_propose, limit=5)
        assert _ids(again) == [again.raft_id]

    story()
