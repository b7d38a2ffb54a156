"""The streams to a worker (contract/dispatcher-agent.md, 3.3, 3.9, 3.10; cases 12 to 14, 23 to 39)."""

import asyncio

import grpc
import pytest

from swarmkit.api import messages as api
from swarmkit.net.errors import RpcError
from tests.unit.manager.dispatcher.bench import Bench, Stream, Worker, status, task

COMPLETE = api.AssignmentsMessage.COMPLETE
INCREMENTAL = api.AssignmentsMessage.INCREMENTAL
RUNNING = api.TaskState.RUNNING
FAILED = api.TaskState.FAILED


@pytest.fixture
async def worker(bench: Bench) -> Worker:
    """A registered worker that beats on time."""
    made = await bench.worker()
    await made.register()

    async def beat() -> None:
        while True:
            period = await made.heartbeat()
            await asyncio.sleep(period)

    bench.beats.append(asyncio.get_running_loop().create_task(beat()))
    return made


async def quiet(stream: Stream[api.AssignmentsMessage]) -> bool:
    """Tell whether nothing comes for a good while."""
    before = len(stream.received)
    await asyncio.sleep(1)
    return len(stream.received) == before and not stream.ended.is_set()


def ids(message: api.AssignmentsMessage) -> list[str]:
    return sorted(change.assignment.task.id for change in message.changes)


# Session


async def test_keys_then_peers_then_root_change_give_three_complete_messages(bench: Bench) -> None:
    stream = await (await bench.worker()).register()

    def rotate(cluster: api.Cluster) -> None:
        cluster.network_bootstrap_keys.add(subsystem="networking:ipsec", key=b"i" * 16, lamport_time=2)

    await bench.change(api.Cluster, "cluster", rotate)
    keys = await stream.next()
    bench.peers = [*bench.peers, api.Peer(node_id="second", addr="10.0.0.2:4242")]
    for callback in bench.peers_changed:
        callback()
    peers = await stream.next()
    await bench.change(api.Cluster, "cluster", lambda cluster: setattr(cluster.root_ca, "ca_cert", b"next"))
    root = await stream.next()

    assert [k.lamport_time for k in keys.network_bootstrap_keys] == [1, 2]
    assert [len(m.managers) for m in (keys, peers, root)] == [1, 2, 2]
    assert (peers.RootCA, root.RootCA) == (b"-----BEGIN CERTIFICATE-----\nfirst\n", b"next")
    for message in stream.received:
        assert message.session_id == stream.received[0].session_id
        assert message.node == bench.node("worker")
        assert all(m.HasField("peer") and m.weight == 10 for m in message.managers)
        assert message.network_bootstrap_keys
        assert message.RootCA
    await asyncio.sleep(1)
    assert len(stream.received) == 4


async def test_a_cluster_update_that_changes_nothing_relevant_is_announced_too(bench: Bench) -> None:
    stream = await (await bench.worker()).register()
    await bench.rewrite(api.Cluster, "cluster")
    await stream.next()


async def test_every_change_of_the_nodes_own_object_is_announced_and_of_no_other(bench: Bench) -> None:
    stream = await (await bench.worker()).register()
    other = await (await bench.worker("other")).register()
    await asyncio.sleep(1)
    await bench.change(api.Node, "worker", lambda node: node.attachments.add(addresses=["10.1.0.2/24"]))
    assert (await stream.next()).node.attachments[0].addresses == ["10.1.0.2/24"]
    await asyncio.sleep(1)
    assert len(other.received) == 1


async def test_a_worker_that_reads_slowly_gets_the_newest_state_and_not_each_in_between(bench: Bench) -> None:
    stream = await (await bench.worker()).register()
    for number in range(50):
        await bench.store.update(lambda tx, number=number: _relabel(tx, number))  # type: ignore[misc]
    assert (await stream.next()).node.spec.annotations.labels["n"] == "49"


def _relabel(tx: object, number: int) -> None:
    node = api.Node()
    node.CopyFrom(tx.get(api.Node, "worker"))  # type: ignore[attr-defined]
    node.spec.annotations.labels["n"] = str(number)
    tx.update(node)  # type: ignore[attr-defined]


async def test_an_expired_node_is_shown_down_before_its_session_ends_not_found(bench: Bench) -> None:
    stream = await (await bench.worker()).register()
    error = await stream.end()
    assert bench.clock.monotonic() < 17.0
    last = stream.received[-1]
    assert (last.node.status.state, last.node.status.message) == (api.NodeStatus.DOWN, "heartbeat failure")
    assert error is not None
    assert (error.code, error.text) == (grpc.StatusCode.NOT_FOUND, "node not registered")


