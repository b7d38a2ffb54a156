"""contract/raft-store-manager.md, 7 to 10 and 14; contract/pysyncobj-hazards.md, 7 to 11: one member."""

import asyncio

import pytest

from swarmkit.api import messages as api
from swarmkit.raft import (
    ApplyError,
    DiskFullError,
    ForeignStateError,
    MembershipError,
    ProposalQueueFullError,
    RaftConfig,
    RaftConfigError,
    SnapshotPolicy,
    WriteFailedError,
    WrongKeyError,
)
from swarmkit.raft.driver import Lanes
from swarmkit.store.proposer import (
    MAX_PROPOSAL_BYTES,
    LeadershipLostError,
    ProposalTooLargeError,
    StoppedError,
)
from tests.fakes.keys import FakeKeys
from tests.fakes.lanes import InlineLane
from tests.fakes.raft import Bench

#: The library's first entry, the founder's member record, the no-op of the first term.
FIRST_INDEX = 4


async def test_a_founder_leads_at_once_and_announces_it(bench: Bench) -> None:
    node = bench.node()
    assert not node.may_propose
    await node.start()
    await node.lead()

    assert asyncio.get_running_loop().time() < 0.1  # no election time-out for a lone member (H18)
    assert node.heard == [True]
    assert node.is_leader
    assert node.leader_id == node.raft_id > 0


async def test_a_proposal_gets_the_index_that_was_foretold_and_is_applied_before_it_ends(
    bench: Bench,
) -> None:
    node = await bench.started()
    assert node.next_index() == FIRST_INDEX
    first, second = node.propose(b"first"), node.propose(b"second")
    assert node.next_index() == FIRST_INDEX + 2

    assert await second == FIRST_INDEX + 1
    assert first.done()
    assert node.machine.entries == [(FIRST_INDEX, b"first"), (FIRST_INDEX + 1, b"second")]


async def test_proposals_that_wait_share_one_sync(bench: Bench) -> None:
    node = await bench.started(latency=0.01)
    bench.disk.log.clear()
    first = node.propose(b"0")
    await asyncio.sleep(0.005)  # its sync is under way
    await node.write(*(b"%d" % i for i in range(1, 101)))

    assert first.done()
    assert bench.disk.log.count("sync") == 2
    assert len(node.machine.entries) == 101


async def test_proposals_that_come_at_successive_turns_of_the_loop_share_one_sync(bench: Bench) -> None:
    node = await bench.started()
    bench.disk.log.clear()
    futures = [node.propose(b"first"), node.propose(b"second")]
    for number in range(20):
        for _ in range(number % 10):  # a call is on its way from the network for some turns
            await asyncio.sleep(0)
        futures.append(node.propose(b"%d" % number))
    await asyncio.gather(*futures)
    assert bench.disk.log.count("sync") == 1


async def test_who_proposes_alone_is_not_held_up(bench: Bench) -> None:
    node = await bench.started()
    bench.disk.log.clear()
    future = node.propose(b"alone")
    turns = 0
    while not bench.disk.log.count("sync"):
        await asyncio.sleep(0)
        turns += 1
    assert turns < 8  # those of a cycle up to its sync
    await future


async def test_gathering_ends_though_more_and_more_come(bench: Bench) -> None:
    node = await bench.started()
    bench.disk.log.clear()
    futures = [node.propose(b"first"), node.propose(b"second")]
    while not bench.disk.log.count("sync"):
        futures.append(node.propose(b"one more"))
        await asyncio.sleep(0)
    assert 32 < len(futures) < 100
    await asyncio.gather(*futures)


async def test_a_stop_in_the_middle_of_gathering_is_not_missed(bench: Bench) -> None:
    node = await bench.started()
    futures = [node.propose(b"first"), node.propose(b"second")]
    for _ in range(3):
        await asyncio.sleep(0)
    await node.stop()
    for future in futures:
        with pytest.raises(StoppedError):
            await future


async def test_nothing_is_acknowledged_or_applied_before_its_sync(bench: Bench) -> None:
    node = await bench.started(latency=1.0)
    future = node.propose(b"slow disk")
    await asyncio.sleep(0.9)
    assert not future.done()
    assert node.machine.entries == []

    await asyncio.sleep(0.2)
    assert future.done()


