"""Rolling updates on a store with a worker: contract/orchestration.md, 9 and 17 (Updater)."""

import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest

from swarmkit.api import messages as api
from swarmkit.manager.orchestrator.restart import RestartSupervisor
from swarmkit.manager.orchestrator.slots import Slot, slot_key
from swarmkit.manager.orchestrator.update import UpdateSupervisor
from tests.unit.manager.orchestrator.support import State, Swarm, Worker, make_node, make_service, make_task

S = api.UpdateStatus
Change = Callable[[api.Service], object]


class Bench(Swarm):
    """A service with running tasks, the supervisors, and a worker; no orchestrator."""

    def __init__(self, replicas: int = 3, stop_wait: float = 60.0, **update: Any) -> None:
        super().__init__()
        self.replicas = replicas
        self.restarts = RestartSupervisor(self.store, self.clock, self.new_id, stop_wait)
        self.updates = UpdateSupervisor(self.store, self.clock, self.restarts, self.new_id)
        self.worker = Worker(self, nodes=["n1"])
        self.config = api.UpdateConfig(**update)

    @contextlib.asynccontextmanager
    async def started(
        self, state: api.TaskState.ValueType = State.RUNNING, desired: api.TaskState.ValueType = State.RUNNING
    ) -> AsyncIterator[None]:
        service = make_service(replicas=self.replicas, condition=api.RestartPolicy.NONE)
        service.spec.update.CopyFrom(self.config)
        await self.create(make_node("n1"), service)
        for slot in range(1, self.replicas + 1):
            task = make_task(service, f"old{slot}", slot=slot, node="n1", state=state, desired=desired)
            await self.create(task)
        with self.restarts.watch() as watcher:
            async with self.running(self.worker.run, lambda: self.restarts.run(watcher)):
                try:
                    yield
                finally:
                    await self.updates.close()

    def request(self) -> None:
        service = self.service()
        slots: dict[object, list[api.Task]] = {}
        for task in self.tasks():
            slots.setdefault(slot_key(service, task), []).append(task)
        found = [
            Slot(slot_key(service, tasks[0]), tuple(counted))
            for tasks in slots.values()
            if (counted := self.restarts.updatable(service, tasks))
        ]
        self.updates.update(service, None, found)

    async def update(self, change: Change, seconds: float = 20) -> None:
        await self.roll_out("svc", change)
        self.request()
        await self.settle(seconds)

    @property
    def status(self) -> "api.UpdateStatus.UpdateState.ValueType":
        return self.service().update_status.state

    def images(self) -> list[str]:
        """The images of the wanted tasks by slot."""
        return [task.spec.container.image for task in sorted(self.wanted(), key=lambda task: task.slot)]


def image(name: str) -> Change:
    return lambda service: setattr(service.spec.task.container, "image", name)


def seconds(value: float) -> object:
    return {"seconds": int(value), "nanos": round(value % 1 * 1e9)}


@pytest.mark.parametrize(
    "options",
    [
        {"parallelism": 0},
        {"parallelism": 1},
        {"parallelism": 1, "delay": {"nanos": 10_000_000}},
        {"parallelism": 1, "order": api.UpdateConfig.START_FIRST},
        {"parallelism": 0, "order": api.UpdateConfig.START_FIRST},
    ],
)
async def test_every_slot_ends_with_one_task_of_the_new_image(options: dict[str, Any]) -> None:
    swarm = Bench(3, **options)
    async with swarm.started():
        await swarm.update(image("new"))
        assert swarm.images() == ["new"] * 3
        assert [task.slot for task in swarm.new_tasks()] == [1, 2, 3]
        assert all(task.status.state == State.RUNNING for task in swarm.wanted())
        assert swarm.status == S.COMPLETED
        assert swarm.service().update_status.HasField("started_at")
        assert swarm.service().update_status.HasField("completed_at")


