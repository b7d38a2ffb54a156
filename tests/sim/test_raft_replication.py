"""contract/pysyncobj-hazards.md, 13: replication under faults (H1 to H9, H25, H28, H29)."""

import asyncio
import pickle
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

import pytest

from swarmkit.raft import SnapshotPolicy
from swarmkit.raft.messages import (
    Append,
    Envelope,
    Message,
    PreVote,
    PreVoteRequest,
    Reply,
    SnapshotPart,
    TermNotice,
    TimeoutNow,
    Vote,
    VoteRequest,
)
from swarmkit.raft.records import Entry
from swarmkit.raft.transfer import PIECE_BYTES, Piece
from swarmkit.store.proposer import MAX_PROPOSAL_BYTES, LeadershipLostError
from tests.fakes.lanes import InlineLane
from tests.fakes.network import Quality
from tests.fakes.raft import TestNode
from tests.sim.raft_checker import SafetyError
from tests.sim.raft_without import Rule
from tests.sim.raft_world import World, in_world, simulate

T = TypeVar("T")

NO_SNAPSHOTS = SnapshotPolicy(interval=0)


async def _leader_dies_when_a_slow_follower_has_confirmed(world: World) -> None:
    """2,000 entries travel in many messages; each is answered long after the next has left."""
    await world.found(3)
    world.network.queue_limit = 1 << 40
    world.network.backlog_seconds = 60.0
    leader = await world.elected()
    slow, other = world.followers()
    world.network.isolate(slow.raft_id)
    await world.write_many(leader, 2000, size=2000)
    world.network.isolate(other.raft_id)  # from now on the slow one decides
    for pair in ((leader.raft_id, slow.raft_id), (slow.raft_id, leader.raft_id)):
        world.network.links[pair] = Quality(delay=0.2, per_message=0.03)
    for _ in range(3):
        world.background(world.client(0.02))
    driver = leader._driver
    assert driver is not None
    await world.until(lambda: driver.library.match_index(slow.raft_id) > 2000)
    await asyncio.sleep(world.rng.random() * 0.4)
    world.kill(world.member_of(leader))
    await world.end_background()
    world.network.links.clear()
    world.network.isolate()
    await world.heal()
    world.checker.check_final(world.nodes)


@pytest.mark.parametrize("seed", range(3))
def test_a_follower_far_behind_on_a_slow_link_never_loses_what_it_confirmed(seed: int) -> None:
    world = simulate(seed, _leader_dies_when_a_slow_follower_has_confirmed, policy=NO_SNAPSHOTS)
    assert world.truncated <= 3  # unconfirmed ends of the dead leader's log at most


@pytest.mark.parametrize("seed", range(3))
def test_the_library_by_itself_loses_just_that(seed: int) -> None:
    with pytest.raises(SafetyError, match="forgot that 2005 is committed"):
        simulate(
            seed, _leader_dies_when_a_slow_follower_has_confirmed, without=Rule.FILTER, policy=NO_SNAPSHOTS
        )


@pytest.mark.slow
@in_world()
async def test_ten_minutes_of_writes_with_a_long_round_trip_cut_nothing_off_and_change_no_term(
    world: World,
) -> None:
    leader = await world.elected()
    world.network.quality = Quality(delay=1.5 * world.config.heartbeat_seconds)
    world.background(world.client(1.0))
    await asyncio.sleep(600)
    assert len(world.checker.acknowledged) > 400
    assert world.truncated == 0
    assert leader.status().term == 1


@in_world()
async def test_a_reply_of_a_former_term_counts_for_nothing(world: World) -> None:
    first = await world.elected()
    second, third = world.followers()
    late: list[Envelope] = []

    def hold_back(envelope: Envelope) -> list[Envelope]:
        if isinstance(envelope.message, Reply) and envelope.target == first.raft_id:
            late.append(envelope)
            return []
        return [envelope]

    world.network.tamper = hold_back
    world.background(_propose(world, first, 20))
    await asyncio.sleep(0.1)
    best = max((e for e in late if e.source == third.raft_id), key=_claimed)
    world.network.tamper = None
    world.network.isolate(first.raft_id)
    await world.until(lambda: second.may_propose or third.may_propose)
    world.network.isolate()
    await world.settled()
    leader = await world.elected()
    assert await leader.group.hand_over(first.raft_id) == first.raft_id
    await world.until(lambda: first.may_propose)
    assert first.status().term > best.term

    driver = first._driver
    assert driver is not None
    world.network.isolate(third.raft_id)
    await world.until(lambda: not driver.mailbox.is_connected(third.raft_id))
    await world.write_many(first, 40)
    match = driver.library.match_index(third.raft_id)
    assert isinstance(best.message, Reply)
    forged = Reply(best.message.next_index + 40, success=True)
    world.network.inject(Envelope(best.source, best.target, best.term, forged))
    await asyncio.sleep(0.1)
    assert driver.library.match_index(third.raft_id) <= match  # a member that connects anew begins at nothing


