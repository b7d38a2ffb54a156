"""contract/pysyncobj-hazards.md, 10: who is confirmed as leader reads all that anybody was told of before.

Each story is also told without the rule that it is about: then the checker must find a stale read.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from swarmkit.raft import TransferError
from swarmkit.raft.lease import LEASE_FRACTION
from swarmkit.raft.messages import Append, Envelope, TimeoutNow
from swarmkit.store.proposer import LeadershipLostError, StoppedError
from tests.fakes.network import Quality
from tests.fakes.raft import TestNode
from tests.sim.raft_checker import SafetyError
from tests.sim.raft_without import Rule
from tests.sim.raft_world import World, in_world, simulate


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _settled_leader(world: World) -> TestNode:
    """Found a group of three in which everybody knows, on disk, who belongs to it."""
    await world.found(3)
    leader = await world.elected()
    for _ in range(3):
        assert await world.write(leader)
    return leader


async def _read_always(world: World, node: TestNode) -> None:
    while True:
        with contextlib.suppress(TimeoutError, StoppedError):
            async with asyncio.timeout(0.01):
                await world.read(node)
        await asyncio.sleep(0.01)


async def _successor_writes(world: World, old: TestNode) -> None:
    successor = await world.until_another_leads(old)
    assert await world.write(successor)
    await asyncio.sleep(1)  # for the readers of the old one
    await world.end_background()


def _cut(world: World, *pairs: tuple[TestNode, TestNode]) -> None:
    """Cut more links in this direction; nobody notices."""
    world.network.notice_seconds = 1e9
    added = {(source.raft_id, target.raft_id) for source, target in pairs}
    world.network.cut_links(world.network.cut | added)


async def _echoes_on_a_slow_link(world: World) -> None:
    """A follower hears its leader at once and answers late; then it hears it no more."""
    old = await _settled_leader(world)
    near, far = world.followers()
    _cut(world, (old, far), (far, old))
    for delay in (0.7, 1.4):  # by steps: no answer for a second would depose the leader
        world.network.links[near.raft_id, old.raft_id] = Quality(delay=delay)
        await asyncio.sleep(3)
    for _ in range(4):
        assert await world.read(old)  # there is no lease on such a link, but rounds prove as much
    world.background(_read_always(world, old))
    _cut(world, (old, near))
    await _successor_writes(world, old)


async def _about_to_ask(world: World, node: TestNode) -> None:
    """Wait until a moment before the election deadline of a node."""
    driver = node._driver
    assert driver is not None
    await world.until(lambda: 0 < driver.library.election_deadline - _now() < 0.05)


async def _voter_restarts(world: World) -> None:
    """One follower hears no leader any more; the other one restarts, and hears none either."""
    old = await _settled_leader(world)
    voter, asker = world.followers()
    _cut(world, (old, asker), (asker, old))
    member = world.member_of(voter)
    await _about_to_ask(world, asker)
    world.background(_read_always(world, old))
    world.kill(member, power_cut=False)
    _cut(world, (old, voter), (voter, old))
    await world.start(member)
    await _successor_writes(world, old)


async def _voter_just_heard_a_leader(world: World) -> None:
    """One follower hears no leader any more; then the other one hears none either."""
    old = await _settled_leader(world)
    voter, asker = world.followers()
    _cut(world, (old, asker), (asker, old))
    await _about_to_ask(world, asker)
    world.background(_read_always(world, old))
    _cut(world, (old, voter), (voter, old))
    await _successor_writes(world, old)


async def _late_wish(world: World) -> None:
    """A handover came to nothing, for all the leader knows; its wish arrives when nobody thinks of it."""
    old = await _settled_leader(world)
    heir, other = world.followers()
    wishes: list[Envelope] = []

    def keep(envelope: Envelope) -> list[Envelope]:
        if isinstance(envelope.message, TimeoutNow):
            wishes.append(envelope)
            return []
        return [envelope]

    world.network.tamper = keep
    with pytest.raises(TransferError):
        await old.group.hand_over(heir.raft_id)
    assert await world.write(old)
    assert await world.read(old)
    world.background(_read_always(world, old))
    await asyncio.sleep(1)
    _cut(world, (heir, old), (other, old))
    world.network.inject(wishes[0])
    await _successor_writes(world, old)


async def _stopped(world: World) -> None:
    """A leader's process is stopped until another one leads and writes."""
    old = await _settled_leader(world)
    for _ in range(4):
        assert await world.read(old)
    await _read_after_a_stop(world, old)


async def _read_after_a_stop(world: World, old: TestNode, seconds: float = 0.0) -> None:
    member, known = world.member_of(old), world.checker.floor
    world.freeze(member)
    world.background(world.client(0.05))
    await asyncio.sleep(seconds)
    await world.until_another_leads(old)
    # Else there would be nothing that the stopped one does not know of.
    await world.until(lambda: world.checker.floor > known)
    reading = world.background(world.read(old))
    await asyncio.sleep(0)  # its clients ask before its cycle hears of anything
    world.thaw(member)
    assert not await reading
    await world.end_background()


STORIES = [
    (_stopped, Rule.LEASE_ENDS),
    (_echoes_on_a_slow_link, Rule.LEASE_FROM_ROUND),
    (_voter_restarts, Rule.PROMISE_KEPT),
    (_voter_just_heard_a_leader, Rule.STICKINESS),
    (_late_wish, Rule.LEASE_VOID),
]


@pytest.mark.parametrize(("story", "rule"), STORIES)
@pytest.mark.parametrize("seed", range(5))
def test_no_read_is_stale_when_leadership_moves_behind_a_leaders_back(
    seed: int, story: Callable[[World], Awaitable[None]], rule: Rule
) -> None:
    world = simulate(seed, story)
    assert world.checker.reads > 3


