"""Leader start, expiry and orphans (contract/dispatcher-agent.md, 3.1, 3.2, 3.4, 3.6; cases 1 to 11)."""

import asyncio

import grpc
import pytest

from swarmkit.api import messages as api
from swarmkit.manager.dispatcher import DispatcherConfig
from swarmkit.net.errors import RpcError
from tests.fakes.loop import VirtualClock, VirtualLoop
from tests.unit.manager.dispatcher.bench import Bench, Worker, cluster, node, task

DOWN = api.NodeStatus.DOWN
READY = api.NodeStatus.READY
UNKNOWN = api.NodeStatus.UNKNOWN
UNKNOWN_MESSAGE = 'Node moved to "unknown" state due to leadership change in cluster'


async def test_registering_again_without_an_id_gives_another_session(bench: Bench) -> None:
    worker = await bench.worker()
    await worker.register()
    first = worker.session_id
    await worker.register()
    assert len(first) == 25
    assert worker.session_id != first


async def test_an_unknown_session_id_silently_gives_a_new_session(bench: Bench) -> None:
    worker = await bench.worker()
    await worker.register("from another leader")
    assert worker.session_id not in ("", "from another leader")


async def test_the_first_message_comes_within_the_flush_time_and_shows_the_node_ready(bench: Bench) -> None:
    worker = await bench.worker()
    stream = worker.open_session(hostname="box")
    message = await stream.next()
    assert bench.clock.monotonic() == pytest.approx(0.1)
    assert message.node.status == api.NodeStatus(state=READY, addr="10.0.0.7")
    assert message.node.description.hostname == "box"
    assert message.node == bench.node("worker")
    await asyncio.sleep(1)
    assert stream.received == [message]


async def test_resuming_keeps_the_id_writes_the_description_and_costs_no_registration(bench: Bench) -> None:
    worker = await bench.worker()
    await worker.register(hostname="old")
    first = worker.session_id
    for number in range(20):
        stream = await worker.register(first, hostname=f"new-{number}")
        assert worker.session_id == first
        assert stream.received[0].node.description.hostname == f"new-{number}"
    assert bench.node("worker").description.hostname == "new-19"


async def test_resuming_does_not_move_the_heartbeat_deadline(bench: Bench) -> None:
    worker = await bench.worker()
    await worker.register()
    for _ in range(4):
        await asyncio.sleep(3)
        await worker.register(worker.session_id)
    await asyncio.sleep(4.5)
    assert bench.node("worker").status.state == DOWN


async def test_a_session_without_a_description_keeps_the_stored_one(bench: Bench) -> None:
    worker = await bench.worker()
    await worker.register()
    assert bench.node("worker").description.hostname == "host-worker"


async def test_an_address_that_cannot_be_read_keeps_the_stored_one(bench: Bench) -> None:
    await (await bench.worker()).register()
    await Worker(bench, "worker", addr="unix:").register()
    assert bench.node("worker").status.addr == "10.0.0.7"


async def test_the_fourth_registration_after_leader_start_is_unavailable(idle_bench: Bench) -> None:
    worker = await idle_bench.worker()
    await idle_bench.start()
    for _ in range(3):
        await worker.register()
    error = await worker.open_session().end()
    assert error is not None
    assert error.code == grpc.StatusCode.UNAVAILABLE
    assert error.text == "node worker exceeded rate limit count of registrations"
    await asyncio.sleep(8)
    await worker.register()


async def test_a_node_that_does_not_exist_is_refused(bench: Bench) -> None:
    error = await Worker(bench, "stranger").open_session().end()
    assert error is not None
    assert (error.code, error.text) == (grpc.StatusCode.UNKNOWN, "node not found")


async def test_a_node_removed_while_it_registers_is_refused(bench: Bench) -> None:
    worker = await bench.worker()
    stream = worker.open_session()
    await asyncio.sleep(0.05)
    await bench.delete(api.Node, "worker")
    error = await stream.end()
    assert error is not None
    assert error.text == "node not found"