def _claimed(envelope: Envelope) -> int:
    return envelope.message.next_index if isinstance(envelope.message, Reply) else 0


async def _propose(world: World, node: TestNode, count: int) -> None:
    await asyncio.gather(*(world.write(node) for _ in range(count)))


@in_world()
async def test_a_deposed_leader_commits_nothing_on_a_bare_word_of_its_successor(world: World) -> None:
    old = await world.elected()
    world.network.isolate(old.raft_id)
    unconfirmed = old.propose(b"never confirmed")
    new = await world.until_another_leads(old)
    await world.write_many(new, 10)
    assert isinstance(unconfirmed.exception(), LeadershipLostError)
    before = old.status()
    # What a leader sends while its snapshot is not ready, and a piece of that snapshot, begun late.
    term, commit = new.status().term, new.status().commit_index
    for message in (SnapshotPart(), SnapshotPart(Piece(commit, term, 9, 100, b"x"))):
        world.network.inject(Envelope(new.raft_id, old.raft_id, term, message))
    await asyncio.sleep(0.1)
    assert old.status().commit_index == before.commit_index
    assert old.leader_id == new.raft_id
    world.network.isolate()
    await world.settled()
    assert b"never confirmed" not in old.machine.values


@pytest.mark.parametrize("foreign", [10, 1000])
@in_world(policy=NO_SNAPSHOTS)
async def test_a_long_foreign_end_of_a_log_is_repaired_in_few_round_trips(world: World, foreign: int) -> None:
    old = await world.elected()
    await world.write_many(old, 3)
    world.network.isolate(old.raft_id)
    world.background(_propose(world, old, foreign))
    new = await world.until_another_leads(old)
    await world.write_many(new, 2)
    replies: list[Reply] = []

    def note(envelope: Envelope) -> None:
        if envelope.source == old.raft_id and isinstance(envelope.message, Reply):
            replies.append(envelope.message)

    world.network.observe = note
    assert old.status().last_index > new.status().last_index
    world.network.isolate()
    spent = await world.until(lambda: old.machine.entries == new.machine.entries)
    assert spent < 1.5 * world.config.heartbeat_seconds
    assert len([reply for reply in replies if reply.reset]) <= 3


@pytest.mark.parametrize("beyond", [1, 1000])
@in_world(policy=NO_SNAPSHOTS)
async def test_a_next_index_beyond_the_leaders_log_does_not_live_lock(world: World, beyond: int) -> None:
    leader = await world.elected()
    follower = world.followers()[0]
    driver = leader._driver
    assert driver is not None
    reply = Reply(driver.log.last_index + beyond, reset=True)
    world.network.inject(Envelope(follower.raft_id, leader.raft_id, driver.library.term, reply))
    await world.settled()
    assert follower.machine.entries == leader.machine.entries


@pytest.mark.slow
@in_world(policy=NO_SNAPSHOTS)
async def test_entries_of_every_size_up_to_the_limit_arrive_whole(world: World) -> None:
    leader = await world.elected()
    sizes = [n * step + more for step in (1 << 16, 1 << 19, 1 << 20) for n in (1, 2) for more in (-9, 0, 9)]
    sizes = [size for size in sizes if size <= MAX_PROPOSAL_BYTES] + [MAX_PROPOSAL_BYTES] * 3
    for size in sizes:
        assert await world.write(leader, exactly=size)
    await asyncio.gather(*(world.write(leader, exactly=size) for size in sizes))
    follower = world.followers()[0]
    number = world.member_of(follower)
    world.kill(number)
    await asyncio.gather(*(world.write(leader, exactly=size) for size in sizes))
    restarted = await world.start(number)
    await world.settled()
    assert [len(value) for value in restarted.machine.values[-1 - len(sizes) : -1]] == sizes


@pytest.mark.slow
@in_world()
async def test_a_follower_answers_before_it_applies_what_the_message_says_is_committed(world: World) -> None:
    leader = await world.elected()
    await world.write_many(leader, 1)
    await world.settled()
    first = leader.status().applied_index
    unapplied: list[int] = []

    def note(envelope: Envelope) -> None:
        if isinstance(envelope.message, Reply) and envelope.message.next_index == first + 3:
            node = next(node for node in world.nodes if node.raft_id == envelope.source)
            unapplied.append(first + 1 - node.status().applied_index)

    world.network.observe = note
    await world.write(leader)
    await world.write(leader)
    await world.settled()
    assert unapplied[:2] == [1, 1]


