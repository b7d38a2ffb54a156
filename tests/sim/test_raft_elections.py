"""contract/pysyncobj-hazards.md, 13: elections and leadership under faults (H10 to H18, H32, section 10)."""

import asyncio
import dataclasses
from collections.abc import Callable

import pytest

from swarmkit.raft import TransferError
from swarmkit.raft.messages import (
    Envelope,
    PreVote,
    PreVoteRequest,
    Reply,
    TermNotice,
    TimeoutNow,
    Vote,
    VoteRequest,
)
from swarmkit.store.proposer import LeadershipLostError
from tests.fakes.network import Quality
from tests.fakes.raft import TestNode
from tests.sim.raft_world import World, in_world, simulate

#: 100 of the longest election time-outs.
LONG = 200.0


def _terms(world: World) -> set[int]:
    return {node.status().term for node in world.nodes}


def _drop(*kinds: type) -> Callable[[Envelope], list[Envelope]]:
    return lambda envelope: [] if isinstance(envelope.message, kinds) else [envelope]


# -- Who hears badly deposes nobody -----------------------------------------------------------------------


@pytest.mark.parametrize("way", ["isolated", "half open", "deaf", "mute", "deaf to the leader"])
@in_world()
async def test_a_member_that_hears_badly_for_long_moves_no_term_and_deposes_nobody(
    world: World, way: str
) -> None:
    leader = await world.elected()
    odd, other = world.followers()
    me, others = odd.raft_id, [leader.raft_id, other.raft_id]
    if way == "isolated":
        world.network.isolate(me)
    else:
        world.network.notice_seconds = 1e9
        inbound, outbound = [(peer, me) for peer in others], [(me, peer) for peer in others]
        cut = {"half open": inbound + outbound, "deaf": inbound, "mute": outbound}
        world.network.cut_links(cut.get(way, [(leader.raft_id, me)]))
    world.background(world.client(5.0))
    await asyncio.sleep(LONG)
    assert leader.may_propose
    world.network.isolate()
    world.network.cut_links(())
    await asyncio.sleep(5)
    await world.settled()
    assert leader.may_propose
    assert leader.heard == [True]
    assert _terms(world) == {1}


@in_world()
async def test_a_member_whose_term_ran_ahead_finds_back_at_the_cost_of_one_election(world: World) -> None:
    """It won the pre-vote while nobody heard a leader, but its vote requests got lost."""
    old = await world.elected()
    ahead, _ = world.followers()

    def tamper(envelope: Envelope) -> list[Envelope]:
        lost = envelope.source == ahead.raft_id and isinstance(envelope.message, VoteRequest)
        unwanted = envelope.source != ahead.raft_id and isinstance(envelope.message, PreVoteRequest)
        return [] if lost or unwanted else [envelope]

    world.network.tamper = tamper
    world.network.isolate(old.raft_id)
    await world.until(lambda: ahead.status().term == 5)
    world.network.isolate(ahead.raft_id)
    world.network.tamper = None
    await world.settled_without(ahead)
    leader = await world.elected()
    assert leader.status().term < 5
    world.network.isolate()
    await world.until(lambda: not leader.may_propose)
    await world.settled()
    assert len(_terms(world)) == 1
    assert max(_terms(world)) <= 7


# -- Leaders that die or are cut off ----------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_a_killed_leader_is_replaced_soon_after_the_shortest_time_out(seed: int) -> None:
    async def story(world: World) -> None:
        await world.found(3)
        leader = await world.elected()
        await world.write_many(leader, 20)
        world.kill(world.member_of(leader))
        start = asyncio.get_running_loop().time()
        while True:
            successor = world.leader()
            if successor is not None and await world.write(successor):
                break
            await asyncio.sleep(0.01)
        # The end of its stream was noticed: nobody has to wait for more than the votes' promise.
        assert asyncio.get_running_loop().time() - start < 1.5

    simulate(seed, story)


