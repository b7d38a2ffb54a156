"""Reports and errors as a worker sees them (contract/dispatcher-agent.md, 3.5 to 3.8; cases 5, 16 to 22)."""

import asyncio
import datetime
import inspect

import grpc
import pytest

from swarmkit.api import messages as api
from swarmkit.clock import timestamp
from swarmkit.manager.dispatcher import DispatcherService
from swarmkit.manager.dispatcher.errors import DispatcherError
from swarmkit.manager.dispatcher.service import _CODES
from swarmkit.net.caller import Caller
from swarmkit.net.errors import RpcError
from tests.unit.manager.dispatcher.bench import LEADER, Bench, Worker, status, task

ACCEPTED = api.TaskState.ACCEPTED
RUNNING = api.TaskState.RUNNING


@pytest.fixture
async def worker(bench: Bench) -> Worker:
    made = await bench.worker()
    await made.register()
    return made


async def test_reporting_with_a_wrong_session_id_is_invalid(bench: Bench, worker: Worker) -> None:
    await bench.create(task("t"))
    for session_id in ("", "stale"):
        calls = (
            worker.report(("t", status(RUNNING)), session_id=session_id),
            worker.report_unpublished("v", session_id=session_id),
        )
        for call in calls:
            with pytest.raises(RpcError) as caught:
                await call
            assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT
    await asyncio.sleep(1)
    assert bench.task("t").status.state == api.TaskState.ASSIGNED


async def test_one_foreign_task_refuses_the_whole_request(bench: Bench, worker: Worker) -> None:
    await bench.create(task("t1"), task("foreign", node_id="other"), task("t2"))
    with pytest.raises(RpcError) as caught:
        await worker.report(*((name, status(RUNNING)) for name in ("t1", "foreign", "t2")))
    assert caught.value.code == grpc.StatusCode.PERMISSION_DENIED
    await asyncio.sleep(1)
    for name in ("t1", "foreign", "t2"):
        assert bench.task(name).status.state == api.TaskState.ASSIGNED


async def test_an_older_state_succeeds_and_changes_nothing(bench: Bench, worker: Worker) -> None:
    await bench.create(task("t", state=api.TaskState.SHUTDOWN))
    before = bench.task("t")
    await worker.report(("t", status(RUNNING)))
    await asyncio.sleep(1)
    assert bench.task("t") == before


async def test_an_unknown_task_and_a_missing_status_succeed(bench: Bench, worker: Worker) -> None:
    await bench.create(task("t1"), task("t2"))
    await worker.report(("gone", status(RUNNING)), ("t1", None), ("t2", status(RUNNING)))
    await asyncio.sleep(1)
    assert bench.task("t1").status.state == api.TaskState.ASSIGNED
    assert bench.task("t2").status.state == RUNNING


async def test_a_state_that_does_not_exist_is_dropped_and_harms_nobody(bench: Bench, worker: Worker) -> None:
    await bench.create(task("t1"), task("t2"))
    await worker.report(("t1", status(513)), ("t2", status(RUNNING)))
    await asyncio.sleep(1)
    assert bench.task("t1").status.state == api.TaskState.ASSIGNED
    assert bench.task("t2").status.state == RUNNING
    assert await worker.heartbeat() > 0


async def test_the_leader_stamps_a_status_and_keeps_the_workers_time(bench: Bench, worker: Worker) -> None:
    await bench.create(task("t"))
    reported = status(ACCEPTED, "accepted")
    reported.timestamp.seconds = 1234
    flushed = timestamp(bench.clock.now() + datetime.timedelta(seconds=0.1))
    await worker.report(("t", reported))
    await asyncio.sleep(1)
    stored = bench.task("t").status
    assert stored.applied_by == LEADER
    assert stored.applied_at == flushed
    assert stored.timestamp.seconds == 1234
    assert stored.message == "accepted"


async def test_an_equal_state_refreshes_message_and_container(bench: Bench, worker: Worker) -> None:
    await bench.create(task("t", state=RUNNING))
    reported = status(RUNNING, "healthy")
    reported.container.container_id = "c1"
    await worker.report(("t", reported))
    await asyncio.sleep(1)
    assert bench.task("t").status.message == "healthy"
    assert bench.task("t").status.container.container_id == "c1"


async def test_a_repeated_report_is_not_written_again(bench: Bench, worker: Worker) -> None:
    await bench.create(task("t"))
    await worker.report(("t", status(RUNNING)))
    await asyncio.sleep(1)
    version = bench.store.version
    await worker.report(("t", status(RUNNING)))
    await asyncio.sleep(1)
    assert bench.store.version == version


async def test_reports_that_were_not_written_are_lost_when_the_dispatcher_stops(
    bench: Bench, worker: Worker
) -> None:
    await bench.create(task("t"))
    await worker.report(("t", status(RUNNING)))
    await bench.stop()
    await bench.start()
    await asyncio.sleep(1)
    assert bench.task("t").status.state == api.TaskState.ASSIGNED


async def test_an_unused_volume_is_released_and_an_unknown_one_ignored(bench: Bench, worker: Worker) -> None:
    volume = api.Volume(id="v")
    volume.spec.driver.name = "csi"
    volume.publish_status.add(node_id="other", state=api.VolumePublishStatus.PUBLISHED)
    volume.publish_status.add(node_id="worker", state=api.VolumePublishStatus.PENDING_NODE_UNPUBLISH)
    await bench.create(volume)
    await worker.report_unpublished("unknown", "v")
    await asyncio.sleep(0.2)
    assert [s.state for s in bench.get(api.Volume, "v").publish_status] == [
        api.VolumePublishStatus.PUBLISHED,
        api.VolumePublishStatus.PENDING_UNPUBLISH,
    ]


async def test_a_caller_without_a_certificate_is_refused_by_every_call(bench: Bench, worker: Worker) -> None:
    worker.caller = Caller()
    errors = [
        await worker.open_session().end(),
        await worker.assignments().end(),
        await worker.tasks().end(),
    ]
    for call in (worker.heartbeat(), worker.report(), worker.report_unpublished()):
        with pytest.raises(RpcError) as caught:
            await call
        errors.append(caught.value)
    for error in errors:
        assert error is not None
        assert error.code == grpc.StatusCode.PERMISSION_DENIED
        assert error.text == (
            "Permission denied: unauthorized peer role: rpc error: code = PermissionDenied "
            "desc = no client certificates in request"
        )


async def test_unary_calls_are_aborted_while_the_dispatcher_does_not_run(idle_bench: Bench) -> None:
    worker = await idle_bench.worker()
    for call in (worker.heartbeat(), worker.report(), worker.report_unpublished()):
        with pytest.raises(RpcError, match="dispatcher is stopped") as caught:
            await call
        assert caught.value.code == grpc.StatusCode.ABORTED


def test_every_error_of_the_dispatcher_has_a_code() -> None:
    assert set(_CODES) == set(DispatcherError.__subclasses__())


@pytest.mark.parametrize("name", ["Session", "Tasks", "Assignments"])
def test_streams_are_async_generators_as_grpc_wants_them(name: str) -> None:
    assert inspect.isasyncgenfunction(getattr(DispatcherService, name))