async def test_one_at_a_time_means_one_at_a_time_with_a_pause_between() -> None:
    swarm = Bench(3, parallelism=1, delay=seconds(10))
    async with swarm.started():
        await swarm.update(image("new"), seconds=1)
        assert swarm.images() == ["new", "v1", "v1"]
        assert swarm.status == S.UPDATING
        await swarm.settle(10)
        assert swarm.images() == ["new", "new", "v1"]


async def test_without_options_all_are_replaced_at_once() -> None:
    swarm = Bench(3)
    async with swarm.started():
        await swarm.edit(api.Service, "svc", lambda service: service.spec.ClearField("update"))
        swarm.worker.outcome = lambda task: State.STARTING
        await swarm.update(image("new"), seconds=0.1)
        assert swarm.images() == ["new"] * 3
        assert all(
            task.desired_state == State.SHUTDOWN for task in swarm.tasks() if task.id.startswith("old")
        )


async def test_new_pull_options_leave_running_tasks_and_replace_those_that_are_over() -> None:
    def change(service: api.Service) -> None:
        service.spec.task.container.pull_options.registry_auth = "secret"

    swarm = Bench(2, parallelism=0)
    async with swarm.started():
        await swarm.update(change)
        assert sorted(task.id for task in swarm.wanted()) == ["old1", "old2"]
        assert not swarm.service().HasField("update_status")
    swarm = Bench(2, parallelism=0)
    async with swarm.started(State.SHUTDOWN, State.SHUTDOWN):
        await swarm.update(change)
        assert len(swarm.new_tasks()) == 2
        assert all(task.status.state == State.RUNNING for task in swarm.new_tasks())


async def test_a_placement_change_that_still_holds_replaces_nothing() -> None:
    swarm = Bench(2)
    async with swarm.started():
        await swarm.update(lambda service: service.spec.task.placement.constraints.append("node.id==n1"))
        assert not swarm.new_tasks()
        assert not swarm.service().HasField("update_status")


async def test_a_change_of_replicas_or_labels_brings_no_status() -> None:
    swarm = Bench(2)
    async with swarm.started():
        await swarm.update(lambda service: service.spec.annotations.labels.update({"a": "b"}))
        assert not swarm.service().HasField("update_status")


async def test_failing_new_tasks_pause_the_update_and_it_stays_paused() -> None:
    swarm = Bench(3, parallelism=1)
    swarm.worker.outcome = lambda task: State.FAILED
    async with swarm.started():
        await swarm.update(image("new"))
        assert swarm.status == S.PAUSED
        assert [task.slot for task in swarm.new_tasks()] == [1]
        assert "task0001" in swarm.service().update_status.message
        version = swarm.store.version
        swarm.request()
        await swarm.settle(20)
        assert swarm.store.version == version


async def test_after_the_status_is_cleared_a_continuing_update_replaces_all() -> None:
    swarm = Bench(3, parallelism=1)
    swarm.worker.outcome = lambda task: State.FAILED
    async with swarm.started():
        await swarm.update(image("new"))

        def change(service: api.Service) -> None:
            service.spec.task.container.image = "newest"
            service.spec.update.failure_action = api.UpdateConfig.CONTINUE

        await swarm.update(change)
        newest = [task for task in swarm.new_tasks() if task.spec.container.image == "newest"]
        assert sorted(task.slot for task in newest) == [1, 2, 3]
        assert swarm.status == S.COMPLETED


async def test_old_tasks_that_never_stop_are_waited_for_as_long_as_the_limit_says() -> None:
    swarm = Bench(2, stop_wait=0.1, parallelism=0)
    swarm.worker.stops = lambda task: False
    async with swarm.started():
        await swarm.update(image("new"), seconds=0.09)
        assert all(task.desired_state == State.READY for task in swarm.new_tasks())
        await swarm.settle(0.02)
        assert all(task.desired_state == State.RUNNING for task in swarm.new_tasks())


async def test_start_first_runs_both_and_does_not_wait_for_the_old_tasks_to_stop() -> None:
    swarm = Bench(3, parallelism=0, order=api.UpdateConfig.START_FIRST)
    swarm.worker.stops = lambda task: False
    async with swarm.started():
        await swarm.update(image("new"))
        assert swarm.worker.running_at_once == 6
        assert all(
            task.desired_state == State.SHUTDOWN for task in swarm.tasks() if task.id.startswith("old")
        )
        assert swarm.status == S.COMPLETED