async def test_a_replaced_session_ends_invalid_after_its_next_message_and_not_before(bench: Bench) -> None:
    worker = await bench.worker()
    first = await worker.register()
    await worker.register()
    await asyncio.sleep(1)
    assert not first.ended.is_set()
    await bench.rewrite(api.Node, "worker")
    error = await first.end()
    assert error is not None
    assert (error.code, error.text) == (grpc.StatusCode.INVALID_ARGUMENT, "session invalid")


async def test_the_removal_of_a_node_object_does_not_end_its_session(bench: Bench) -> None:
    worker = await bench.worker()
    stream = await worker.register()
    await bench.delete(api.Node, "worker")
    await bench.rewrite(api.Cluster, "cluster")
    assert (await stream.next()).node.id == "worker"
    assert not stream.ended.is_set()


# Assignments


@pytest.mark.parametrize("session_id", ["", "stale"])
async def test_streams_without_the_session_id_are_invalid(worker: Worker, session_id: str) -> None:
    for stream in (worker.assignments(session_id), worker.tasks(session_id)):
        error = await stream.end()
        assert not stream.received
        assert error is not None
        assert error.code == grpc.StatusCode.INVALID_ARGUMENT


async def test_the_first_message_of_an_idle_node_is_complete_and_empty(worker: Worker) -> None:
    stream = worker.assignments()
    assert await stream.next() == api.AssignmentsMessage(type=COMPLETE, applies_to="", results_in="1")
    assert await quiet(stream)


async def test_messages_form_an_unbroken_chain(bench: Bench, worker: Worker) -> None:
    await bench.create(task("t0"))
    stream = worker.assignments()
    chain = [await stream.next()]
    for number in range(1, 13):
        await bench.create(task(f"t{number}"))
        await bench.rewrite(api.Task, f"t{number}")
        chain.append(await stream.next())
    assert [(m.type, m.applies_to, m.results_in) for m in chain] == [
        (COMPLETE, "", "1"),
        *((INCREMENTAL, str(n), str(n + 1)) for n in range(1, 13)),
    ]
    assert [ids(m) for m in chain] == [[f"t{n}"] for n in range(13)]


async def test_a_created_task_is_not_sent_until_it_is_updated(bench: Bench, worker: Worker) -> None:
    stream = worker.assignments()
    await stream.next()
    await bench.create(task("t"))
    assert await quiet(stream)
    await bench.rewrite(api.Task, "t")
    assert ids(await stream.next()) == ["t"]


async def test_tasks_of_other_nodes_are_not_sent(bench: Bench, worker: Worker) -> None:
    stream = worker.assignments()
    await stream.next()
    await bench.create(task("t", node_id="other"))
    await bench.rewrite(api.Task, "t")
    assert await quiet(stream)


async def test_changes_are_sent_a_tenth_of_a_second_after_the_last(bench: Bench, worker: Worker) -> None:
    for name in ("t1", "t2"):
        await bench.create(task(name, state=api.TaskState.PENDING))
    stream = worker.assignments()
    await stream.next()
    await asyncio.sleep(0.99)
    start = bench.clock.monotonic()
    await bench.change(api.Task, "t1", lambda t: setattr(t.status, "state", api.TaskState.ASSIGNED))
    await asyncio.sleep(0.09)
    await bench.change(api.Task, "t2", lambda t: setattr(t.status, "state", api.TaskState.ASSIGNED))
    assert ids(await stream.next()) == ["t1", "t2"]
    assert bench.clock.monotonic() - start == pytest.approx(0.19)


async def test_reports_that_change_nothing_do_not_hold_a_message_back(bench: Bench, worker: Worker) -> None:
    for name in ("busy", "t"):
        await bench.create(task(name, state=RUNNING))
    stream = worker.assignments()
    await stream.next()
    start = bench.clock.monotonic()
    await bench.change(api.Task, "t", lambda t: setattr(t, "desired_state", api.TaskState.SHUTDOWN))

    async def chatter() -> None:
        while True:
            await bench.rewrite(api.Task, "busy")
            await asyncio.sleep(0.05)

    chattering = asyncio.get_running_loop().create_task(chatter())
    assert ids(await stream.next()) == ["t"]
    assert bench.clock.monotonic() - start == pytest.approx(0.1)
    chattering.cancel()


