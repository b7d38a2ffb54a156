"""The orchestrator of replicated services: contract/orchestration.md, 3, 6, 13, 15 and 17 (Replicated)."""

import asyncio
from functools import partial

import pytest

from swarmkit.api import messages as api
from swarmkit.manager.orchestrator import ReplicatedOrchestrator
from tests.fakes.proposer import FakeProposer
from tests.unit.manager.orchestrator.replicated_bench import Bench, set_image
from tests.unit.manager.orchestrator.support import State, Worker, make_node, make_service, make_task


def force(service: api.Service) -> None:
    service.spec.task.force_update += 1


async def test_a_service_that_is_added_gets_its_tasks() -> None:
    swarm = Bench()
    async with swarm.started():
        await swarm.create(make_service(replicas=1))
        await swarm.settle()
        assert swarm.slots() == [1]


async def test_scaling_up_adds_tasks_and_scaling_down_removes_them() -> None:
    swarm = Bench()
    await swarm.create(make_service(replicas=1))
    async with swarm.started():
        await swarm.scale(3)
        assert [task.status.state for task in swarm.tasks()] == [State.NEW] * 3
        assert swarm.slots() == [1, 2, 3]
        await swarm.scale(1)
        states = sorted(task.desired_state for task in swarm.tasks())
        assert states == [State.RUNNING, State.REMOVE, State.REMOVE]


async def test_many_tasks_are_made_in_several_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    # The bound of one pass is a constant of the plan; lowered so that the test need not make 10,000 tasks.
    monkeypatch.setattr("swarmkit.manager.orchestrator.replicated_plan.plan_replicated.__defaults__", (7,))
    swarm = Bench()
    await swarm.create(make_service(replicas=50))
    async with swarm.started():
        assert swarm.slots() == list(range(1, 51))


async def test_a_task_whose_record_is_deleted_is_made_anew() -> None:
    swarm = Bench()
    await swarm.create(make_service(replicas=1))
    async with swarm.started():
        await swarm.delete(api.Task, "task0001")
        await swarm.settle()
        assert [task.id for task in swarm.tasks()] == ["task0002"]


async def test_dead_slots_are_emptied_without_a_reaper() -> None:
    swarm = Bench()
    service = make_service(replicas=1)
    await swarm.create(service, make_task(service, "live", slot=1))
    await swarm.create(make_task(service, "gone", slot=2, desired=State.REMOVE, state=State.SHUTDOWN))
    await swarm.create(make_task(service, "stopping", slot=3, desired=State.REMOVE))
    async with swarm.started():
        assert [task.id for task in swarm.tasks()] == ["live"]


async def test_a_quick_scale_down_and_up_leaves_enough_tasks_though_nothing_is_restarted() -> None:
    swarm = Bench()
    service = make_service(replicas=2, condition=api.RestartPolicy.NONE)
    await swarm.create(
        service, make_task(service, "a", slot=1), make_task(service, "b", slot=2, state=State.COMPLETE)
    )
    await swarm.create(make_task(service, "old", slot=2, state=State.FAILED, desired=State.SHUTDOWN, at=-5))
    async with swarm.started():
        await swarm.scale(1)
        assert swarm.task("b").desired_state == State.REMOVE
        await swarm.delete(api.Task, "b")
        await swarm.scale(2)
        assert swarm.slots() == [1, 2]


async def test_of_too_many_slots_the_one_without_a_node_goes() -> None:
    swarm = Bench()
    service = make_service(replicas=6)
    await swarm.create(make_node("n1"), make_node("n2"), service)
    for slot in range(1, 8):
        await swarm.create(
            make_task(service, f"t{slot}", slot=slot, node="" if slot == 3 else f"n{slot % 2 + 1}")
        )
    async with swarm.started():
        assert swarm.task("t3").desired_state == State.REMOVE
        assert len(swarm.wanted()) == 6


async def test_a_task_that_is_bound_to_a_node_that_is_down_is_replaced() -> None:
    swarm = Bench()
    service = make_service(replicas=1)
    await swarm.create(make_node("n1", state=api.NodeStatus.DOWN), service)
    async with swarm.started():
        await swarm.edit(api.Task, "task0001", lambda task: setattr(task, "node_id", "n1"))
        await swarm.settle()
        assert swarm.task("task0001").desired_state == State.SHUTDOWN


@pytest.mark.parametrize("how", ["drained", "down", "deleted"])
async def test_tasks_leave_a_node_that_is_lost_and_do_not_come_back(how: str) -> None:
    swarm = Bench()
    service = make_service(replicas=1)
    await swarm.create(make_node("n1", availability=api.NodeSpec.PAUSE), service)
    await swarm.create(make_task(service, "t", slot=1, node="n1"))
    async with swarm.started():
        assert swarm.task("t").desired_state == State.RUNNING
        if how == "deleted":
            await swarm.delete(api.Node, "n1")
        elif how == "down":
            await swarm.edit(api.Node, "n1", lambda node: setattr(node.status, "state", api.NodeStatus.DOWN))
        else:
            await swarm.edit(
                api.Node, "n1", lambda node: setattr(node.spec, "availability", api.NodeSpec.DRAIN)
            )
        await swarm.settle()
        assert swarm.task("t").desired_state == State.SHUTDOWN
        assert [task.slot for task in swarm.new_tasks()] == [1]