@in_world(policy=NO_SNAPSHOTS)
async def test_many_committed_entries_that_arrive_at_once_are_applied_in_passes(world: World) -> None:
    leader = await world.elected()
    follower = world.followers()[0]
    world.network.isolate(follower.raft_id)
    await world.write_many(leader, 50_000)
    world.network.isolate()
    await world.until(lambda: len(follower.machine.entries) == 50_000)
    assert world.checker.most_applied <= 500


# -- Snapshots --------------------------------------------------------------------------------------------

OFTEN = SnapshotPolicy(interval=50, keep_entries=10)


async def _falls_behind(world: World, writes: int = 200, size: int = 0) -> tuple[TestNode, TestNode]:
    """Cut a follower off for so long that it needs a snapshot."""
    leader = await world.elected()
    follower = world.followers()[0]
    world.network.isolate(follower.raft_id)
    for _ in range(writes // 40):
        await world.write_many(leader, 40, size)
    await asyncio.sleep(0.1)
    assert leader.status().first_index > follower.status().last_index + 1
    return leader, follower


@in_world(policy=OFTEN)
async def test_a_follower_within_the_entries_that_are_kept_gets_no_snapshot(world: World) -> None:
    leader = await world.elected()
    follower = world.followers()[0]
    await world.write_many(leader, 45)
    world.network.isolate(follower.raft_id)
    await world.write_many(leader, 14)
    await world.until(lambda: leader.status().snapshot_index > 0)
    world.network.isolate()
    await world.settled()
    assert follower.machine.restores == 0


@in_world(policy=OFTEN)
async def test_the_leaders_snapshot_takes_the_place_of_the_followers_own(world: World) -> None:
    await world.write_many(await world.elected(), 60)
    follower = world.followers()[0]
    await world.until(lambda: follower.status().snapshot_index > 0)
    _, follower = await _falls_behind(world)
    world.network.isolate()
    await world.settled()
    assert follower.machine.restores == 1
    assert len(world.member_of(follower).disk.paths(".snap")) == 1


@in_world(members=1, policy=OFTEN)
async def test_a_second_member_that_reads_a_large_snapshot_for_seconds_costs_the_leader_no_office(
    world: World,
) -> None:
    """Without it nothing is decided, and what it has not read it cannot confirm: it says that it is there."""
    leader = await world.elected()
    await world.write_many(leader, 200)
    term = leader.status().term
    joined = await world.join(leader, 2)
    lane = joined._driver._lanes.snapshots  # type: ignore[union-attr]
    assert isinstance(lane, InlineLane)
    lane.latency = 4.0  # twice: it is saved, and it is read
    await world.settled()
    assert joined.machine.restores == 1
    assert (leader.status().term, leader.may_propose) == (term, True)


def _pieces(*changes: str) -> Callable[[Envelope], list[Envelope]]:
    """Harm the first pieces of snapshots that pass, each in one of the given ways."""
    left = list(changes)

    def tamper(envelope: Envelope) -> list[Envelope]:
        message = envelope.message
        if not isinstance(message, SnapshotPart) or message.piece is None or not left:
            return [envelope]
        piece = message.piece
        match left.pop(0):
            case "lost":
                return []
            case "doubled":
                return [envelope, envelope]
            case "cut":
                piece = replace(piece, data=piece.data[: len(piece.data) // 2])
            case "spoilt":
                piece = replace(piece, data=bytes(len(piece.data)))
            case "other identity":
                piece = replace(piece, index=piece.index + 1)
        return [replace(envelope, message=SnapshotPart(piece))]

    return tamper


@pytest.mark.parametrize(
    "harm",
    [
        ["lost"],
        ["fine", "lost"],
        ["doubled"],
        ["fine", "doubled", "lost"],
        ["cut"],
        ["spoilt"],
        ["fine", "spoilt"],
        ["other identity"],
    ],
    ids="+".join,
)
@in_world(policy=OFTEN)
async def test_a_snapshot_that_arrives_damaged_is_sent_again(world: World, harm: list[str]) -> None:
    leader, follower = await _falls_behind(world, size=2000)
    before = follower.machine.entries
    world.network.tamper = _pieces(*harm)
    world.network.isolate()
    await world.settled()
    assert follower.machine.restores == 1
    assert follower.machine.entries == leader.machine.entries
    assert follower.machine.entries[: len(before)] == before


@in_world(policy=OFTEN)
async def test_an_old_snapshot_that_comes_late_changes_nothing(world: World) -> None:
    leader, follower = await _falls_behind(world)
    parts: list[Envelope] = []

    def keep(envelope: Envelope) -> list[Envelope]:
        if isinstance(envelope.message, SnapshotPart) and envelope.message.piece is not None:
            parts.append(envelope)
        return [envelope]

    world.network.tamper = keep
    world.network.isolate()
    await world.settled()
    assert follower.machine.restores == 1
    await world.write_many(leader, 7)  # acknowledged, and on the follower, but not in that snapshot
    before = follower.status()
    for part in parts:
        world.network.inject(part)
    await asyncio.sleep(0.2)
    assert follower.machine.restores == 1
    assert follower.status().applied_index >= before.applied_index
    assert follower.status().last_index >= before.last_index


@in_world(policy=OFTEN)
async def test_a_full_disk_ends_an_installation_and_the_next_try_succeeds(world: World) -> None:
    _, follower = await _falls_behind(world, size=500)
    member = world.member_of(follower)
    assert follower._driver is not None
    lane = follower._driver._lanes.snapshots
    failed: list[str] = []

    class FullLane:
        async def run(self, call: Callable[[], T]) -> T:
            if len(failed) < 2:
                failed.append("full")
                member.disk.sync_error = OSError(28, "No space left on device")
            try:
                return call()
            finally:
                member.disk.sync_error = None

        def close(self) -> None:
            lane.close()

    follower._driver.snapshotter._lane = FullLane()
    world.network.isolate()
    await world.settled()
    assert len(failed) == 2
    assert follower.machine.restores == 1
    assert not follower.fatal


@in_world(policy=OFTEN)
async def test_a_slow_reader_of_a_large_snapshot_costs_the_leader_bounded_memory(world: World) -> None:
    leader, follower = await _falls_behind(world, writes=400, size=5000)
    link = (leader.raft_id, follower.raft_id)
    world.network.links[link] = Quality(bytes_per_second=1_000_000)
    most = total = 0

    def measure(envelope: Envelope) -> None:
        nonlocal most, total
        most = max(most, world.network.queued(*link))
        if isinstance(envelope.message, SnapshotPart) and envelope.message.piece is not None:
            total = envelope.message.piece.total

    world.network.observe = measure
    world.network.isolate()
    term = leader.status().term
    await world.settled()
    assert follower.machine.restores == 1
    assert total > 20 * PIECE_BYTES
    assert 0 < most <= world.network.queue_limit + 3 * PIECE_BYTES
    assert leader.status().term == term


@in_world(members=5, policy=OFTEN)
async def test_two_members_far_behind_get_no_snapshot_that_the_log_does_not_continue_any_more(
    world: World,
) -> None:
    """Each begins in the middle of the other's transfer, so there is always one under way."""
    leader = await world.elected()
    first, second = world.followers()[:2]
    for member in (first, second):
        world.network.links[leader.raft_id, member.raft_id] = Quality(bytes_per_second=2_000_000)
    world.network.isolate(first.raft_id, second.raft_id)
    await world.write_many(leader, 100, size=5000)
    world.network.isolate(second.raft_id)
    await world.until(lambda: leader._driver.snapshotter.can_send)  # type: ignore[union-attr]
    await asyncio.sleep(0.1)
    world.network.isolate()
    await world.write_many(leader, 100, size=5000)
    await world.settled(10)
    assert first.machine.values == second.machine.values == leader.machine.values


# -- Bad peers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_a_hostile_peer_neither_stops_nor_moves_anybody(seed: int) -> None:
    async def story(world: World) -> None:
        await world.found(3)
        leader = await world.elected()
        term = leader.status().term
        rng = random.Random(seed)
        number = (0, 1, 2, 5, term, 1 << 40, (1 << 62) - 1, 1 << 62, (1 << 63) + 5, (1 << 64) - 1)
        ids = [*(node.raft_id for node in world.nodes), 77, 0]
        world.background(world.client(0.05))
        for _ in range(400):
            target = rng.choice(world.nodes).raft_id
            source = rng.choice([raft_id for raft_id in ids if raft_id != target])
            message = _nonsense(rng, number)
            world.network.inject(Envelope(source, target, rng.choice((0, 1 << 62, (1 << 64) - 1)), message))
            await asyncio.sleep(rng.random() * 0.02)
        await world.end_background()
        assert leader.status().term == term
        assert leader.may_propose
        await world.settled()

    world = simulate(seed, story)
    assert len(world.checker.acknowledged) > 50


def _nonsense(rng: random.Random, number: Sequence[int]) -> Message:
    n = partial(rng.choice, number)
    command = rng.choice(
        [b"", b"\x02" + pickle.dumps(["add", "x"]), b"\x03" + pickle.dumps(7), b"\xff", b"\x00"]
    )
    messages: list[Message] = [
        Append(n(), n(), n(), [Entry(command, n(), n()) for _ in range(rng.randint(0, 3))]),
        SnapshotPart(Piece(n(), n(), n(), n(), pickle.dumps("snapshot"))),
        Reply(n(), rng.random() < 0.5, rng.random() < 0.5),
        VoteRequest(n(), n(), rng.random() < 0.5),
        Vote(),
        PreVoteRequest(n(), n(), n()),
        PreVote(n()),
        TimeoutNow(),
        TermNotice(),
    ]
    return rng.choice(messages)