async def test_a_registration_that_breaks_off_leaves_a_node_that_expires(bench: Bench) -> None:
    worker = await bench.worker()
    stream = worker.open_session()
    await asyncio.sleep(0.05)
    await stream.cancel()
    await asyncio.sleep(1)
    assert bench.node("worker").status.state == READY
    await asyncio.sleep(16)
    assert bench.node("worker").status.state == DOWN


async def test_many_nodes_register_in_one_write(bench: Bench) -> None:
    workers = [await bench.worker(f"n{number}") for number in range(300)]
    commits = bench.store.version
    streams = [worker.open_session() for worker in workers]
    for stream in streams:
        assert (await stream.next()).node.status.state == READY
    assert bench.store.version - commits == 2  # 300 changes, 200 a proposal


# Heartbeats


async def test_a_beat_needs_the_session_id_and_answers_with_a_period(bench: Bench) -> None:
    worker = await bench.worker()
    await worker.register()
    with pytest.raises(RpcError) as caught:
        await worker.heartbeat("")
    assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT
    assert 4.5 <= await worker.heartbeat() < 5.5


async def test_a_node_that_beats_at_the_end_of_its_time_stays_ready(bench: Bench) -> None:
    worker = await bench.worker()
    await worker.register()
    await asyncio.sleep(13)
    for _ in range(20):
        period = await worker.heartbeat()
        await asyncio.sleep(3 * period - 0.01)
        assert bench.node("worker").status.state == READY


async def test_a_silent_node_goes_down_after_three_periods(bench: Bench) -> None:
    worker = await bench.worker()
    await worker.register()
    await asyncio.sleep(13.3)
    assert bench.node("worker").status.state == READY
    await asyncio.sleep(3.4)
    assert bench.node("worker").status == api.NodeStatus(
        state=DOWN, message="heartbeat failure", addr="10.0.0.7"
    )
    with pytest.raises(RpcError, match="node not registered") as caught:
        await worker.heartbeat()
    assert caught.value.code == grpc.StatusCode.NOT_FOUND


async def test_a_changed_period_holds_for_the_next_beat(bench: Bench) -> None:
    worker = await bench.worker()
    await worker.register()

    def shorten(stored: api.Cluster) -> None:
        stored.spec.dispatcher.heartbeat_period.seconds = 1

    await bench.change(api.Cluster, "cluster", shorten)
    await asyncio.sleep(12)
    assert bench.node("worker").status.state == READY
    assert 0.5 <= await worker.heartbeat() < 1.5
    await asyncio.sleep(4.8)
    assert bench.node("worker").status.state == DOWN


async def test_a_program_that_stood_still_reads_the_beats_that_wait_before_it_judges(bench: Bench) -> None:
    worker, silent = await bench.worker(), await bench.worker("silent")
    await worker.register()
    await silent.register()
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop._jumping.offset += 60
    await asyncio.sleep(0.2)
    await worker.heartbeat()
    await asyncio.sleep(2)
    assert bench.node("worker").status.state == READY
    assert bench.node("silent").status.state == DOWN


# Leader start


async def test_leader_start_makes_nodes_unknown_except_those_down(idle_bench: Bench) -> None:
    for number, state in enumerate(api.NodeStatus.State.values()):
        made = node(f"n{number}", state)
        made.status.addr = f"10.0.0.{number}"
        await idle_bench.create(made)
    await idle_bench.start()
    for number, state in enumerate(api.NodeStatus.State.values()):
        status = idle_bench.node(f"n{number}").status
        assert status.addr == f"10.0.0.{number}"
        expected = (DOWN, "") if state == DOWN else (UNKNOWN, UNKNOWN_MESSAGE)
        assert (status.state, status.message) == expected


