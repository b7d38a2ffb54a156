"""The orchestrator of global services: contract/orchestration.md, 3, 7, 13 and 17 (Global)."""

import contextlib
from collections.abc import AsyncIterator

import pytest

from swarmkit.api import messages as api
from swarmkit.manager.orchestrator import ConstraintEnforcer, GlobalOrchestrator
from swarmkit.store import Watch
from tests.unit.manager.orchestrator.support import State, Swarm, Worker, make_node, make_service, make_task


class Bench(Swarm):
    @contextlib.asynccontextmanager
    async def started(self, worker: Worker | None = None) -> AsyncIterator[None]:
        orchestrator = GlobalOrchestrator(self.store, self.clock, self.new_id)
        async with self.running(orchestrator.run, *([worker.run] if worker else [])):
            yield

    async def availability(self, value: "api.NodeSpec.Availability.ValueType", node: str = "n1") -> None:
        await self.edit(api.Node, node, lambda n: setattr(n.spec, "availability", value))
        await self.settle()

    async def state(self, value: "api.NodeStatus.State.ValueType", node: str = "n1") -> None:
        await self.edit(api.Node, node, lambda n: setattr(n.status, "state", value))
        await self.settle()


def force(service: api.Service) -> None:
    service.spec.task.force_update += 1


def places(tasks: list[api.Task]) -> list[tuple[str, int]]:
    return sorted((task.node_id, task.slot) for task in tasks)


async def test_every_node_and_every_service_gets_its_task() -> None:
    swarm = Bench()
    await swarm.create(make_service())
    async with swarm.started():
        await swarm.create(make_node("n1"))
        await swarm.settle()
        assert [task.status.state for task in swarm.tasks()] == [State.NEW]
        assert places(swarm.tasks()) == [("n1", 0)]
        await swarm.create(make_node("n2"))
        await swarm.settle()
        assert places(swarm.tasks()) == [("n1", 0), ("n2", 0)]
        await swarm.create(make_service("other"))
        await swarm.settle()
        assert places(swarm.tasks("other")) == [("n1", 0), ("n2", 0)]


async def test_the_records_of_a_deleted_node_are_deleted() -> None:
    swarm = Bench()
    replicated = make_service("replicated", replicas=1)
    await swarm.create(
        make_node("n1"), make_service(), replicated, make_task(replicated, "r", slot=1, node="n1")
    )
    async with swarm.started():
        await swarm.delete(api.Node, "n1")
        await swarm.settle()
        assert not swarm.tasks()
        assert swarm.has_task("r")


async def test_the_tasks_of_a_deleted_service_are_to_be_removed() -> None:
    swarm = Bench()
    await swarm.create(make_node("n1"), make_service())
    async with swarm.started():
        await swarm.delete(api.Service, "svc")
        await swarm.settle()
        assert [task.desired_state for task in swarm.tasks()] == [State.REMOVE]


async def test_a_record_that_is_deleted_directly_does_not_come_back() -> None:
    swarm = Bench()
    await swarm.create(make_node("n1"), make_service())
    async with swarm.started():
        await swarm.delete(api.Task, "task0001")
        await swarm.settle()
        assert not swarm.tasks()


@pytest.mark.parametrize("how", ["drain", "down"])
async def test_a_lost_node_loses_its_task_and_gets_a_new_one_when_it_is_back(how: str) -> None:
    swarm = Bench()
    await swarm.create(make_node("n1"), make_service())
    async with swarm.started(Worker(swarm)):
        if how == "drain":
            await swarm.availability(api.NodeSpec.DRAIN)
        else:
            await swarm.state(api.NodeStatus.DOWN)
        assert [task.desired_state for task in swarm.tasks()] == [State.SHUTDOWN]
        with swarm.store.watch(Watch(api.Task)) as watcher:
            await swarm.roll_out("svc", force)
            await swarm.settle()
            assert len(watcher) == 0
        if how == "drain":
            await swarm.availability(api.NodeSpec.ACTIVE)
        else:
            await swarm.state(api.NodeStatus.READY)
        assert [task.desired_state for task in swarm.wanted()] == [State.RUNNING]


async def test_on_a_paused_node_nothing_is_replaced() -> None:
    swarm = Bench()
    await swarm.create(make_node("n1"), make_service())
    async with swarm.started(Worker(swarm)):
        await swarm.availability(api.NodeSpec.PAUSE)
        await swarm.observe("task0001", State.FAILED)
        await swarm.settle()
        assert [task.desired_state for task in swarm.tasks()] == [State.SHUTDOWN]
        with swarm.store.watch(Watch(api.Task)) as watcher:
            await swarm.roll_out("svc", force)
            await swarm.settle(10)
            assert len(watcher) == 0