async def test_create_update_and_delete_in_quick_order_give_one_message_of_removals(
    bench: Bench, worker: Worker
) -> None:
    stream = worker.assignments()
    await stream.next()
    made = task("t")
    made.spec.container.secrets.add(secret_id="s")
    await bench.create(api.Secret(id="s"), made)
    await bench.rewrite(api.Task, "t")
    await asyncio.sleep(0.05)
    await bench.delete(api.Task, "t")
    message = await stream.next()
    assert {change.action for change in message.changes} == {api.AssignmentChange.REMOVE}
    assert len(message.changes) == 2
    assert await quiet(stream)


async def test_a_status_alone_gives_no_message(bench: Bench, worker: Worker) -> None:
    await bench.create(task("t", state=RUNNING))
    stream = worker.assignments()
    await stream.next()
    await bench.change(api.Task, "t", lambda t: setattr(t.status, "state", FAILED))
    assert await quiet(stream)


async def test_changed_and_deleted_secrets_and_configs_give_no_message(bench: Bench, worker: Worker) -> None:
    secret, config = api.Secret(id="s"), api.Config(id="c")
    secret.spec.annotations.name = config.spec.annotations.name = "name"
    made = task("t", state=RUNNING)
    made.spec.container.secrets.add(secret_id="s")
    made.spec.container.configs.add(config_id="c")
    await bench.create(secret, config, made)
    stream = worker.assignments()
    assert len((await stream.next()).changes) == 3
    await bench.rewrite(api.Secret, "s")
    await bench.rewrite(api.Config, "c")
    await bench.delete(api.Secret, "s")
    await bench.delete(api.Config, "c")
    assert await quiet(stream)


async def test_a_message_is_cut_at_a_hundred_changes(bench: Bench, worker: Worker) -> None:
    stream = worker.assignments()
    await stream.next()

    def create(tx: object) -> None:
        for number in range(250):
            tx.create(task(f"t{number:03}"))  # type: ignore[attr-defined]

    def assign(tx: object) -> None:
        for number in range(250):
            tx.update(tx.get(api.Task, f"t{number:03}"))  # type: ignore[attr-defined]

    await bench.store.update(create)
    start = bench.clock.monotonic()
    await bench.store.update(assign)
    sizes = [len((await stream.next()).changes) for _ in range(2)]
    assert bench.clock.monotonic() == start
    sizes.append(len((await stream.next()).changes))
    assert sizes == [100, 100, 50]
    assert bench.clock.monotonic() - start == pytest.approx(0.1)


async def test_a_volume_is_announced_when_it_is_published(bench: Bench, worker: Worker) -> None:
    volume = api.Volume(id="v")
    volume.spec.driver.name = "csi"
    volume.publish_status.add(node_id="worker", state=api.VolumePublishStatus.PENDING_PUBLISH)
    await bench.create(volume)
    stream = worker.assignments()
    assert not (await stream.next()).changes
    await bench.change(
        api.Volume,
        "v",
        lambda v: setattr(v.publish_status[0], "state", api.VolumePublishStatus.PUBLISHED),
    )
    message = await stream.next()
    assert [change.assignment.volume.id for change in message.changes] == ["v"]


async def test_a_stream_that_starts_before_a_volumes_event_is_handed_on_sees_no_older_state(
    bench: Bench, worker: Worker
) -> None:
    volume = api.Volume(id="v")
    volume.spec.driver.name = "csi"
    volume.publish_status.add(node_id="worker", state=api.VolumePublishStatus.PUBLISHED)
    await bench.create(volume)

    def leave(stored: api.Volume) -> None:
        stored.publish_status[0].state = api.VolumePublishStatus.PENDING_NODE_UNPUBLISH

    stream = worker.assignments()
    # Both commits are done before the stream starts to read, and handed on after it did.
    await bench.rewrite(api.Volume, "v")
    await bench.change(api.Volume, "v", leave)
    assert [change.action for change in (await stream.next()).changes] == [api.AssignmentChange.REMOVE]
    assert await quiet(stream)


async def test_volumes_do_not_disturb_the_legacy_stream(bench: Bench, worker: Worker) -> None:
    volume = api.Volume(id="v")
    volume.spec.driver.name = "csi"
    volume.publish_status.add(node_id="worker", state=api.VolumePublishStatus.PUBLISHED)
    await bench.create(volume)
    stream = worker.tasks()
    await stream.next()
    await bench.rewrite(api.Volume, "v")
    await asyncio.sleep(1)
    assert len(stream.received) == 1