async def test_start_first_leaves_the_old_task_alone_if_the_new_one_fails_before_it_runs() -> None:
    swarm = Bench(1, parallelism=1, order=api.UpdateConfig.START_FIRST)
    swarm.worker.outcome = lambda task: State.FAILED
    async with swarm.started():
        await swarm.update(image("new"))
        assert swarm.task("old1").desired_state == State.RUNNING
        assert swarm.status == S.PAUSED


async def test_a_slot_with_a_clean_and_an_outdated_task_only_loses_the_latter() -> None:
    swarm = Bench(1)
    async with swarm.started():
        await swarm.roll_out("svc", image("new"))
        await swarm.create(make_task(swarm.service(), "clean", slot=1, node="n1"))
        swarm.request()
        await swarm.settle()
        assert not swarm.new_tasks()
        assert swarm.task("old1").desired_state == State.SHUTDOWN
        assert swarm.task("clean").desired_state == State.RUNNING


async def test_a_clean_task_that_waits_is_released_when_the_outdated_one_has_ended() -> None:
    swarm = Bench(1)
    swarm.worker.stops = lambda task: False
    async with swarm.started():
        await swarm.roll_out("svc", image("new"))
        service = swarm.service()
        await swarm.create(
            make_task(service, "clean", slot=1, node="n1", state=State.READY, desired=State.READY)
        )
        swarm.restarts.schedule_release("clean", delay_seconds=3600)
        swarm.request()
        await swarm.settle(5)
        assert swarm.task("clean").desired_state == State.READY
        await swarm.observe("old1", State.SHUTDOWN)
        await swarm.settle()
        assert swarm.task("clean").desired_state == State.RUNNING


@pytest.mark.parametrize("versions", [True, False])
@pytest.mark.parametrize(
    ("rollback_fails", "rollback_action", "outcome"),
    [
        (False, api.UpdateConfig.PAUSE, S.ROLLBACK_COMPLETED),
        (True, api.UpdateConfig.PAUSE, S.ROLLBACK_PAUSED),
        (True, api.UpdateConfig.ROLLBACK, S.ROLLBACK_PAUSED),
        (True, api.UpdateConfig.CONTINUE, S.ROLLBACK_COMPLETED),
    ],
)
async def test_too_many_failures_roll_back(
    versions: bool,
    rollback_fails: bool,
    rollback_action: "api.UpdateConfig.FailureAction.ValueType",
    outcome: "api.UpdateStatus.UpdateState.ValueType",
) -> None:
    swarm = Bench(
        4, parallelism=1, max_failure_ratio=0.4, failure_action=api.UpdateConfig.ROLLBACK, delay=seconds(0.1)
    )

    def result(task: api.Task) -> api.TaskState.ValueType:
        new = task.spec.container.image == "new"
        return State.FAILED if (task.slot in (1, 3) if new else rollback_fails) else State.RUNNING

    swarm.worker.outcome = result
    async with swarm.started():

        def rollback(service: api.Service) -> None:
            service.spec.rollback.failure_action = rollback_action
            if not versions:
                service.ClearField("spec_version")

        await swarm.edit(api.Service, "svc", rollback)

        def update(service: api.Service) -> None:
            image("new")(service)
            if not versions:
                service.ClearField("spec_version")

        await swarm.update(update, seconds=1)
        assert swarm.status == S.ROLLBACK_STARTED
        assert len(swarm.new_tasks()) == 3
        assert swarm.service().spec.task.container.image == "v1"
        assert not swarm.service().HasField("previous_spec")
        swarm.request()
        await swarm.settle(60)
        assert swarm.status == outcome
        if outcome == S.ROLLBACK_COMPLETED:
            assert all(task.spec.container.image == "v1" for task in swarm.wanted())