@in_world(members=5)
async def test_a_leader_cut_off_stops_within_one_time_out_and_does_not_campaign_at_once(
    world: World,
) -> None:
    leader = await world.elected()
    world.network.notice_seconds = 1e9
    ids = [node.raft_id for node in world.nodes]
    start = asyncio.get_running_loop().time()
    world.network.cut_links((a, b) for a in ids for b in ids if leader.raft_id in (a, b))
    asked: list[float] = []

    def note(envelope: Envelope) -> None:
        if envelope.source == leader.raft_id and isinstance(envelope.message, PreVoteRequest):
            asked.append(asyncio.get_running_loop().time() - start)

    world.network.observe = note
    futures = [leader.propose(b"unconfirmed %d" % number) for number in range(3)]
    await asyncio.wait(futures)
    stopped = asyncio.get_running_loop().time() - start
    config = world.config
    assert stopped < config.election_min_seconds + config.heartbeat_seconds
    assert [type(future.exception()) for future in futures] == [LeadershipLostError] * 3
    await world.until(lambda: bool(asked))
    assert asked[0] >= stopped + config.election_min_seconds
    world.network.cut_links(())
    await world.settled()
    assert not any(value.startswith(b"unconfirmed") for value in leader.machine.values)


@pytest.mark.parametrize("staggered", [False, True])
@in_world(members=5)
async def test_a_group_that_was_all_down_leads_again_within_two_time_outs(
    world: World, staggered: bool
) -> None:
    leader = await world.elected()
    await world.write_many(leader, 20)
    for member in list(world.members.values()):
        world.kill(member)
        await asyncio.sleep(0.3 if staggered else 0.0)
    for member in list(world.members.values()):
        await world.start(member)
        await asyncio.sleep(0.3 if staggered else 0.0)
    await world.elected(2 * world.config.election_max_seconds)
    await world.settled()
    world.checker.check_final(world.nodes)


# -- Loops and disks that stand still ---------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.9, 3.0])
@in_world()
async def test_a_follower_that_stands_still_is_no_candidate_afterwards(world: World, seconds: float) -> None:
    leader = await world.elected()
    member = world.member_of(world.followers()[0])
    for _ in range(5):
        member.gate.clear()
        await asyncio.sleep(seconds * world.config.election_max_seconds)
        member.gate.set()
        await asyncio.sleep(2)
    assert leader.heard == [True]
    assert _terms(world) == {1}


@in_world()
async def test_a_leader_that_stands_still_for_most_of_a_time_out_leads_on(world: World) -> None:
    leader = await world.elected()
    member = world.member_of(leader)
    for _ in range(20):
        member.gate.clear()
        await asyncio.sleep(0.7 * world.config.election_min_seconds)
        member.gate.set()
        await asyncio.sleep(world.rng.random())
    assert leader.heard == [True]
    assert _terms(world) == {1}


@pytest.mark.parametrize("seed", range(5))
def test_a_machine_that_stands_still_with_all_members_on_it_elects_nobody(seed: int) -> None:
    async def story(world: World) -> None:
        await world.found(3)
        leader = await world.elected()
        world.background(world.client(0.02))
        for _ in range(10):
            for member in world.members.values():
                member.gate.clear()
            await asyncio.sleep(world.rng.uniform(0.6, 4.0))
            for member in world.members.values():
                member.gate.set()
            await asyncio.sleep(world.rng.random() * 2)
        assert leader.heard == [True]
        assert _terms(world) == {1}

    simulate(seed, story)


@in_world()
async def test_a_cut_off_leader_on_a_bad_disk_does_not_excuse_itself_for_ever(world: World) -> None:
    leader = await world.elected()
    world.network.notice_seconds = 1e9
    world.member_of(leader).lane.latency = 0.8
    ids = [node.raft_id for node in world.nodes]
    world.network.cut_links((a, b) for a in ids for b in ids if leader.raft_id in (a, b))
    futures: list[asyncio.Future[int]] = []
    start = asyncio.get_running_loop().time()
    while leader.may_propose:
        futures.append(leader.propose(b"%d" % len(futures)))
        await asyncio.sleep(0.1)
    assert asyncio.get_running_loop().time() - start < 5
    await asyncio.wait(futures)


@in_world()
async def test_a_leader_that_stood_still_for_long_follows_its_successor(world: World) -> None:
    leader = await world.elected()
    member = world.member_of(leader)
    waiting = leader.propose(b"unknown")
    member.gate.clear()
    successor = await world.until_another_leads(leader)
    await world.write_many(successor, 10)
    member.gate.set()
    await asyncio.wait([waiting])
    assert isinstance(waiting.exception(), LeadershipLostError)
    await world.settled()
    assert not leader.may_propose
    assert len(_terms(world)) == 1
    assert max(_terms(world)) == 2