@pytest.mark.parametrize(("story", "rule"), STORIES)
@pytest.mark.parametrize("seed", range(5))
def test_without_the_rule_just_that_happens(
    seed: int, story: Callable[[World], Awaitable[None]], rule: Rule
) -> None:
    with pytest.raises(SafetyError, match="is read at entry"):
        simulate(seed, story, without=rule)

    async def watched(world: World) -> None:
        world.checker.watches_leases = True
        await story(world)

    with pytest.raises(SafetyError, match="has a lease in term 1; 2 was won"):
        simulate(seed, watched, without=rule)


# -- What it costs ----------------------------------------------------------------------------------------


@in_world()
async def test_a_leader_in_touch_with_its_group_always_has_a_lease_and_reads_without_a_message(
    world: World,
) -> None:
    leader = await world.elected()
    await world.until(lambda: leader.has_lease)
    for _ in range(1000):
        assert leader.has_lease
        await asyncio.sleep(0.013)
    sent = world.network.sent
    before = _now()
    for _ in range(1000):
        assert await world.read(leader)
    assert (world.network.sent, _now()) == (sent, before)
    assert not any(node.has_lease for node in world.followers())


@in_world()
async def test_without_a_lease_a_read_takes_one_round_trip_however_many_read(world: World) -> None:
    leader = await world.elected()
    world.network.tamper = lambda envelope: [] if isinstance(envelope.message, TimeoutNow) else [envelope]
    with pytest.raises(TransferError):
        await leader.group.hand_over()
    assert not leader.has_lease
    world.network.quality = Quality(delay=0.02)
    await asyncio.sleep(0.1)
    rounds: set[int] = set()

    def note(envelope: Envelope) -> None:
        if isinstance(envelope.message, Append):
            rounds.add(envelope.round)

    world.network.observe = note
    start = _now()
    assert all(await asyncio.gather(*(world.read(leader) for _ in range(100))))
    assert _now() - start < 0.05
    assert len(rounds) == 1
    # Those who come while it is under way share the next.
    first = asyncio.gather(*(world.read(leader) for _ in range(100)))
    await asyncio.sleep(0.01)
    second = asyncio.gather(*(world.read(leader) for _ in range(100)))
    assert all(await first)
    assert not second.done()
    assert all(await second)
    assert len(rounds) <= 4
    assert leader.heard == [True]


@in_world(members=1)
async def test_a_lone_member_always_has_a_lease(world: World) -> None:
    leader = await world.elected()
    assert leader.has_lease
    await asyncio.sleep(100)
    before = _now()
    assert await world.read(leader)
    assert _now() == before


@in_world()
async def test_a_follower_confirms_nothing(world: World) -> None:
    await world.elected()
    for follower in world.followers():
        with pytest.raises(LeadershipLostError):
            await follower.confirm_leadership()


# -- Stalls, cuts and disks -------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [1.5, 3.0, 6.0])
@in_world()
async def test_a_leader_that_was_stopped_answers_no_read_from_its_past(world: World, seconds: float) -> None:
    leader = await world.elected()
    assert await world.write(leader)
    await world.until(lambda: leader.has_lease)
    await _read_after_a_stop(world, leader, seconds)
    await world.settled()


@in_world()
async def test_who_waits_when_leadership_is_lost_is_told_so(world: World) -> None:
    leader = await world.elected()
    world.network.notice_seconds = 1e9
    for follower in world.followers():
        _cut(world, (leader, follower), (follower, leader))
    start = _now()
    await world.until(lambda: not leader.has_lease)
    assert _now() - start <= LEASE_FRACTION * world.config.election_min_seconds
    assert leader.may_propose
    with pytest.raises(LeadershipLostError):
        await leader.confirm_leadership()
    assert not leader.may_propose


@in_world()
async def test_who_waits_when_the_node_stops_is_told_so(world: World) -> None:
    leader = await world.elected()
    for follower in world.followers():
        _cut(world, (leader, follower), (follower, leader))
    await world.until(lambda: not leader.has_lease)
    waiting = asyncio.create_task(leader.confirm_leadership())
    await asyncio.sleep(0.01)
    member = world.member_of(leader)
    member.node = None
    world.network.forget(leader)
    world.checker.forget(leader)
    await leader.stop()
    with pytest.raises(StoppedError):
        await waiting
    with pytest.raises(StoppedError):
        await leader.confirm_leadership()
    assert not leader.has_lease


@in_world()
async def test_a_sign_of_life_during_a_sync_confirms_nothing_that_was_not_processed(world: World) -> None:
    leader = await world.elected()
    slow, away = world.followers()
    world.kill(world.member_of(away))
    world.member_of(slow).lane.latency = 3.0
    writing = asyncio.create_task(world.write(leader))
    await world.until(lambda: not leader.has_lease)
    start = _now()
    assert await world.read(leader)
    assert _now() - start > 1.5  # it came with the end of the sync
    assert await writing
    assert leader.heard == [True]


@in_world()
async def test_a_new_leader_has_a_lease_as_soon_as_it_is_announced(world: World) -> None:
    old = await world.elected()
    world.kill(world.member_of(old))
    successor = await world.until_another_leads(old)
    await asyncio.sleep(0.01)
    assert successor.has_lease
    assert await world.read(successor)


@in_world(members=1)
async def test_a_group_that_grows_and_shrinks_reads_on(world: World) -> None:
    leader = await world.elected()
    for count in (2, 3):
        await world.grow()
        assert await world.read(leader)
        assert len(leader.members()) == count
    for follower in world.followers():
        await leader.group.remove(follower.raft_id)
        assert await world.read(leader)
        await asyncio.sleep(0.1)
    assert leader.has_lease