@pytest.mark.parametrize(
    ("condition", "state", "replaced"),
    [
        (api.RestartPolicy.ANY, State.FAILED, True),
        (api.RestartPolicy.ANY, State.COMPLETE, True),
        (api.RestartPolicy.ON_FAILURE, State.FAILED, True),
        (api.RestartPolicy.ON_FAILURE, State.COMPLETE, False),
        (api.RestartPolicy.NONE, State.FAILED, False),
        (api.RestartPolicy.NONE, State.COMPLETE, False),
    ],
)
async def test_a_task_that_ends_is_replaced_as_its_policy_says(
    condition: "api.RestartPolicy.RestartCondition.ValueType", state: api.TaskState.ValueType, replaced: bool
) -> None:
    swarm = Bench()
    await swarm.create(make_service(replicas=2, condition=condition))
    async with swarm.started(Worker(swarm, ["n1"])):
        await swarm.observe("task0001", state)
        await swarm.settle()
        assert swarm.task("task0001").desired_state == State.SHUTDOWN
        assert len(swarm.tasks()) == (3 if replaced else 2)
        if replaced:
            assert swarm.task("task0003").slot == swarm.task("task0001").slot
            assert swarm.task("task0003").status.state == State.RUNNING
        else:
            await swarm.edit(api.Service, "svc", lambda service: None)
            await swarm.settle()
            assert len(swarm.tasks()) == 2


async def test_a_forced_update_brings_back_what_was_not_restarted_one_after_the_other() -> None:
    swarm = Bench()
    service = make_service(replicas=2, condition=api.RestartPolicy.NONE)
    service.spec.update.parallelism = 1
    await swarm.create(service)
    worker = Worker(swarm, ["n1"])
    async with swarm.started(worker):
        for id in ("task0001", "task0002"):
            await swarm.observe(id, State.FAILED)
        await swarm.settle()
        worker.outcome = lambda task: State.STARTING
        await swarm.roll_out("svc", force)
        await swarm.settle()
        assert [task.id for task in swarm.wanted()] == ["task0003"]
        await swarm.observe("task0003", State.RUNNING)
        await swarm.settle()
        assert [task.id for task in swarm.wanted()] == ["task0003", "task0004"]


async def test_attempts_are_limited_by_slot_and_begin_anew_with_a_new_version() -> None:
    swarm = Bench()
    await swarm.create(make_service(replicas=2, attempts=1))
    async with swarm.started(Worker(swarm, ["n1"])):
        for _ in range(2):
            for task in swarm.wanted():
                await swarm.observe(task.id, State.FAILED)
            await swarm.settle()
        assert len(swarm.tasks()) == 4
        assert not swarm.wanted()
        await swarm.roll_out("svc", force)
        await swarm.settle()
        for _ in range(2):
            for task in swarm.wanted():
                await swarm.observe(task.id, State.FAILED)
            await swarm.settle()
        assert len(swarm.tasks()) == 8


@pytest.mark.parametrize(("pause", "restarts"), [(0.1, 1), (1.0, 2)])
async def test_attempts_are_limited_within_the_window(pause: float, restarts: int) -> None:
    swarm = Bench()
    await swarm.create(make_service(replicas=1, attempts=1, window=0.5))
    async with swarm.started(Worker(swarm, ["n1"])):
        await swarm.observe("task0001", State.FAILED)
        await swarm.settle(pause)
        await swarm.observe("task0002", State.FAILED)
        await swarm.settle()
        assert len(swarm.tasks()) == 1 + restarts


async def test_an_update_of_the_spec_rolls_through_the_service() -> None:
    swarm = Bench()
    await swarm.create(make_service(replicas=3))
    async with swarm.started(Worker(swarm, ["n1"])):
        await swarm.roll_out("svc", lambda service: setattr(service.spec.task.container, "image", "new"))
        await swarm.settle(10)
        assert [task.spec.container.image for task in swarm.wanted()] == ["new"] * 3
        assert swarm.service().update_status.state == api.UpdateStatus.COMPLETED


async def test_all_tasks_of_a_deleted_service_are_to_be_removed_also_historic_ones() -> None:
    swarm = Bench()
    service = make_service(replicas=1)
    await swarm.create(service, make_task(service, "live", slot=1))
    await swarm.create(make_task(service, "old", slot=1, state=State.FAILED, desired=State.SHUTDOWN, at=-1))
    async with swarm.started():
        await swarm.delete(api.Service, "svc")
        await swarm.settle()
        assert [task.desired_state for task in swarm.tasks()] == [State.REMOVE] * 2
        await swarm.observe("live", State.FAILED)
        await swarm.settle()
        assert not swarm.new_tasks()