async def test_an_unknown_node_may_not_beat_and_goes_down_after_six_periods(idle_bench: Bench) -> None:
    worker = await idle_bench.worker()
    await idle_bench.start()
    for session_id in ("", "old"):
        with pytest.raises(RpcError, match="session invalid") as caught:
            await worker.heartbeat(session_id)
        assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT
    await asyncio.sleep(26.9)
    assert idle_bench.node("worker").status.state == UNKNOWN
    await asyncio.sleep(6.3)
    status = idle_bench.node("worker").status
    assert (status.state, status.message) == (DOWN, 'heartbeat failure for node in "unknown" state')


async def test_an_unknown_node_that_comes_forward_is_ready(idle_bench: Bench) -> None:
    worker = await idle_bench.worker()
    await idle_bench.start()
    await asyncio.sleep(26)
    await worker.register()
    await asyncio.sleep(10)
    assert idle_bench.node("worker").status == api.NodeStatus(state=READY, addr="10.0.0.7")


async def test_a_node_created_later_has_no_timer(bench: Bench) -> None:
    await bench.worker()
    await asyncio.sleep(100)
    assert bench.node("worker").status.state == UNKNOWN


async def test_a_removed_node_that_expires_is_forgotten(bench: Bench) -> None:
    worker = await bench.worker()
    await worker.register()
    await bench.create(task("t"))
    await bench.delete(api.Node, "worker")
    await asyncio.sleep(48 * 3600)
    assert bench.task("t").status.state == api.TaskState.ASSIGNED
    assert bench.dispatcher.tenure.nodes.next_deadline() is None


async def test_without_a_cluster_object_the_default_period_holds(clock: VirtualClock) -> None:
    bench = Bench(clock)
    await bench.start()
    worker = await bench.worker()
    await worker.register()
    assert 4.5 <= await worker.heartbeat() < 5.5
    await bench.create(cluster())
    await asyncio.sleep(0.1)
    assert bench.dispatcher.tenure.hub.message("s", api.Node()).RootCA
    await bench.close()


# Orphans


@pytest.fixture
async def short(clock: VirtualClock) -> Bench:
    """A bench whose DOWN nodes lose their tasks after a minute."""
    made = Bench(clock, DispatcherConfig(orphan_seconds=60.0))
    await made.create(cluster())
    return made


async def down_node(bench: Bench) -> Worker:
    """Start with a node that has gone DOWN by the time of return, and with a task in each state."""
    await bench.start()
    worker = await bench.worker()
    for state in api.TaskState.values():
        await bench.create(task(api.TaskState.Name(state), state=state))
    await worker.register()
    for _ in range(170):
        await asyncio.sleep(0.1)
        if bench.node("worker").status.state == DOWN:
            return worker
    raise AssertionError("the node did not go down")


async def test_the_tasks_of_a_node_down_for_too_long_are_orphaned_unless_finished(short: Bench) -> None:
    await down_node(short)
    await asyncio.sleep(59)
    for state in api.TaskState.values():
        assert short.task(api.TaskState.Name(state)).status.state == state
    await asyncio.sleep(2)
    for state in api.TaskState.values():
        lost = api.TaskState.ASSIGNED <= state <= api.TaskState.RUNNING
        expected = api.TaskState.ORPHANED if lost else state
        assert short.task(api.TaskState.Name(state)).status == api.TaskStatus(state=expected)
    await short.close()


async def test_a_node_that_comes_back_in_time_keeps_its_tasks(short: Bench) -> None:
    worker = await down_node(short)
    await asyncio.sleep(59)
    await worker.register()
    for _ in range(100):
        await asyncio.sleep(await worker.heartbeat())
    assert short.task("RUNNING").status.state == api.TaskState.RUNNING
    await short.close()


async def test_a_new_leader_starts_the_orphan_timer_of_a_down_node_again(short: Bench) -> None:
    await down_node(short)
    await asyncio.sleep(50)
    await short.stop()
    await short.start()
    await asyncio.sleep(59)
    assert short.task("RUNNING").status.state == api.TaskState.RUNNING
    await asyncio.sleep(2)
    assert short.task("RUNNING").status.state == api.TaskState.ORPHANED
    await short.close()