async def test_a_failed_task_is_replaced_on_its_node() -> None:
    swarm = Bench()
    await swarm.create(make_node("n1"), make_node("n2"), make_service())
    async with swarm.started(Worker(swarm)):
        await swarm.observe("task0001", State.FAILED)
        await swarm.settle()
        assert swarm.task("task0001").desired_state == State.SHUTDOWN
        assert swarm.task("task0003").node_id == swarm.task("task0001").node_id
        assert swarm.task("task0003").status.state == State.RUNNING


async def test_what_is_not_restarted_comes_back_with_a_forced_update_only() -> None:
    swarm = Bench()
    await swarm.create(make_node("n1"), make_service(condition=api.RestartPolicy.NONE))
    async with swarm.started(Worker(swarm)):
        await swarm.observe("task0001", State.FAILED)
        await swarm.settle()
        assert [task.desired_state for task in swarm.tasks()] == [State.SHUTDOWN]
        await swarm.edit(api.Service, "svc", lambda service: None)
        await swarm.settle()
        assert len(swarm.tasks()) == 1
        await swarm.roll_out("svc", force)
        await swarm.settle()
        assert [task.id for task in swarm.wanted()] == ["task0002"]


@pytest.mark.parametrize(("state", "desired"), [(State.REJECTED, State.READY), (State.FAILED, State.RUNNING)])
async def test_at_the_start_a_failed_task_is_replaced_on_its_node_after_the_delay(
    state: api.TaskState.ValueType, desired: api.TaskState.ValueType
) -> None:
    swarm = Bench()
    service = make_service(delay=0.1)
    await swarm.create(
        make_node("n1"), service, make_task(service, "t", node="n1", state=state, desired=desired)
    )
    async with swarm.started():
        assert swarm.task("t").desired_state == State.SHUTDOWN
        assert [(task.desired_state, task.node_id) for task in swarm.new_tasks()] == [(State.READY, "n1")]
        await swarm.settle(0.08)
        assert swarm.task("task0001").desired_state == State.READY
        await swarm.settle(0.03)
        assert swarm.task("task0001").desired_state == State.RUNNING


async def test_of_two_tasks_on_one_node_exactly_one_is_shut_down_at_the_start() -> None:
    swarm = Bench()
    service = make_service()
    await swarm.create(
        make_node("n1"), service, make_task(service, "a", node="n1"), make_task(service, "b", node="n1")
    )
    async with swarm.started():
        assert sorted(task.desired_state for task in swarm.tasks()) == [State.RUNNING, State.SHUTDOWN]


async def test_services_that_are_up_to_date_are_left_alone_and_a_change_of_one_concerns_it_alone() -> None:
    swarm = Bench()
    one, two = make_service("one"), make_service("two")
    await swarm.create(
        make_node("n1"), one, two, make_task(one, "a", node="n1"), make_task(two, "b", node="n1")
    )
    with swarm.store.watch(Watch(api.Task)) as watcher:
        async with swarm.started():
            assert len(watcher) == 0
            await swarm.roll_out("one", lambda service: setattr(service.spec.task.container, "image", "new"))
            await swarm.settle()
            assert swarm.task("a").desired_state == State.SHUTDOWN
            assert [task.desired_state for task in swarm.new_tasks("one")] == [State.READY]
            await swarm.observe("b", State.FAILED)
            await swarm.settle()
            assert swarm.task("b").desired_state == State.SHUTDOWN
            assert len(swarm.new_tasks("two")) == 1
            assert len(swarm.new_tasks("one")) == 1


async def test_tasks_of_a_service_that_does_not_exist_are_deleted_at_the_start() -> None:
    swarm = Bench()
    await swarm.create(make_node("n1"), make_task(make_service("gone"), "t", node="n1"))
    async with swarm.started():
        assert not swarm.has_task("t")


@pytest.mark.parametrize("node", ["drained", "missing"])
async def test_tasks_where_they_cannot_stay_are_shut_down_only_at_the_start(node: str) -> None:
    swarm = Bench()
    service = make_service()
    await swarm.create(make_node("drained", availability=api.NodeSpec.DRAIN), service)
    await swarm.create(make_task(service, "t", node=node))
    async with swarm.started():
        assert swarm.task("t").desired_state == State.SHUTDOWN
        assert not swarm.new_tasks()