async def test_a_rollback_without_a_previous_spec_changes_nothing_and_ends_the_update() -> None:
    swarm = Bench(2, parallelism=1, failure_action=api.UpdateConfig.ROLLBACK)
    swarm.worker.outcome = lambda task: State.FAILED
    async with swarm.started():
        await swarm.roll_out("svc", image("new"))
        await swarm.edit(api.Service, "svc", lambda service: service.ClearField("previous_spec"))
        swarm.request()
        await swarm.settle(20)
        assert swarm.status == S.UPDATING
        assert swarm.service().spec.task.container.image == "new"
        assert len(swarm.new_tasks()) == 1


async def test_the_same_request_is_ignored_while_one_is_active() -> None:
    swarm = Bench(2, parallelism=1)
    swarm.worker.outcome = lambda task: State.STARTING
    async with swarm.started():
        await swarm.update(image("new"), seconds=1)
        swarm.request()
        await swarm.settle(1)
        assert len(swarm.new_tasks()) == 1


async def test_another_spec_ends_the_first_update_without_a_status_and_starts_its_own() -> None:
    swarm = Bench(2, parallelism=1)
    swarm.worker.outcome = lambda task: (
        State.STARTING if task.spec.container.image == "new" else State.RUNNING
    )
    async with swarm.started():
        await swarm.update(image("new"), seconds=1)
        assert swarm.status == S.UPDATING
        await swarm.update(image("newest"))
        assert swarm.images() == ["newest", "newest"]
        assert swarm.status == S.COMPLETED


async def test_a_quick_series_of_specs_ends_with_the_last() -> None:
    swarm = Bench(3, parallelism=1)
    async with swarm.started():
        for number in range(5):
            await swarm.update(image(f"v{number}"), seconds=0)
        await swarm.settle(30)
        assert swarm.images() == ["v4"] * 3


async def test_an_update_that_was_under_way_and_has_nothing_left_is_completed_at_once() -> None:
    for before, after in ((S.UPDATING, S.COMPLETED), (S.ROLLBACK_STARTED, S.ROLLBACK_COMPLETED)):
        swarm = Bench(2)
        status = api.UpdateStatus(state=before)
        async with swarm.started():
            await swarm.edit(api.Service, "svc", partial(_set_status, status))
            swarm.request()
            await swarm.settle()
            assert swarm.status == after


def _set_status(status: api.UpdateStatus, service: api.Service) -> None:
    service.update_status.CopyFrom(status)


async def test_no_status_is_written_once_somebody_cleared_it() -> None:
    swarm = Bench(1)
    async with swarm.started():
        await swarm.update(image("new"), seconds=1)
        await swarm.edit(api.Service, "svc", lambda service: service.ClearField("update_status"))
        await swarm.settle(20)
        assert not swarm.service().HasField("update_status")


async def test_a_failure_during_the_watch_after_the_last_slot_counts_and_a_later_one_does_not() -> None:
    for wait, status in ((4.0, S.PAUSED), (6.0, S.COMPLETED)):
        swarm = Bench(1)
        async with swarm.started():
            await swarm.update(image("new"), seconds=wait)
            await swarm.observe("task0001", State.FAILED)
            await swarm.settle(10)
            assert swarm.status == status


async def test_a_deleted_service_gets_no_new_tasks() -> None:
    swarm = Bench(3, parallelism=1, delay=seconds(1))
    async with swarm.started():
        await swarm.update(image("new"), seconds=0.5)
        await swarm.delete(api.Service, "svc")
        await swarm.settle(20)
        assert len(swarm.new_tasks()) == 1


async def test_a_deleted_new_task_does_not_hold_its_lane() -> None:
    swarm = Bench(2, parallelism=1)
    swarm.worker.outcome = lambda task: State.STARTING
    async with swarm.started():
        await swarm.update(image("new"), seconds=1)
        await swarm.delete(api.Task, "task0001")
        await swarm.settle(1)
        assert [task.id for task in swarm.new_tasks()] == ["task0002"]


