"""Assignments become task managers (contract/dispatcher-agent.md, 8; cases 53 to 56, 64)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from swarmkit.agent.database import TaskDatabase
from swarmkit.agent.dependencies import NotHereError
from swarmkit.agent.exec import ExecutorError, TemporaryError
from swarmkit.agent.worker import Worker
from swarmkit.api import messages as api
from tests.fakes.agent_executor import FakeController, FakeExecutor, block, fail, succeed, take, until
from tests.fakes.agent_manager import complete, incremental, make_task
from tests.fakes.loop import VirtualClock

State = api.TaskState


@dataclass
class Bench:
    """A worker and what is around it."""

    worker: Worker
    executor: FakeExecutor
    database: TaskDatabase
    reports: list[tuple[str, api.TaskState.ValueType]] = field(default_factory=list)

    def state(self, task_id: str) -> api.TaskState.ValueType | None:
        status = self.worker.statuses().get(task_id)
        return None if status is None else status.state


@asynccontextmanager
async def bench(
    clock: VirtualClock, executor: FakeExecutor | None = None, database: TaskDatabase | None = None
) -> AsyncIterator[Bench]:
    executor = executor or FakeExecutor()
    database = database or await TaskDatabase.open(None)
    reports: list[tuple[str, api.TaskState.ValueType]] = []
    worker = Worker(executor, database, lambda id_, status: reports.append((id_, status.state)), clock)
    await worker.start()
    try:
        yield Bench(worker, executor, database, reports)
    finally:
        await worker.close()


def removal(task_id: str) -> api.Assignment:
    return api.Assignment(task=api.Task(id=task_id))


async def test_assigned_tasks_run_and_each_step_is_reported(clock: VirtualClock) -> None:
    async with bench(clock) as b:
        await b.worker.apply(complete(make_task("a"), make_task("b")))
        await until(lambda: b.state("a") == b.state("b") == State.RUNNING)
        states = [state for task_id, state in b.reports if task_id == "a"]
        assert states == [State.ACCEPTED, State.PREPARING, State.READY, State.STARTING, State.RUNNING]


async def test_a_complete_set_removes_the_absent_tasks_and_their_workloads(clock: VirtualClock) -> None:
    async with bench(clock) as b:
        await b.worker.apply(complete(make_task("a"), make_task("b")))
        await until(lambda: b.state("b") == State.RUNNING)
        await b.worker.apply(complete(make_task("a")))
        await until(lambda: b.database.get("b") is None)
        assert b.executor.controllers["b"].calls[-2:] == ["remove", "close"]
        assert b.state("a") == State.RUNNING


async def test_a_task_removal_within_a_complete_set_is_ignored(clock: VirtualClock) -> None:
    async with bench(clock) as b:
        message = complete(make_task("a"))
        message.changes.add(assignment=removal("a"), action=api.AssignmentChange.REMOVE)
        await b.worker.apply(message)
        await until(lambda: b.state("a") == State.RUNNING)


async def test_a_complete_set_deletes_stored_tasks_that_never_got_a_controller(clock: VirtualClock) -> None:
    def refuse(task: api.Task) -> FakeController:
        raise ExecutorError("exec: unsupported runtime")

    async with bench(clock, FakeExecutor(refuse)) as b:
        await b.worker.apply(complete(make_task("a")))
        assert b.state("a") == State.REJECTED
        await b.worker.apply(complete(results_in="2"))
        await until(lambda: b.database.get("a") is None)


async def test_an_incremental_message_adds_changes_and_removes(clock: VirtualClock) -> None:
    async with bench(clock) as b:
        await b.worker.apply(complete(make_task("a"), make_task("b"), make_task("c")))
        await until(lambda: b.state("c") == State.RUNNING)
        await b.worker.apply(
            incremental(make_task("a", desired=State.SHUTDOWN), make_task("d"), remove=[removal("b")])
        )
        await until(lambda: b.state("a") == State.SHUTDOWN and b.state("d") == State.RUNNING)
        await until(lambda: b.database.get("b") is None)
        assert b.state("c") == State.RUNNING


async def test_removing_what_is_unknown_is_no_error(clock: VirtualClock) -> None:
    async with bench(clock) as b:
        await b.worker.apply(
            incremental(
                remove=[
                    removal("unknown"),
                    api.Assignment(secret=api.Secret(id="unknown")),
                    api.Assignment(config=api.Config(id="unknown")),
                ]
            )
        )


async def test_secrets_are_replaced_by_a_complete_set_and_changed_by_an_incremental_one(
    clock: VirtualClock,
) -> None:
    async with bench(clock) as b:
        task = make_task("a")
        for secret_id in ("s1", "s2"):
            task.spec.container.secrets.add(secret_id=secret_id)
        await b.worker.apply(complete(task, secrets=[api.Secret(id="s1")]))
        view = b.executor.dependencies["a"]
        assert view.get_secret("s1").id == "s1"
        await b.worker.apply(incremental(secrets=[api.Secret(id="s2")]))
        assert view.get_secret("s2").id == "s2"
        await b.worker.apply(incremental(remove=[api.Assignment(secret=api.Secret(id="s1"))]))
        with pytest.raises(NotHereError):
            view.get_secret("s1")
        await b.worker.apply(complete(task, secrets=[api.Secret(id="s1")]))
        with pytest.raises(NotHereError):
            view.get_secret("s2")


async def test_a_status_of_our_own_wins_over_the_managers_copy(clock: VirtualClock) -> None:
    database = await TaskDatabase.open(None)
    database.put_task(make_task("a"))
    database.put_status("a", api.TaskStatus(state=State.COMPLETE, message="finished"))
    async with bench(clock, database=database) as b:
        await b.worker.apply(complete(make_task("a", State.ASSIGNED)))
        await asyncio.sleep(10)
        assert b.state("a") == State.COMPLETE
        assert b.executor.controllers["a"].calls == []


async def test_after_a_crash_assigned_tasks_resume_and_unassigned_ones_are_removed(
    clock: VirtualClock,
) -> None:
    database = await TaskDatabase.open(None)
    for task_id, state in (("running", State.RUNNING), ("starting", State.STARTING), ("gone", State.RUNNING)):
        database.put_task(make_task(task_id))
        database.put_status(task_id, api.TaskStatus(state=state))
    database.put_task(make_task("never started"))
    database.unassign("gone")
    async with bench(clock, database=database) as b:
        await until(lambda: b.database.get("gone") is None)
        calls = {task_id: controller.calls for task_id, controller in b.executor.controllers.items()}
        await until(lambda: b.state("starting") == State.RUNNING)
        await asyncio.sleep(1)
        assert calls == {
            "running": ["wait"],
            "starting": ["start", "wait"],
            "gone": ["remove", "close"],
        }
        assert b.database.get("never started") is not None


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (State.ASSIGNED, State.REJECTED),
        (State.STARTING, State.FAILED),
        (State.COMPLETE, State.COMPLETE),
    ],
)
async def test_a_task_whose_controller_cannot_be_resolved_ends_and_is_reported(
    clock: VirtualClock, stored: api.TaskState.ValueType, expected: api.TaskState.ValueType
) -> None:
    def refuse(task: api.Task) -> FakeController:
        raise ExecutorError("exec: unsupported runtime")

    async with bench(clock, FakeExecutor(refuse)) as b:
        await b.worker.apply(complete(make_task("a", stored)))
        assert b.reports == [("a", expected)]
        status = b.worker.statuses()["a"]
        assert (status.message, status.err) == ("resolving controller failed", "exec: unsupported runtime")


async def test_a_removal_that_fails_is_logged_and_the_record_goes(clock: VirtualClock) -> None:
    executor = FakeExecutor(lambda task: FakeController(remove=[fail(RuntimeError("no"))]))
    async with bench(clock, executor) as b:
        await b.worker.apply(complete(make_task("a")))
        await b.worker.apply(complete(results_in="2"))
        await until(lambda: b.database.get("a") is None)
        assert executor.controllers["a"].calls.count("remove") == 1


async def test_a_removal_is_tried_again_while_the_engine_does_not_answer(clock: VirtualClock) -> None:
    down = fail(TemporaryError("engine unreachable"))
    executor = FakeExecutor(lambda task: FakeController(remove=[down, down, succeed()]))
    async with bench(clock, executor) as b:
        await b.worker.apply(complete(make_task("a")))
        await b.worker.apply(complete(results_in="2"))
        await until(lambda: b.database.get("a") is None)
        assert executor.controllers["a"].calls.count("remove") == 3


async def test_a_crash_during_a_removal_finishes_it_at_the_next_start(clock: VirtualClock) -> None:
    database = await TaskDatabase.open(None)
    executor = FakeExecutor(lambda task: FakeController(remove=[block()]))
    async with bench(clock, executor, database) as b:
        await b.worker.apply(complete(make_task("a")))
        await b.worker.apply(complete(results_in="2"))
        await until(lambda: "remove" in executor.controllers["a"].calls)
    assert database.get("a") is not None
    async with bench(clock, database=database) as again:
        await until(lambda: database.get("a") is None)
        assert again.executor.controllers["a"].calls == ["remove", "close"]


async def test_a_task_assigned_again_waits_for_its_removal_and_a_second_removal_follows(
    clock: VirtualClock,
) -> None:
    made: list[FakeController] = []

    def make(task: api.Task) -> FakeController:
        made.append(FakeController(remove=[take(5)]))
        return made[-1]

    async with bench(clock, FakeExecutor(make)) as b:
        await b.worker.apply(complete(make_task("a")))
        await until(lambda: b.state("a") == State.RUNNING)
        await b.worker.apply(incremental(remove=[removal("a")]))
        await b.worker.apply(incremental(make_task("a")))
        await asyncio.sleep(4)
        assert made[1].calls == []
        await until(lambda: b.state("a") == State.RUNNING)
        assert b.database.get("a") is not None
        await b.worker.apply(incremental(remove=[removal("a")]))
        await b.worker.apply(incremental(make_task("a"), remove=[]))
        await b.worker.apply(incremental(remove=[removal("a")]))
        await until(lambda: b.database.get("a") is None)
        await asyncio.sleep(1)
        assert [controller.calls[-2:] for controller in made] == [["remove", "close"]] * 3


async def test_a_removed_task_reports_nothing_more(clock: VirtualClock) -> None:
    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return  # ends well although cancelled, so a status follows

    executor = FakeExecutor(lambda task: FakeController(wait=[stubborn]))
    async with bench(clock, executor) as b:
        await b.worker.apply(complete(make_task("a")))
        await until(lambda: b.state("a") == State.RUNNING)
        count = len(b.reports)
        await b.worker.apply(complete(results_in="2"))
        await until(lambda: b.database.get("a") is None)
        assert len(b.reports) == count


async def test_leaving_removes_everything_and_returns_when_it_is_gone(clock: VirtualClock) -> None:
    executor = FakeExecutor(lambda task: FakeController(remove=[take(3)]))
    async with bench(clock, executor) as b:
        await b.worker.apply(complete(make_task("a"), make_task("b"), secrets=[api.Secret(id="s")]))
        await until(lambda: b.state("b") == State.RUNNING)
        count = len(b.reports)
        began = clock.monotonic()
        await b.worker.leave()
        assert 3 <= clock.monotonic() - began < 3.5
        assert b.database.records() == []
        assert len(b.reports) == count
        await b.worker.apply(complete(make_task("c")))
        assert b.database.records() == []


async def test_leaving_does_not_wait_for_an_engine_that_does_not_answer(clock: VirtualClock) -> None:
    down = fail(TemporaryError("engine unreachable"))
    async with bench(clock, FakeExecutor(lambda task: FakeController(remove=[down]))) as b:
        await b.worker.apply(complete(make_task("a")))
        await asyncio.wait_for(b.worker.leave(), 5)


async def test_closing_leaves_workloads_and_records(clock: VirtualClock) -> None:
    async with bench(clock) as b:
        await b.worker.apply(complete(make_task("a")))
        await until(lambda: b.state("a") == State.RUNNING)
        await b.worker.close()
        calls = b.executor.controllers["a"].calls
        assert "remove" not in calls
        assert calls[-1] == "close"
        assert b.state("a") == State.RUNNING


async def test_an_application_cut_short_is_completed_by_the_next_complete_set(clock: VirtualClock) -> None:
    async with bench(clock) as b:
        message = complete(*(make_task(f"task-{n}") for n in range(5)))
        for steps in range(8):
            application = asyncio.ensure_future(b.worker.apply(message))
            for _ in range(steps):
                await asyncio.sleep(0)
            application.cancel()
            await asyncio.wait([application])
        await b.worker.apply(message)
        await until(lambda: all(b.state(f"task-{n}") == State.RUNNING for n in range(5)))


async def test_the_first_complete_set_has_the_executor_sweep_once(clock: VirtualClock) -> None:
    async with bench(clock) as b:
        await b.worker.apply(complete(make_task("a")))
        await b.worker.apply(complete(make_task("a"), make_task("b")))
        assert b.executor.swept == [{"a"}]


async def test_a_sweep_without_engine_is_repeated(clock: VirtualClock) -> None:
    async with bench(clock) as b:
        b.executor.sweep_error = TemporaryError("engine unreachable")
        await b.worker.apply(complete(make_task("a")))
        b.executor.sweep_error = None
        await b.worker.apply(complete(make_task("a")))
        assert b.executor.swept == [{"a"}]


async def test_volume_assignments_are_ignored_with_one_warning(
    clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with bench(clock) as b:
        for _ in range(3):
            message = complete(make_task("a"))
            message.changes.add(assignment=api.Assignment(volume=api.VolumeAssignment(id="v")))
            await b.worker.apply(message)
        assert sum("volume" in record.message for record in caplog.records) == 1