async def test_an_idle_leader_of_one_sleeps(bench: Bench) -> None:
    node = await bench.started()
    ticks = 0
    driver = node._driver
    assert driver is not None
    tick = driver.library.tick

    def count() -> None:
        nonlocal ticks
        ticks += 1
        tick()

    driver.library.tick = count  # type: ignore[method-assign]
    await asyncio.sleep(3600)
    assert ticks == 0


async def test_restart_replays_to_the_same_state(bench: Bench) -> None:
    node = await bench.started()
    await node.write(*(b"value %d" % i for i in range(1200)))
    raft_id, term = node.raft_id, node.status().term

    again = await bench.restarted()

    assert again.machine.entries == node.machine.entries
    assert again.raft_id == raft_id
    assert again.status().term == term + 1
    assert again.machine.calls[:1] == [f"apply {FIRST_INDEX}"]  # restored before leading is announced


async def test_replay_at_start_yields_to_the_loop(bench: Bench) -> None:
    node = await bench.started()
    await node.write(*(b"%d" % i for i in range(3000)))
    await node.stop()
    other_turns = 0

    async def other() -> None:
        nonlocal other_turns
        while True:
            other_turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    again = bench.node()
    await again.start()
    task.cancel()
    assert len(again.machine.entries) == 3000
    assert other_turns >= 3000 // 500


async def test_proposals_are_refused_before_leadership_is_announced(bench: Bench) -> None:
    node = bench.node()
    with pytest.raises(StoppedError):
        node.propose(b"too early")
    await node.start()
    with pytest.raises(LeadershipLostError, match="node lost leader status"):
        node.propose(b"still too early")


async def test_the_size_limit_is_exact(bench: Bench) -> None:
    node = await bench.started()
    await node.propose(bytes(MAX_PROPOSAL_BYTES))
    index = node.next_index()
    with pytest.raises(ProposalTooLargeError):
        node.propose(bytes(MAX_PROPOSAL_BYTES + 1))
    assert await node.propose(b"next") == index


async def test_too_many_waiting_proposals_are_refused_without_harm_to_the_others(bench: Bench) -> None:
    node = await bench.started(config=RaftConfig(max_waiting_proposals=3))
    waiting = [node.propose(b"x") for _ in range(3)]
    with pytest.raises(ProposalQueueFullError):
        node.propose(b"one more")
    await asyncio.gather(*waiting)
    await node.propose(b"now there is room")


async def test_a_proposal_given_up_by_its_author_is_applied_all_the_same(bench: Bench) -> None:
    node = await bench.started(latency=0.01)
    given_up, kept = node.propose(b"given up"), node.propose(b"kept")
    given_up.cancel()
    await kept
    assert node.machine.values == [b"given up", b"kept"]


async def test_stopping_fails_what_waits_in_order_and_after_the_overlay_is_dropped(bench: Bench) -> None:
    node = await bench.started(latency=1.0)
    futures = [node.propose(b"%d" % i) for i in range(3)]
    order: list[int] = []
    for future in futures:
        future.add_done_callback(lambda future: order.append(futures.index(future)))
    await asyncio.sleep(0.5)
    await node.stop()

    assert [type(future.exception()) for future in futures] == [StoppedError] * 3
    assert order == [0, 1, 2]
    assert node.machine.calls[-2:] == ["leading False", "leadership_lost"]
    assert node.heard == [True, False]
    await node.stop()
    with pytest.raises(StoppedError):
        node.propose(b"too late")


async def test_a_failed_proposal_may_still_take_effect_later(bench: Bench) -> None:
    node = await bench.started(latency=1.0)
    future = node.propose(b"unknown")
    await asyncio.sleep(0.5)
    await node.stop()
    assert isinstance(future.exception(), StoppedError)

    again = await bench.started()
    assert again.machine.values == [b"unknown"]