async def test_the_history_of_restarts_survives_a_change_of_leader() -> None:
    swarm = Bench()
    service = make_service(attempts=3, window=600, version=2)
    await swarm.create(make_node("n1"), service)

    async def old_task(id: str, minutes: float, of: api.Service, **fields: api.TaskState.ValueType) -> None:
        task = make_task(of, id, node="n1", at=-minutes * 60, **fields)
        task.meta.created_at.CopyFrom(task.status.timestamp)
        await swarm.create(task)

    over = {"state": State.FAILED, "desired": State.SHUTDOWN}
    await old_task("other", 13, make_service(version=1), **over)
    for id, minutes in (("a", 12), ("b", 11), ("c", 9)):
        await old_task(id, minutes, service, **over)
    await old_task("d", 8, service)
    async with swarm.started():
        await swarm.observe("d", State.FAILED)
        await swarm.settle()
        assert [task.id for task in swarm.new_tasks()] == ["task0001"]
        await swarm.observe("task0001", State.REJECTED)
        await swarm.settle()
        assert swarm.task("task0001").desired_state == State.SHUTDOWN
        assert len(swarm.new_tasks()) == 1


async def test_a_node_that_begins_to_match_gets_a_task_and_loses_it_when_it_stops() -> None:
    swarm = Bench()
    await swarm.create(make_node("n1"), make_service(constraints=["node.labels.a==b"]))
    enforcer = ConstraintEnforcer(swarm.store, swarm.clock)
    async with swarm.started(Worker(swarm)), swarm.running(enforcer.run):
        assert not swarm.tasks()
        await swarm.edit(api.Node, "n1", lambda node: node.spec.annotations.labels.update({"a": "b"}))
        await swarm.settle()
        assert places(swarm.wanted()) == [("n1", 0)]
        await swarm.edit(api.Node, "n1", lambda node: node.spec.annotations.labels.update({"a": "c"}))
        await swarm.settle(10)
        (task,) = swarm.tasks()
        assert (task.status.state, task.desired_state) == (State.REJECTED, State.SHUTDOWN)


async def test_a_change_of_the_constraints_moves_the_service() -> None:
    swarm = Bench()
    await swarm.create(make_node("n1", labels={"a": "b"}), make_node("n2", labels={"a": "c"}))
    await swarm.create(make_service(constraints=["node.labels.a==b"]))
    async with swarm.started(Worker(swarm)):
        assert places(swarm.wanted()) == [("n1", 0)]

        def change(service: api.Service) -> None:
            service.spec.task.placement.constraints[:] = ["node.labels.a==c"]

        await swarm.roll_out("svc", change)
        await swarm.settle()
        assert places(swarm.wanted()) == [("n2", 0)]


async def test_an_update_rolls_over_the_nodes() -> None:
    swarm = Bench()
    await swarm.create(*(make_node(f"n{number}") for number in range(4)))
    service = make_service()
    service.spec.update.parallelism = 1
    service.spec.update.delay.seconds = 1
    await swarm.create(service)
    async with swarm.started(Worker(swarm)):
        await swarm.roll_out("svc", lambda s: setattr(s.spec.task.container, "image", "new"))
        await swarm.settle(0.5)
        assert sum(task.spec.container.image == "new" for task in swarm.wanted()) == 1
        await swarm.settle(20)
        assert [task.spec.container.image for task in swarm.wanted()] == ["new"] * 4
        assert places(swarm.wanted()) == [(f"n{number}", 0) for number in range(4)]
        assert swarm.service().update_status.state == api.UpdateStatus.COMPLETED


async def test_an_update_does_not_touch_a_node_that_was_paused_meanwhile() -> None:
    swarm = Bench()
    await swarm.create(make_node("n1"), make_node("n2"))
    service = make_service()
    service.spec.update.parallelism = 1
    service.spec.update.delay.seconds = 1
    await swarm.create(service)
    async with swarm.started(Worker(swarm)):
        await swarm.roll_out("svc", lambda s: setattr(s.spec.task.container, "image", "new"))
        await swarm.settle(0.1)
        left = next(task for task in swarm.wanted() if task.spec.container.image == "v1")
        await swarm.availability(api.NodeSpec.PAUSE, left.node_id)
        await swarm.settle(20)
        assert swarm.task(left.id).desired_state == State.RUNNING


async def test_the_restarts_on_a_deleted_node_are_forgotten() -> None:
    swarm = Bench()
    await swarm.create(make_node("n1"), make_service(attempts=1))
    async with swarm.started(Worker(swarm)):
        await swarm.observe("task0001", State.FAILED)
        await swarm.settle()
        await swarm.delete(api.Node, "n1")
        await swarm.settle()
        await swarm.create(make_node("n1"))
        await swarm.settle()
        await swarm.observe("task0003", State.FAILED)
        await swarm.settle()
        assert [task.id for task in swarm.wanted()] == ["task0004"]