async def test_cancellation_writes_no_status_and_leaves_what_was_created_to_its_release() -> None:
    swarm = Bench(2, parallelism=1)
    swarm.worker.stops = lambda task: False
    async with swarm.started():
        await swarm.update(image("new"), seconds=1)
        swarm.updates.cancel("svc")
        await swarm.observe("old1", State.SHUTDOWN)
        await swarm.settle(30)
        assert swarm.task("task0001").desired_state == State.RUNNING
        assert swarm.status == S.UPDATING
        assert len(swarm.new_tasks()) == 1


async def test_a_request_for_a_spec_that_is_out_of_date_changes_nothing() -> None:
    swarm = Bench(2)
    async with swarm.started():
        await swarm.roll_out("svc", image("new"))
        stale = swarm.service()
        await swarm.roll_out("svc", image("newest"))
        slots = [Slot(slot_key(stale, task), (task,)) for task in swarm.tasks()]
        swarm.updates.update(stale, None, slots)
        await swarm.settle(20)
        assert not swarm.new_tasks()
        assert not swarm.service().HasField("update_status")


async def test_old_tasks_on_a_node_that_is_down_are_not_waited_for() -> None:
    swarm = Bench(1)
    swarm.worker.stops = lambda task: False
    async with swarm.started():
        await swarm.edit(api.Node, "n1", lambda node: setattr(node.status, "state", api.NodeStatus.DOWN))
        await swarm.update(image("new"), seconds=1)
        assert [task.desired_state for task in swarm.new_tasks()] == [State.RUNNING]


@pytest.mark.parametrize("order", [api.UpdateConfig.STOP_FIRST, api.UpdateConfig.START_FIRST])
@pytest.mark.parametrize("condition", [api.RestartPolicy.ANY, api.RestartPolicy.NONE])
async def test_a_new_task_whose_node_is_lost_before_it_runs_does_not_hold_the_update(
    order: "api.UpdateConfig.UpdateOrder.ValueType",
    condition: "api.RestartPolicy.RestartCondition.ValueType",
) -> None:
    swarm = Bench(2, parallelism=1, order=order)
    first = "task0001"
    swarm.worker.outcome = lambda task: State.STARTING if task.id == first else State.RUNNING
    swarm.worker.stops = lambda task: task.id != first

    def change(service: api.Service) -> None:
        service.spec.task.container.image = "new"
        service.spec.task.restart.condition = condition

    async with swarm.started():
        await swarm.update(change, seconds=1)
        assert [task.id for task in swarm.new_tasks()] == [first]
        # What happens when its node goes down ...
        await swarm.create(make_node("n2", state=api.NodeStatus.DOWN))
        await swarm.edit(api.Task, first, lambda task: setattr(task, "node_id", "n2"))
        await swarm.store.update(lambda tx: swarm.restarts.restart(tx, swarm.service(), swarm.task(first)))
        await swarm.settle(2)
        assert swarm.images()[-1] == "new"  # the second slot had its turn
        # ... and when it comes back.
        await swarm.observe(first, State.SHUTDOWN)
        await swarm.settle(20)
        assert swarm.status == S.COMPLETED
    given_up = condition == api.RestartPolicy.NONE
    old_stays = given_up and order == api.UpdateConfig.START_FIRST
    expected = (["v1"] if old_stays else []) + ["new"] * (1 if given_up else 2)
    assert swarm.images() == expected


async def test_a_paused_update_that_waits_for_a_slot_goes_on_when_its_status_is_cleared() -> None:
    swarm = Bench(3, parallelism=2)
    swarm.worker.outcome = lambda task: State.FAILED if task.slot == 1 else State.STARTING
    async with swarm.started():
        await swarm.update(image("new"), seconds=1)
        assert swarm.status == S.PAUSED
        swarm.request()
        await swarm.settle(1)
        assert sorted(task.slot for task in swarm.new_tasks()) == [1, 2]
        await swarm.edit(api.Service, "svc", lambda service: service.ClearField("update_status"))
        swarm.request()
        await swarm.settle(1)
        assert sorted(task.slot for task in swarm.new_tasks()) == [1, 2, 3]