async def test_an_entry_that_cannot_be_applied_stops_the_node_loudly(bench: Bench) -> None:
    node = await bench.started()
    await node.propose(b"good")
    node.machine.fail_on = b"bad"
    futures = [node.propose(value) for value in (b"bad", b"after")]
    await asyncio.wait(futures)
    await asyncio.sleep(0.1)

    assert [type(future.exception()) for future in futures] == [StoppedError] * 2
    assert node.machine.values == [b"good"]  # nothing behind the failure is applied
    assert [type(error) for error in node.fatal] == [ApplyError]
    assert "entry 5: refused by the test" in str(node.fatal[0])
    assert node.heard == [True, False]
    assert not node.may_propose


@pytest.mark.parametrize(
    ("number", "kind"), [(28, DiskFullError), (5, WriteFailedError)], ids=["disk full", "I/O error"]
)
async def test_a_failed_sync_stops_the_node_and_acknowledges_nothing(
    bench: Bench, number: int, kind: type[Exception]
) -> None:
    node = await bench.started()
    bench.disk.sync_error = OSError(number, "broken")
    future = node.propose(b"lost")
    await asyncio.wait([future])
    await asyncio.sleep(0.1)

    assert isinstance(future.exception(), StoppedError)
    assert node.machine.entries == []
    assert [type(error) for error in node.fatal] == [kind]
    syncs = bench.disk.log.count("sync")
    await node.stop()
    assert bench.disk.log.count("sync") == syncs  # never retried


async def test_a_wrong_key_and_a_foreign_directory_are_refused_untouched(bench: Bench) -> None:
    node = await bench.started()
    await node.propose(b"precious")
    await node.stop()
    before = {path: bench.disk.read(path) for path in bench.disk.paths("")}

    with pytest.raises(WrongKeyError):
        await bench.node(keys=FakeKeys(bytes(32))).start()
    with pytest.raises(ForeignStateError, match="belongs to node node-1, this is node node-2"):
        await bench.node(node_id="node-2").start()
    assert {path: bench.disk.read(path) for path in bench.disk.paths("")} == before
    assert (await bench.started()).machine.values == [b"precious"]


async def test_snapshots_are_taken_and_old_segments_go(bench: Bench) -> None:
    def policy() -> SnapshotPolicy:
        return SnapshotPolicy(interval=100, keep_entries=20)

    node = await bench.started(policy=policy)
    for start in range(0, 1000, 10):
        await node.write(*(b"%d" % i for i in range(start, start + 10)))
    await asyncio.sleep(0.1)

    status = node.status()
    assert len(bench.disk.paths(".snap")) == 1
    assert status.snapshot_index > 800
    assert status.first_index <= status.snapshot_index - 20
    assert status.first_index > status.snapshot_index - 40
    assert len(bench.disk.paths(".wal")) < 15

    again = await bench.restarted(policy=policy)
    assert again.machine.calls[0] == "restore"
    assert again.machine.entries == node.machine.entries
    assert again.status().snapshot_index >= status.snapshot_index


async def test_old_snapshots_are_kept_as_asked_and_the_log_reaches_back_to_them(bench: Bench) -> None:
    node = await bench.started(policy=lambda: SnapshotPolicy(interval=50, keep_entries=0, keep_old=2))
    for i in range(400):
        await node.propose(b"%d" % i)
    assert len(bench.disk.paths(".snap")) == 3

    for path in bench.disk.paths(".snap")[1:]:
        bench.disk.delete(path)  # an operator falls back on the oldest
    again = await bench.restarted()
    assert again.machine.values == node.machine.values


async def test_an_interval_of_zero_takes_none(bench: Bench) -> None:
    node = await bench.started(policy=lambda: SnapshotPolicy(interval=0))
    await node.write(*(b"%d" % i for i in range(200)))
    assert bench.disk.paths(".snap") == []


async def test_a_snapshot_that_cannot_be_written_is_tried_again_and_harms_nothing(bench: Bench) -> None:
    node = bench.node(policy=lambda: SnapshotPolicy(interval=10, keep_entries=0))

    class FailingLane(InlineLane):
        async def run(self, call):  # type: ignore[no-untyped-def]
            bench.disk.sync_error = OSError(28, "No space left on device")
            try:
                return call()
            finally:
                bench.disk.sync_error = None

    inner = node._lanes.snapshots
    node._lanes = Lanes(node._lanes.log, FailingLane())
    await node.start()
    await node.lead()
    await node.write(*(b"%d" % i for i in range(30)))
    assert bench.disk.paths("") == bench.disk.paths(".wal")  # not even a leftover
    assert node.status().first_index == 1

    driver = node._driver
    assert driver is not None
    driver.snapshotter._lane = inner
    await node.propose(b"later entry")
    await node.propose(b"and one more")
    await asyncio.sleep(0.1)
    assert node.status().snapshot_index >= 30
    assert not node.fatal