@pytest.mark.parametrize("who", ["leader", "follower", "all"])
@in_world()
async def test_disks_that_take_seconds_cost_nobody_an_election(world: World, who: str) -> None:
    leader = await world.elected()
    for member in world.members.values():
        if who == "all" or (member.node is leader) == (who == "leader"):
            member.lane.latency = 3.0
    for _ in range(4):
        assert await world.write(leader)
        await asyncio.sleep(1)
    assert leader.heard == [True]
    assert _terms(world) == {1}


@in_world()
async def test_a_leader_whose_disk_hangs_for_good_is_replaced(world: World) -> None:
    leader = await world.elected()
    world.member_of(leader).lane.latency = 1e6
    future = leader.propose(b"never synced here")
    successor = await world.until_another_leads(leader, limit=20)
    assert await world.write(successor)
    assert not future.done()
    world.kill(world.member_of(leader))


# -- Votes ------------------------------------------------------------------------------------------------


@in_world(members=5)
async def test_doubled_votes_elect_nobody(world: World) -> None:
    """Two of five are left: each vote that comes twice would be a majority."""
    leader = await world.elected()
    for node in [leader, *world.followers()[:2]]:
        world.kill(world.member_of(node))
    world.network.tamper = lambda envelope: [envelope] * 3
    await asyncio.sleep(20)
    assert world.leader() is None
    # Even a candidate that believes in its pre-vote gets no further.
    candidate, voter = world.nodes
    driver = candidate._driver
    assert driver is not None
    driver._elections.force(driver.library.term)
    driver.wake()
    await asyncio.sleep(0.1)
    assert driver.library.campaigning
    vote = Envelope(voter.raft_id, candidate.raft_id, driver.library.term, Vote())
    for _ in range(5):
        world.network.inject(vote)
    world.network.inject(dataclasses.replace(vote, source=77))
    await asyncio.sleep(0.1)
    assert not driver.library.leading


@in_world()
async def test_a_pre_vote_answered_late_starts_no_campaign(world: World) -> None:
    leader = await world.elected()
    follower, other = world.followers()
    grants = [Envelope(node.raft_id, follower.raft_id, 1, PreVote(7)) for node in (leader, other)]
    for grant in grants:
        world.network.inject(grant)
    await asyncio.sleep(5)
    assert leader.heard == [True]


@in_world()
async def test_the_term_of_a_stranger_deposes_nobody(world: World) -> None:
    leader = await world.elected()
    for message in (TermNotice(), VoteRequest(999, 8), PreVoteRequest(1, 999, 8), Vote()):
        world.network.inject(Envelope(77, leader.raft_id, 9, message))
    await asyncio.sleep(0.5)
    assert leader.may_propose
    assert _terms(world) == {1}


# -- Proposals while leadership moves ---------------------------------------------------------------------


@in_world()
async def test_proposals_queued_while_leadership_moves_are_not_executed_after_they_failed(
    world: World,
) -> None:
    old = await world.elected()
    member = world.member_of(old)
    member.gate.clear()  # they wait in the queue, and never reach the log
    futures = [old.propose(b"queued %d" % number) for number in range(50)]
    successor = await world.until_another_leads(old)
    member.gate.set()
    await asyncio.wait(futures)
    assert {type(future.exception()) for future in futures} == {LeadershipLostError}
    await world.settled()
    await asyncio.sleep(5)
    for node in world.nodes:
        assert not any(value.startswith(b"queued") for value in node.machine.values)
    assert successor.may_propose


# -- Handing over -----------------------------------------------------------------------------------------


@in_world()
async def test_leadership_is_handed_over_under_load_each_time(world: World) -> None:
    for _ in range(4):
        world.background(world.client(0.02))
    for _ in range(20):
        leader = await world.elected()
        start = asyncio.get_running_loop().time()
        new = await leader.group.hand_over()
        assert new != leader.raft_id
        assert asyncio.get_running_loop().time() - start < 1.0
        await world.until_another_leads(leader)
        await asyncio.sleep(0.1)
    assert len(world.checker.acknowledged) > 200
    assert max(_terms(world)) == 21  # no election but those


