"""The batching writer (contract/dispatcher-agent.md, 3.2 and 3.7; case 21)."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from swarmkit.api import messages as api
from swarmkit.manager.dispatcher import DispatcherConfig
from swarmkit.manager.dispatcher.errors import DispatcherStoppedError
from swarmkit.manager.dispatcher.updates import NodeUpdate
from swarmkit.manager.dispatcher.writer import UpdateWriter, write_changes
from swarmkit.store import NotExistError, ProposalTooLargeError, Store, Tx, Watch
from tests.fakes.loop import VirtualClock
from tests.unit.manager.dispatcher.bench import node, status, task

RUNNING = api.TaskState.RUNNING
READY = NodeUpdate(api.NodeStatus.READY)


@pytest.fixture
async def store(clock: VirtualClock) -> Store:
    made = Store(clock)
    for name in ("t1", "t2", "t3"):
        await made.update(lambda tx, name=name: tx.create(task(name)))  # type: ignore[misc]
    await made.update(lambda tx: tx.create(node("n")))
    return made


@pytest.fixture
async def writer(store: Store, clock: VirtualClock) -> AsyncIterator[UpdateWriter]:
    made = UpdateWriter(store, clock, "leader", DispatcherConfig(flush_entries=3, gather_seconds=0.1))
    running = asyncio.get_running_loop().create_task(made.run())
    await asyncio.sleep(0)
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def state(store: Store, task_id: str) -> int:
    stored = store.view().get(api.Task, task_id)
    assert stored is not None
    return stored.status.state


async def test_reports_are_written_together_a_tenth_of_a_second_after_the_first(
    store: Store, writer: UpdateWriter
) -> None:
    version = store.version
    writer.put_task("t1", status(RUNNING))
    await asyncio.sleep(0.09)
    writer.put_task("t2", status(RUNNING))
    assert store.version == version
    await asyncio.sleep(0.011)
    assert store.version == version + 1
    assert state(store, "t1") == state(store, "t2") == RUNNING


async def test_many_reports_are_written_at_once(store: Store, writer: UpdateWriter) -> None:
    for name in ("t1", "t2", "t3"):
        writer.put_task(name, status(RUNNING))
    await asyncio.sleep(0.001)
    assert state(store, "t3") == RUNNING


async def test_one_commit_holds_tasks_then_nodes_then_volumes(store: Store, writer: UpdateWriter) -> None:
    volume = api.Volume(id="v")
    volume.spec.driver.name = "csi"
    volume.publish_status.add(node_id="n", state=api.VolumePublishStatus.PUBLISHED)
    await store.update(lambda tx: tx.create(volume))
    watcher = store.watch(Watch(api.Task), Watch(api.Node), Watch(api.Volume))
    writer.put_unpublished("v", "n")
    writer.put_node("n", READY)
    writer.put_task("t1", status(RUNNING))
    commit = await anext(watcher)
    assert [event.object.DESCRIPTOR.name for event in commit.events] == ["Task", "Node", "Volume"]


async def test_who_waits_for_a_node_is_woken_when_that_very_write_is_done(
    store: Store, writer: UpdateWriter, clock: VirtualClock
) -> None:
    writer.put_task("t1", status(RUNNING))
    await asyncio.sleep(0.05)
    await writer.write_node("n", READY)
    assert clock.monotonic() == pytest.approx(0.1)
    await writer.write_node("n", NodeUpdate(api.NodeStatus.DOWN))
    assert clock.monotonic() == pytest.approx(0.2)


async def test_an_object_that_is_gone_is_skipped(store: Store, writer: UpdateWriter) -> None:
    writer.put_task("gone", status(RUNNING))
    writer.put_node("gone", READY)
    writer.put_unpublished("gone", "n")
    writer.put_task("t1", status(RUNNING))
    await asyncio.sleep(1)
    assert state(store, "t1") == RUNNING


async def test_the_later_of_two_reports_is_the_one_compared_with_the_store(
    store: Store, writer: UpdateWriter
) -> None:
    writer.put_task("t1", status(RUNNING))
    await asyncio.sleep(1)
    writer.put_task("t1", status(api.TaskState.FAILED))
    writer.put_task("t1", status(api.TaskState.STARTING))
    await asyncio.sleep(1)
    assert state(store, "t1") == RUNNING


async def test_closing_releases_who_waits_for_a_write(store: Store, writer: UpdateWriter) -> None:
    waiting = asyncio.get_running_loop().create_task(writer.write_node("n", READY))
    await asyncio.sleep(0.05)
    writer.close()
    with pytest.raises(DispatcherStoppedError):
        await waiting


async def test_a_failing_change_is_logged_and_does_not_stop_the_others(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(tx: Tx) -> None:
        tx.update(_running(tx, "t2"))
        raise NotExistError

    def fail_otherwise(tx: Tx) -> None:
        tx.update(_running(tx, "t2"))
        raise ValueError("a defect")

    await write_changes(store, [fail, fail_otherwise, lambda tx: tx.create(task("t4"))])
    assert state(store, "t2") == api.TaskState.ASSIGNED
    assert state(store, "t4") == api.TaskState.ASSIGNED
    assert caplog.text.count("failed to write an update") == 2


def _running(tx: Tx, task_id: str) -> api.Task:
    running = api.Task()
    running.CopyFrom(tx.get(api.Task, task_id) or api.Task())
    running.status.state = RUNNING
    return running


class _Narrow:
    """A proposer that takes no large proposal and commits the others on the next turn of the loop."""

    def __init__(self, store: Store, limit: int) -> None:
        self.may_propose = True
        self._store = store
        self._limit = limit
        self._index = store.version

    def next_index(self) -> int:
        return self._index + 1

    def propose(self, data: bytes) -> "asyncio.Future[int]":
        if len(data) > self._limit:
            raise ProposalTooLargeError(len(data))
        self._index += 1
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def commit(index: int = self._index) -> None:
            self._store.apply(index, data)
            future.set_result(index)

        asyncio.get_running_loop().call_soon(commit)
        return future

    def changes_since(self, index: int) -> None:
        return None


async def test_a_change_too_large_to_propose_does_not_take_the_others_with_it(
    store: Store, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    store.attach(_Narrow(store, 2000))
    writer = UpdateWriter(store, clock, "leader", DispatcherConfig(gather_seconds=0.1))
    running = asyncio.get_running_loop().create_task(writer.run())
    writer.put_task("t1", status(RUNNING))
    writer.put_task("t2", status(RUNNING, "x" * 10_000))
    writer.put_task("t3", status(RUNNING))
    await asyncio.sleep(1)
    assert [state(store, name) for name in ("t1", "t2", "t3")] == [RUNNING, api.TaskState.ASSIGNED, RUNNING]
    assert "too large to be written" in caplog.text
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_after_a_quiet_time_a_report_is_written_at_once_and_then_at_most_every_tenth_of_a_second(
    store: Store, clock: VirtualClock
) -> None:
    config = DispatcherConfig()
    writer = UpdateWriter(store, clock, "leader", config)
    running = asyncio.create_task(writer.run())
    moments = []
    with store.watch() as watcher:
        started = clock.monotonic()
        for state in (api.TaskState.ACCEPTED, api.TaskState.PREPARING, api.TaskState.READY):
            writer.put_task("t1", api.TaskStatus(state=state))
            await anext(watcher)
            moments.append(round(clock.monotonic() - started, 3))
    running.cancel()
    await asyncio.wait([running])
    assert moments == [config.gather_seconds, 0.105, 0.205]