async def test_changes_since_hands_out_the_stores_entries_alone(bench: Bench) -> None:
    node = await bench.started(policy=lambda: SnapshotPolicy(interval=20, keep_entries=5))
    await node.write(b"a", b"b", b"c")

    assert list(node.changes_since(0) or ()) == [(4, b"a"), (5, b"b"), (6, b"c")]
    assert list(node.changes_since(5) or ()) == [(6, b"c")]
    assert node.changes_since(6) == []
    assert node.changes_since(7) is None

    await node.write(*(b"%d" % i for i in range(40)))
    await asyncio.sleep(0.1)
    await node.propose(b"last")
    first = node.status().first_index
    assert first > 4
    assert node.changes_since(first - 2) is None
    assert len(list(node.changes_since(first - 1) or ())) == node.status().applied_index - first + 1


async def test_the_founder_is_the_first_member(bench: Bench) -> None:
    node = await bench.started(addr="10.0.0.1:4242")

    assert node.members() == [
        api.RaftMember(
            raft_id=node.raft_id,
            node_id="node-1",
            addr="10.0.0.1:4242",
            status=api.RaftMemberStatus(leader=True, reachability=api.RaftMemberStatus.REACHABLE),
        )
    ]


async def test_an_address_bound_late_is_committed_and_survives(bench: Bench) -> None:
    node = await bench.started(addr="")
    seen: list[list[str]] = []
    end = node.watch_members(lambda members: seen.append([member.addr for member in members]))
    node.set_address("10.0.0.9:4242")
    await asyncio.sleep(0.1)

    assert seen == [["10.0.0.9:4242"]]
    end()
    again = await bench.restarted(addr="")
    assert [member.addr for member in again.members()] == ["10.0.0.9:4242"]
    moved = await bench.restarted(addr="10.0.0.10:4242")
    await asyncio.sleep(0.1)
    assert [member.addr for member in moved.members()] == ["10.0.0.10:4242"]


async def test_changes_of_the_group_go_one_at_a_time_and_invalid_ones_change_nothing(bench: Bench) -> None:
    node = await bench.started(latency=0.01)
    first = asyncio.create_task(node.group.add("node-1", "10.0.0.5:1"))
    await asyncio.sleep(0)
    with pytest.raises(MembershipError, match="under way"):
        await node.group.add("node-1", "10.0.0.6:1")
    assert await first == node.raft_id

    index = node.next_index()
    assert await node.group.add("node-1", "10.0.0.5:1") == node.raft_id
    with pytest.raises(MembershipError, match="4d not found"):
        await node.group.remove(77)
    with pytest.raises(MembershipError, match="last one"):
        await node.group.remove(node.raft_id)
    with pytest.raises(MembershipError, match=r"address 10\.0\.0\.5:1 belongs"):
        await node.group.add("node-2", "10.0.0.5:1")
    with pytest.raises(MembershipError, match="needs a node id and an address"):
        await node.group.add("node-2", "")
    assert node.next_index() == index
    assert await node.group.add("node-1", "10.0.0.7:1") == node.raft_id


async def test_erasing_leaves_nothing_and_the_next_start_founds_anew(bench: Bench) -> None:
    node = await bench.started(policy=lambda: SnapshotPolicy(interval=10))
    await node.write(*(b"%d" % i for i in range(30)))
    await node.stop(erase=True)
    assert bench.disk.paths("") == []

    again = await bench.started()
    assert again.raft_id != node.raft_id
    assert again.machine.entries == []


def test_settings_that_cannot_work_are_refused(bench: Bench) -> None:
    with pytest.raises(RaftConfigError):
        bench.node(config=RaftConfig(heartbeat_seconds=1.0))
