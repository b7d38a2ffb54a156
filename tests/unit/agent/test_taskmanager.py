"""The task manager carries out steps one at a time (contract/dispatcher-agent.md, 9; cases 57 to 62)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from swarmkit.agent.exec import AlreadyDoneError, TaskExitError, TemporaryError
from swarmkit.agent.taskmanager import TaskManager
from swarmkit.api import messages as api
from tests.fakes.agent_executor import FakeController, block, fail, succeed, take, until
from tests.fakes.agent_manager import make_task
from tests.fakes.loop import VirtualClock

State = api.TaskState
Statuses = list[api.TaskStatus]


@asynccontextmanager
async def managed(
    controller: FakeController,
    clock: VirtualClock,
    state: api.TaskState.ValueType = State.ACCEPTED,
    desired: api.TaskState.ValueType = State.RUNNING,
) -> AsyncIterator[tuple[TaskManager, Statuses]]:
    reported: Statuses = []

    async def report(task_id: str, status: api.TaskStatus) -> None:
        assert task_id == "t"
        await asyncio.sleep(0)
        reported.append(status)

    task = make_task("t", state, desired)
    manager = TaskManager(task, task.status, controller, report, clock)
    manager.start()
    try:
        yield manager, reported
    finally:
        await manager.close()


def desired(state: api.TaskState.ValueType) -> api.Task:
    return make_task("t", desired=state)


async def test_rising_desired_states_prepare_start_and_wait_once_and_update_twice(
    clock: VirtualClock,
) -> None:
    controller = FakeController()
    async with managed(controller, clock, desired=State.ACCEPTED) as (manager, reported):
        await asyncio.sleep(5)
        assert controller.calls == []
        assert manager.update(desired(State.READY))
        await until(lambda: manager.status.state == State.READY)
        await asyncio.sleep(5)
        assert manager.update(desired(State.RUNNING))
        await until(lambda: "wait" in controller.calls)
        await asyncio.sleep(5)
        assert controller.calls == ["update", "prepare", "update", "start", "wait"]
        assert [task.desired_state for task in controller.updates] == [State.READY, State.RUNNING]
        states = [status.state for status in reported]
        assert states == sorted(states)
        assert states[-1] == State.RUNNING


async def test_a_lower_desired_state_is_ignored(clock: VirtualClock) -> None:
    controller = FakeController()
    async with managed(controller, clock) as (manager, _):
        await until(lambda: "wait" in controller.calls)
        assert not manager.update(desired(State.READY))
        await asyncio.sleep(5)
        assert controller.calls == ["prepare", "start", "wait"]


async def test_the_same_task_or_another_is_no_update(clock: VirtualClock) -> None:
    controller = FakeController()
    async with managed(controller, clock) as (manager, _):
        same = make_task("t", State.COMPLETE)
        same.meta.version.index = 99
        assert not manager.update(same)
        assert not manager.update(make_task("other", desired=State.SHUTDOWN))


async def test_already_prepared_and_already_started_count_as_success(clock: VirtualClock) -> None:
    controller = FakeController(
        prepare=[fail(AlreadyDoneError("already prepared"))],
        start=[fail(AlreadyDoneError("already started"))],
    )
    async with managed(controller, clock) as (manager, _):
        await until(lambda: manager.status.state == State.RUNNING)
        assert manager.status.err == ""


async def test_a_failing_prepare_rejects_and_keeps_the_message(clock: VirtualClock) -> None:
    controller = FakeController(prepare=[fail(RuntimeError("no such image"))])
    async with managed(controller, clock) as (manager, _):
        await until(lambda: manager.status.state == State.REJECTED)
        assert (manager.status.message, manager.status.err) == ("preparing", "no such image")
        await asyncio.sleep(60)
        assert controller.calls == ["prepare"]


async def test_a_non_zero_exit_fails_with_its_code(clock: VirtualClock) -> None:
    controller = FakeController(wait=[fail(TaskExitError("task: non-zero exit (1)", 1))])
    controller.status = api.ContainerStatus(container_id="c", pid=7)
    async with managed(controller, clock) as (manager, _):
        await until(lambda: manager.status.state == State.FAILED)
        assert manager.status.container == api.ContainerStatus(container_id="c", pid=7, exit_code=1)
        assert manager.status.err == "task: non-zero exit (1)"


async def test_a_cancelled_wait_is_retried_after_a_second_and_completes(clock: VirtualClock) -> None:
    controller = FakeController(wait=[fail(asyncio.CancelledError()), succeed()])
    async with managed(controller, clock) as (manager, _):
        await until(lambda: "wait" in controller.calls)
        await asyncio.sleep(0.9)
        assert manager.status.state == State.RUNNING
        await until(lambda: manager.status.state == State.COMPLETE, 0.2)
        assert controller.calls == ["prepare", "start", "wait", "wait"]


async def test_a_shutdown_order_ends_a_wait_at_once(clock: VirtualClock) -> None:
    controller = FakeController()
    async with managed(controller, clock) as (manager, _):
        await until(lambda: "wait" in controller.calls)
        before = clock.monotonic()
        assert manager.update(desired(State.SHUTDOWN))
        await until(lambda: manager.status.state == State.SHUTDOWN)
        assert clock.monotonic() - before < 0.5
        assert controller.calls == ["prepare", "start", "wait", "update", "shutdown"]


async def test_an_update_never_starts_a_second_operation_while_one_unwinds(clock: VirtualClock) -> None:
    async def slow_to_cancel() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(3)  # beyond the retry pause

    controller = FakeController(wait=[slow_to_cancel])
    async with managed(controller, clock) as (manager, _):
        await until(lambda: "wait" in controller.calls)
        manager.update(desired(State.SHUTDOWN))
        await asyncio.sleep(2)
        assert controller.calls[-1] == "wait"
        await until(lambda: manager.status.state == State.SHUTDOWN)  # the fake refuses overlapping calls


async def test_remove_shuts_a_live_task_down_once_and_reports_shutdown(clock: VirtualClock) -> None:
    controller = FakeController()
    async with managed(controller, clock, State.STARTING, State.REMOVE) as (manager, _):
        await until(lambda: manager.status.state == State.SHUTDOWN)
        await asyncio.sleep(10)
        assert controller.calls == ["shutdown"]


async def test_remove_of_an_ended_task_calls_nothing(clock: VirtualClock) -> None:
    for state in (State.COMPLETE, State.SHUTDOWN, State.FAILED, State.REJECTED):
        controller = FakeController()
        async with managed(controller, clock, state, State.REMOVE) as (manager, _):
            await asyncio.sleep(10)
            assert manager.status.state == state
            assert controller.calls == []


async def test_a_temporary_error_is_retried_each_second_and_cleared(clock: VirtualClock) -> None:
    down = fail(TemporaryError("engine unreachable"))
    controller = FakeController(start=[down, down, down, succeed()])
    async with managed(controller, clock) as (manager, reported):
        await until(lambda: manager.status.err == "engine unreachable")
        assert manager.status.state == State.STARTING
        began = clock.monotonic()
        await until(lambda: manager.status.state == State.RUNNING)
        assert 2.9 < clock.monotonic() - began < 3.2
        assert manager.status.err == ""
        assert "engine unreachable" in [status.err for status in reported]


async def test_a_failing_shutdown_fails_the_task(clock: VirtualClock) -> None:
    controller = FakeController(shutdown=[fail(RuntimeError("cannot stop"))])
    async with managed(controller, clock, State.RUNNING, State.SHUTDOWN) as (manager, _):
        await until(lambda: manager.status.state == State.FAILED)
        assert manager.status.err == "cannot stop"


async def test_an_error_of_the_controllers_update_does_not_stop_the_task(clock: VirtualClock) -> None:
    controller = FakeController(update=[fail(RuntimeError("no"))])
    async with managed(controller, clock) as (manager, _):
        await until(lambda: "wait" in controller.calls)
        manager.update(desired(State.SHUTDOWN))
        await until(lambda: manager.status.state == State.SHUTDOWN)


async def test_closing_cancels_the_operation_and_refuses_updates(clock: VirtualClock) -> None:
    controller = FakeController(prepare=[block()])
    async with managed(controller, clock) as (manager, reported):
        await until(lambda: controller.busy == 1)
        count = len(reported)
        await manager.close()
        assert controller.busy == 0
        assert not manager.update(desired(State.SHUTDOWN))
        await asyncio.sleep(10)
        assert controller.calls == ["prepare"]
        assert len(reported) == count


async def test_the_first_step_waits_for_the_removal_before_it(clock: VirtualClock) -> None:
    controller = FakeController()
    removal = asyncio.ensure_future(take(7)())

    async def report(_: str, status: api.TaskStatus) -> None:
        await asyncio.sleep(0)

    task = make_task("t", State.ACCEPTED)
    manager = TaskManager(task, task.status, controller, report, clock, removal)
    manager.start()
    await asyncio.sleep(6.9)
    assert controller.calls == []
    await until(lambda: controller.calls == ["prepare", "start", "wait"])
    await manager.close()
