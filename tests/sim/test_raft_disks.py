"""contract/pysyncobj-hazards.md, 13: groups on disks that lose, tear, refuse, delay (H19, H20, H22, H23)."""

import asyncio
import errno

import pytest

from swarmkit.raft import DiskFullError, SnapshotPolicy, WriteFailedError
from swarmkit.raft.messages import Envelope, PreVoteRequest, Reply, Vote, VoteRequest
from swarmkit.store.proposer import StoppedError
from tests.sim.raft_world import World, in_world

OFTEN = SnapshotPolicy(interval=12, keep_entries=4)


async def _dies_in_the_dark(world: World, number: int) -> None:
    member = world.members[number]
    await member.disk.dark.wait()
    world.kill(member)
    await asyncio.sleep(0.2)
    await world.start(member)


async def _work(world: World, rounds: int) -> None:
    for _ in range(rounds):
        leader = world.leader()
        if leader is not None:
            await asyncio.gather(*(world.write(leader) for _ in range(3)))
        await asyncio.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["leader", "follower"])
def test_a_power_cut_after_any_single_write_loses_nothing_and_doubles_no_vote(victim: str) -> None:
    """Writing, voting, snapshots, compaction and new segments all happen; the checker knows the rules."""
    cut, reached = 0, True
    while reached:
        cut += 1

        @in_world(seed=cut, policy=OFTEN)
        async def story(world: World, cut: int = cut) -> None:
            nonlocal reached
            leader = await world.elected()
            member = world.member_of(leader if victim == "leader" else world.followers()[0])
            member.disk.cut_at = member.disk.calls + cut
            dark = member.disk.dark
            world.background(_dies_in_the_dark(world, member.number))
            await _work(world, 12)
            reached = dark.is_set()
            await asyncio.sleep(0.5)
            member.disk.cut_at = None
            await world.end_background()
            await world.heal()
            world.checker.check_final(world.nodes)

        story()
    assert cut > 40


@pytest.mark.slow
def test_a_power_cut_after_any_step_of_installing_a_snapshot_loses_nothing() -> None:
    cut, reached = 0, True
    while reached:
        cut += 1

        @in_world(seed=cut, policy=OFTEN)
        async def story(world: World, cut: int = cut) -> None:
            nonlocal reached
            leader = await world.elected()
            follower = world.followers()[0]
            world.network.isolate(follower.raft_id)
            await world.write_many(leader, 40)
            await asyncio.sleep(0.1)
            await world.write_many(leader, 20)
            member = world.member_of(follower)
            member.disk.cut_at = member.disk.calls + cut
            dark = member.disk.dark
            world.background(_dies_in_the_dark(world, member.number))
            world.network.isolate()
            await world.settled()
            await asyncio.sleep(0.5)
            reached = dark.is_set()
            await asyncio.sleep(0.5)
            member.disk.cut_at = None
            await world.end_background()
            await world.heal()
            world.checker.check_final(world.nodes)
            assert reached or follower.machine.restores == 1

        story()
    assert cut > 8


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.EIO, WriteFailedError), (errno.ENOSPC, DiskFullError)], ids=["EIO", "full"]
)
@pytest.mark.parametrize("who", ["leader", "follower"])
@in_world()
async def test_a_member_that_cannot_sync_stops_and_the_others_go_on(
    world: World, who: str, number: int, kind: type[Exception]
) -> None:
    leader = await world.elected()
    node = leader if who == "leader" else world.followers()[0]
    member = world.member_of(node)
    said: list[Envelope] = []
    member.disk.sync_error = OSError(number, "broken")
    world.checker.forget(node)
    member.node = None  # its end is expected: the checker need not look
    world.network.observe = lambda envelope: said.append(envelope)

    outcome = await asyncio.gather(leader.propose(b"decided without it"), return_exceptions=True)
    await world.until(lambda: bool(node.fatal))
    assert isinstance(node.fatal[0], kind)
    assert isinstance(outcome[0], StoppedError) == (who == "leader")
    world.network.forget(node)
    claims = [e for e in said if e.source == node.raft_id and isinstance(e.message, (Vote, VoteRequest))]
    claims += [e for e in said if e.source == node.raft_id and _confirms(e)]
    assert not claims  # nothing left that speaks of what was not synced
    await world.settled_without(node)
    await node.stop()
    member.disk.sync_error = None
    await world.start(member)
    await world.settled()


@in_world()
async def test_a_member_that_stops_on_a_full_disk_says_so_and_closes_its_files_once(world: World) -> None:
    await world.elected()
    node = world.followers()[0]
    member = world.member_of(node)
    member.disk.sync_error = OSError(errno.ENOSPC, "full")
    world.checker.forget(node)
    member.node = None
    world.network.forget(node)
    await node.stop()
    assert [type(error) for error in node.fatal] == [DiskFullError]


def _confirms(envelope: Envelope) -> bool:
    return isinstance(envelope.message, Reply) and envelope.message.success


@pytest.mark.parametrize("role", ["voter", "follower"])
@in_world()
async def test_neither_a_vote_nor_a_confirmation_leaves_before_its_sync(world: World, role: str) -> None:
    leader = await world.elected()
    slow, other = world.followers()
    world.member_of(slow).lane.latency = 1.0
    moments: list[float] = []

    def note(envelope: Envelope) -> None:
        wanted = isinstance(envelope.message, Vote) if role == "voter" else _confirms(envelope)
        if envelope.source == slow.raft_id and wanted:
            moments.append(asyncio.get_running_loop().time())

    await asyncio.sleep(0.5)
    if role == "voter":
        asked: list[float] = []

        def note_request(envelope: Envelope) -> None:
            note(envelope)
            if isinstance(envelope.message, VoteRequest):
                asked.append(asyncio.get_running_loop().time())

        world.network.observe = note_request
        world.network.tamper = lambda envelope: (
            []
            if envelope.source == slow.raft_id and isinstance(envelope.message, PreVoteRequest)
            else [envelope]
        )
        world.kill(world.member_of(leader))
        await world.until(lambda: bool(moments))
        assert moments[0] >= asked[0] + 1.0
    else:
        world.network.isolate(other.raft_id)
        start = asyncio.get_running_loop().time()
        world.network.observe = note
        future = leader.propose(b"needs the slow one")
        await future
        assert asyncio.get_running_loop().time() >= start + 1.0


@in_world()
async def test_a_member_that_lost_the_end_of_its_log_gets_it_again_from_the_same_leader(world: World) -> None:
    """The leader knows that it had these entries; a member that has started anew may have them no more."""
    leader = await world.elected()
    await world.write_many(leader, 20)
    await world.settled()
    member = world.member_of(world.followers()[0])
    last, term = leader.status().last_index, leader.status().term
    world.kill(member)
    newest = member.disk.paths(".wal")[-1]
    member.disk.overwrite(newest, member.disk.written(newest)[:-3])
    node = await world.start(member)
    assert node.status().last_index < last
    await world.until(lambda: node.status().commit_index >= last, limit=2)
    await world.write_many(leader, 1)
    await world.settled()
    assert leader.status().term == term