async def test_the_stream_of_a_replaced_session_ends_invalid_after_its_next_message(
    bench: Bench, worker: Worker
) -> None:
    stream = worker.assignments()
    await stream.next()
    await worker.register()
    await bench.create(task("t"))
    await bench.rewrite(api.Task, "t")
    error = await stream.end()
    assert len(stream.received) == 2
    assert error is not None
    assert error.code == grpc.StatusCode.INVALID_ARGUMENT


async def test_the_stream_of_an_expired_node_ends_not_found(bench: Bench) -> None:
    worker = await bench.worker()
    await worker.register()
    error = await worker.assignments().end()
    assert bench.clock.monotonic() < 17.0
    assert error is not None
    assert error.code == grpc.StatusCode.NOT_FOUND


async def test_two_streams_of_one_node_count_each_for_itself(bench: Bench, worker: Worker) -> None:
    first, second = worker.assignments(), worker.assignments()
    for stream in (first, second):
        assert (await stream.next()).results_in == "1"
    await bench.create(task("t"))
    await bench.rewrite(api.Task, "t")
    for stream in (first, second):
        assert (await stream.next()).results_in == "2"


async def test_a_worker_that_goes_away_leaves_no_watcher_behind(bench: Bench, worker: Worker) -> None:
    before = len(bench.store._hub)
    streams = [worker.assignments(), worker.tasks()]
    for stream in streams:
        await stream.next()  # type: ignore[attr-defined]
    assert len(bench.store._hub) == before + 2
    await bench.create(task("t"))
    await asyncio.sleep(0.05)
    for stream in streams:
        await stream.cancel()  # type: ignore[attr-defined]
    assert len(bench.store._hub) == before


# Tasks


async def test_the_legacy_stream_lists_every_task_from_assigned_on(bench: Bench, worker: Worker) -> None:
    for state in api.TaskState.values():
        await bench.create(task(api.TaskState.Name(state), state=state))
    listed = (await worker.tasks().next()).tasks
    assert {t.status.state for t in listed} == {
        s for s in api.TaskState.values() if s >= api.TaskState.ASSIGNED
    }


async def test_the_legacy_stream_tells_of_creation_not_of_status_and_of_deletion(
    bench: Bench, worker: Worker
) -> None:
    stream = worker.tasks()
    assert not (await stream.next()).tasks
    await bench.create(task("t"))
    assert [t.id for t in (await stream.next()).tasks] == ["t"]
    await bench.change(api.Task, "t", lambda t: setattr(t.status, "state", RUNNING))
    await asyncio.sleep(1)
    assert len(stream.received) == 2
    await bench.delete(api.Task, "t")
    assert not (await stream.next()).tasks


async def test_the_legacy_stream_of_a_replaced_session_ends_before_its_next_message(
    bench: Bench, worker: Worker
) -> None:
    stream = worker.tasks()
    await stream.next()
    await worker.register()
    await bench.create(task("t"))
    error = await stream.end()
    assert len(stream.received) == 1
    assert error is not None
    assert error.code == grpc.StatusCode.INVALID_ARGUMENT


async def test_the_legacy_stream_sends_an_assigned_task_rewritten(bench: Bench, worker: Worker) -> None:
    await bench.create(task("t"))
    stream = worker.tasks()
    await stream.next()
    await bench.rewrite(api.Task, "t")
    assert [t.id for t in (await stream.next()).tasks] == ["t"]


async def test_an_unserved_dispatcher_refuses_streams_as_aborted(idle_bench: Bench) -> None:
    worker = await idle_bench.worker()
    for stream in (worker.open_session(), worker.assignments("x"), worker.tasks("x")):
        error = await stream.end()
        assert isinstance(error, RpcError)
        assert (error.code, error.text) == (grpc.StatusCode.ABORTED, "dispatcher is stopped")


async def test_reports_reach_the_store_and_do_not_come_back(bench: Bench, worker: Worker) -> None:
    await bench.create(task("t"))
    stream = worker.assignments()
    await stream.next()
    for state in (api.TaskState.ACCEPTED, api.TaskState.PREPARING, RUNNING):
        await worker.report(("t", status(state)))
        await asyncio.sleep(0.2)
        assert bench.task("t").status.state == state
    assert len(stream.received) == 1