@in_world()
async def test_no_write_fails_when_a_handover_comes_to_nothing(world: World) -> None:
    leader = await world.elected()
    world.network.tamper = _drop(TimeoutNow)
    handing = asyncio.create_task(leader.group.hand_over())
    await asyncio.sleep(0.1)
    futures = [leader.propose(b"patient %d" % number) for number in range(10)]
    with pytest.raises(TransferError, match="already"):
        await leader.group.hand_over()
    await asyncio.sleep(0.5)
    assert not any(future.done() for future in futures)
    with pytest.raises(TransferError, match="did not campaign successfully in time"):
        await handing
    assert sorted(await asyncio.gather(*futures)) == [future.result() for future in futures]
    assert leader.heard == [True]


@in_world()
async def test_nobody_takes_over_who_is_dead_or_cannot_catch_up(world: World) -> None:
    leader = await world.elected()
    dead, slow = world.followers()
    world.kill(world.member_of(dead))
    with pytest.raises(TransferError, match="not connected"):
        await leader.group.hand_over(dead.raft_id)
    with pytest.raises(TransferError, match="not connected"):
        await leader.group.hand_over(77)
    world.network.links[leader.raft_id, slow.raft_id] = Quality(delay=30.0)
    waiting = leader.propose(b"never gets there")
    await asyncio.sleep(0.01)
    with pytest.raises(TransferError, match="did not catch up with the log in time"):
        await leader.group.hand_over(slow.raft_id)
    assert isinstance(waiting.exception(), LeadershipLostError)  # no majority was heard meanwhile
    world.network.links.clear()


@in_world(members=2)
async def test_nobody_takes_over_when_nobody_is_connected(world: World) -> None:
    leader = await world.elected()
    world.kill(world.member_of(world.followers()[0]))
    with pytest.raises(TransferError, match="no other manager is connected"):
        await leader.group.hand_over()


@in_world()
async def test_an_heir_that_loses_the_vote_leaves_the_group_with_another_leader(world: World) -> None:
    leader = await world.elected()
    heir, other = world.followers()
    world.network.tamper = lambda envelope: (
        [] if envelope.target == heir.raft_id and isinstance(envelope.message, Vote) else [envelope]
    )
    try:
        assert await leader.group.hand_over(heir.raft_id) != heir.raft_id
    except TransferError:
        pass
    await world.until(lambda: leader.may_propose or other.may_propose)
    await world.settled()


@in_world(members=5)
async def test_a_leader_that_gets_nothing_decided_for_thirty_seconds_makes_room(world: World) -> None:
    leader = await world.elected()
    heir = world.followers()[0]

    def bare(envelope: Envelope) -> list[Envelope]:
        if envelope.target != leader.raft_id or envelope.source == heir.raft_id:
            return [envelope]
        alive = isinstance(envelope.message, Reply)
        return [dataclasses.replace(envelope, message=Reply(1)) if alive else envelope]

    world.network.tamper = bare
    future = leader.propose(b"confirmed by nobody but the heir")
    start = asyncio.get_running_loop().time()
    await asyncio.wait([future])
    assert asyncio.get_running_loop().time() - start == pytest.approx(30.0, abs=0.5)
    assert isinstance(future.exception(), LeadershipLostError)
    await world.until(lambda: heir.may_propose)
    assert await world.write(heir)
    world.network.tamper = None
    await world.settled()


@in_world()
async def test_a_follower_hands_nothing_over(world: World) -> None:
    await world.elected()
    with pytest.raises(LeadershipLostError):
        await world.followers()[0].group.hand_over()


@in_world()
async def test_stopping_ends_a_handover(world: World) -> None:
    leader = await world.elected()
    world.network.tamper = _drop(TimeoutNow)
    handing = asyncio.create_task(leader.group.hand_over())
    await asyncio.sleep(0.1)
    await _stop(world, leader)
    with pytest.raises(TransferError, match="stopping"):
        await handing


async def _stop(world: World, node: TestNode) -> None:
    member = world.member_of(node)
    member.node = None
    world.network.forget(node)
    world.checker.forget(node)
    await node.stop()