async def test_new_tasks_take_the_log_driver_of_the_cluster_as_it_is_then() -> None:
    swarm = Bench()
    await swarm.create(make_service(replicas=1))
    async with swarm.started():
        cluster = api.Cluster(id="c")
        cluster.spec.annotations.name = "default"
        cluster.spec.task_defaults.log_driver.name = "journald"
        await swarm.create(cluster)
        await swarm.scale(2)
        assert not swarm.task("task0001").HasField("log_driver")
        assert swarm.task("task0002").log_driver.name == "journald"


async def test_services_of_other_modes_are_left_alone() -> None:
    swarm = Bench()
    job = make_service(replicas=1)
    job.spec.replicated_job.total_completions = 1
    await swarm.create(job)
    async with swarm.started():
        assert not swarm.tasks()


async def test_the_orchestrator_ends_quietly_when_leadership_is_lost() -> None:
    swarm = Bench()
    await swarm.create(make_service(replicas=1))
    proposer = FakeProposer(swarm.store, automatic=False)
    swarm.store.attach(proposer)
    orchestrator = ReplicatedOrchestrator(swarm.store, swarm.clock, swarm.new_id)
    run = asyncio.get_running_loop().create_task(orchestrator.run())
    await swarm.settle()
    assert proposer.waiting == 1
    assert not run.done()
    proposer.lose_leadership()
    await swarm.settle()
    assert run.done()
    assert run.exception() is None
    assert not swarm.tasks()


async def test_changes_in_flight_are_not_made_twice() -> None:
    swarm = Bench()
    await swarm.create(make_service(replicas=2))
    proposer = FakeProposer(swarm.store, automatic=False)
    swarm.store.attach(proposer)
    async with swarm.started():
        pending = asyncio.get_running_loop().create_task(swarm.edit(api.Service, "svc", force))
        await swarm.settle()
        proposer.commit_all()
        await pending
        await swarm.settle()
        while proposer.waiting:
            proposer.commit_all()
            await swarm.settle()
        assert swarm.slots() == [1, 2]


async def test_start_first_leaves_one_task_though_the_old_one_was_restarted_meanwhile() -> None:
    swarm = Bench()
    service = make_service(replicas=1)
    service.spec.update.order = api.UpdateConfig.START_FIRST
    await swarm.create(service)
    worker = Worker(swarm, ["n1"])
    async with swarm.started(worker):
        worker.outcome = lambda task: State.STARTING if task.id == "task0002" else State.RUNNING
        await swarm.roll_out("svc", partial(set_image, "new"))
        await swarm.settle()
        await swarm.observe("task0001", State.FAILED)
        await swarm.settle()
        assert [task.id for task in swarm.wanted()] == ["task0002", "task0003"]
        await swarm.observe("task0002", State.RUNNING)
        await swarm.settle()
        assert [task.id for task in swarm.wanted()] == ["task0002"]


async def test_the_updater_of_a_deleted_service_ends() -> None:
    swarm = Bench()
    await swarm.create(make_service(replicas=1))
    worker = Worker(swarm, ["n1"])
    async with swarm.started(worker):
        worker.outcome = lambda task: State.STARTING
        worker.stops = lambda task: False
        await swarm.roll_out("svc", partial(set_image, "new"))
        await swarm.settle()
        assert [name for name in _task_names() if name.startswith("update supervisor")]
        await swarm.delete(api.Service, "svc")
        await swarm.settle()
        assert not [name for name in _task_names() if name.startswith("update supervisor")]


def _task_names() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks()]


async def test_the_restarts_of_a_deleted_service_are_forgotten() -> None:
    swarm = Bench()
    await swarm.create(make_service(replicas=1, attempts=1))
    async with swarm.started(Worker(swarm, ["n1"])):
        await swarm.observe("task0001", State.FAILED)
        await swarm.settle()
        await swarm.delete(api.Service, "svc")
        await swarm.settle()
        for id in ("task0001", "task0002"):
            await swarm.delete(api.Task, id)
        await swarm.create(make_service(replicas=1, attempts=1))
        await swarm.settle()
        await swarm.observe("task0003", State.FAILED)
        await swarm.settle()
        assert [task.id for task in swarm.wanted()] == ["task0004"]


async def test_the_pending_start_of_a_deleted_task_is_dropped() -> None:
    swarm = Bench()
    await swarm.create(make_service(replicas=1, delay=5))
    async with swarm.started(Worker(swarm, ["n1"])):
        await swarm.observe("task0001", State.FAILED)
        await swarm.settle()
        waiting = swarm.task("task0002")
        assert waiting.desired_state == State.READY
        await swarm.delete(api.Task, "task0002")
        await swarm.settle()
        await swarm.create(
            make_task(swarm.service(), "task0002", slot=1, state=State.READY, desired=State.READY)
        )
        await swarm.settle(10)
        assert swarm.task("task0002").desired_state == State.READY
