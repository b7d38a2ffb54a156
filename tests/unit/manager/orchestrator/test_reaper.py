"""The task reaper on a store: contract/orchestration.md, 12 and 17 (Reaper)."""

import contextlib
from collections.abc import AsyncIterator

import pytest

from swarmkit.api import messages as api
from swarmkit.manager.orchestrator import ReplicatedOrchestrator, TaskReaper
from tests.unit.manager.orchestrator.support import State, Swarm, Worker, make_node, make_service, make_task


class Bench(Swarm):
    def __init__(self) -> None:
        super().__init__()
        self.reaper = TaskReaper(self.store, self.clock)

    async def cluster(self, limit: int) -> None:
        cluster = api.Cluster(id="cluster")
        cluster.spec.annotations.name = "default"
        cluster.spec.orchestration.task_history_retention_limit = limit
        await self.create(cluster)

    @contextlib.asynccontextmanager
    async def with_orchestrator(self) -> AsyncIterator[Worker]:
        await self.create(make_node("n1"))
        worker = Worker(self, ["n1"])
        orchestrator = ReplicatedOrchestrator(self.store, self.clock, self.new_id)
        async with self.running(self.reaper.run, orchestrator.run, worker.run):
            yield worker

    async def remove(self, *ids: str) -> None:
        def write(task: api.Task) -> None:
            task.desired_state = State.REMOVE

        for id in ids:
            await self.edit(api.Task, id, write)


def ids(swarm: Swarm) -> list[str]:
    return [task.id for task in swarm.tasks()]


async def test_at_the_start_removed_tasks_go_unless_they_are_on_a_node() -> None:
    swarm = Bench()
    await swarm.cluster(2)
    service = make_service(replicas=1)
    await swarm.create(service)
    for name in ("NEW", "PENDING", "ASSIGNED", "RUNNING", "COMPLETE", "SHUTDOWN"):
        state = State.Value(name)
        await swarm.create(make_task(service, name, slot=1, state=state, desired=State.REMOVE))
    await swarm.create(
        make_task(service, "live", slot=1), make_task(service, "failed", slot=1, state=State.FAILED)
    )
    await swarm.create(make_task(make_service("gone"), "of-gone", desired=State.REMOVE))
    async with swarm.running(swarm.reaper.run):
        assert ids(swarm) == ["ASSIGNED", "RUNNING", "failed", "live"]
        assert swarm.has_task("of-gone")
        assert swarm.reaper.passes == 1


async def test_at_the_start_lost_tasks_go_only_if_they_have_no_service() -> None:
    swarm = Bench()
    service = make_service(replicas=1)
    own = make_task(make_service(""), "own", state=State.ORPHANED)
    await swarm.create(service, make_task(service, "t", slot=1, state=State.ORPHANED), own)
    async with swarm.running(swarm.reaper.run):
        assert swarm.has_task("t")
        assert not swarm.has_task("own")


async def test_history_is_trimmed_to_the_limit_by_slot() -> None:
    swarm = Bench()
    await swarm.cluster(2)
    await swarm.create(make_service(replicas=2))
    async with swarm.with_orchestrator():
        for _ in range(2):
            for task in swarm.wanted():
                await swarm.observe(task.id, State.FAILED)
            await swarm.settle(1)
        assert ids(swarm) == ["task0003", "task0004", "task0005", "task0006"]


async def test_without_a_limit_scaled_away_tasks_go_once_they_are_shut_down() -> None:
    swarm = Bench()
    await swarm.cluster(-1)
    await swarm.create(make_service(replicas=2))
    async with swarm.with_orchestrator() as worker:
        worker.stops = lambda task: False
        await swarm.edit(api.Service, "svc", lambda s: setattr(s.spec.replicated, "replicas", 1))
        await swarm.settle(1)
        removed = [task.id for task in swarm.tasks() if task.desired_state == State.REMOVE]
        assert len(removed) == 1
        await swarm.observe(removed[0], State.SHUTDOWN)
        await swarm.settle(1)
        assert not swarm.has_task(removed[0])
        assert len(swarm.tasks()) == 1


async def test_tasks_that_completed_go_with_their_service() -> None:
    swarm = Bench()
    await swarm.cluster(-1)
    await swarm.create(make_service(replicas=2, condition=api.RestartPolicy.NONE))
    async with swarm.with_orchestrator() as worker:
        worker.outcome = lambda task: State.COMPLETE
        await swarm.settle(1)
        for id in ids(swarm):
            await swarm.observe(id, State.COMPLETE)
        await swarm.delete(api.Service, "svc")
        await swarm.settle(1)
        assert not swarm.tasks()


async def test_a_pending_task_that_an_update_supersedes_goes_while_it_is_pending() -> None:
    swarm = Bench()
    await swarm.cluster(1)
    await swarm.create(make_service(replicas=1))
    orchestrator = ReplicatedOrchestrator(swarm.store, swarm.clock, swarm.new_id)
    async with swarm.running(swarm.reaper.run, orchestrator.run):
        await swarm.observe("task0001", State.PENDING)
        await swarm.roll_out("svc", lambda service: setattr(service.spec.task.container, "image", "new"))
        await swarm.settle()
        assert swarm.task("task0001").desired_state == State.SHUTDOWN
        await swarm.settle(1)
        assert ids(swarm) == ["task0002"]


async def test_an_idle_reaper_makes_no_pass() -> None:
    swarm = Bench()
    async with swarm.running(swarm.reaper.run):
        await swarm.settle(500)
        assert swarm.reaper.passes == 0


async def test_marks_are_gathered_for_a_quarter_of_a_second_and_later_ones_anew() -> None:
    swarm = Bench()
    service = make_service(replicas=1)
    await swarm.create(*(make_task(service, id, slot=1, state=State.FAILED) for id in ("a", "b", "c")))
    async with swarm.running(swarm.reaper.run):
        await swarm.remove("a")
        await swarm.settle(0.2)
        await swarm.remove("b")
        assert swarm.reaper.passes == 0
        await swarm.settle(0.06)
        assert swarm.reaper.passes == 1
        assert ids(swarm) == ["c"]
        await swarm.settle(10)
        assert swarm.reaper.passes == 1
        await swarm.remove("c")
        await swarm.settle(0.3)
        assert swarm.reaper.passes == 2


async def test_a_thousand_and_one_marks_are_dealt_with_at_once_and_once() -> None:
    swarm = Bench()
    service = make_service(replicas=1)
    names = [f"t{number:04}" for number in range(1001)]
    await swarm.create(*(make_task(service, id, slot=1, state=State.FAILED) for id in [*names, "later"]))
    async with swarm.running(swarm.reaper.run):
        await swarm.remove(*names)
        await swarm.settle(0.01)
        assert swarm.reaper.passes == 1
        assert ids(swarm) == ["later"]
        await swarm.settle(1)
        assert swarm.reaper.passes == 1
        await swarm.remove("later")
        await swarm.settle(0.3)
        assert swarm.reaper.passes == 2
        assert not swarm.tasks()


async def test_a_change_of_the_limit_holds_for_slots_that_get_a_new_task_later() -> None:
    swarm = Bench()
    await swarm.cluster(5)
    service = make_service(replicas=1)
    await swarm.create(service)
    for id in ("a", "b", "c"):
        await swarm.create(make_task(service, id, slot=1, state=State.FAILED, desired=State.SHUTDOWN))
    async with swarm.running(swarm.reaper.run):
        await swarm.edit(
            api.Cluster, "cluster", lambda c: setattr(c.spec.orchestration, "task_history_retention_limit", 2)
        )
        await swarm.settle(1)
        assert len(swarm.tasks()) == 3
        await swarm.create(make_task(service, "new", slot=1, at=1))
        await swarm.settle(1)
        assert ids(swarm) == ["c", "new"]


@pytest.mark.parametrize("mode", ["replicated_job", "global_job"])
async def test_the_history_of_jobs_is_not_trimmed(mode: str) -> None:
    swarm = Bench()
    await swarm.cluster(1)
    service = make_service()
    getattr(service.spec, mode).SetInParent()
    await swarm.create(service)
    async with swarm.running(swarm.reaper.run):
        for number in range(4):
            await swarm.create(make_task(service, f"t{number}", node="n1", state=State.COMPLETE))
        await swarm.settle(1)
        assert len(swarm.tasks()) == 4


async def test_a_slot_with_two_running_tasks_is_looked_at_again() -> None:
    swarm = Bench()
    await swarm.cluster(1)
    service = make_service(replicas=1)
    await swarm.create(service)
    async with swarm.running(swarm.reaper.run):
        await swarm.create(make_task(service, "a", slot=1), make_task(service, "b", slot=1))
        await swarm.settle(1)
        assert ids(swarm) == ["a", "b"]
        await swarm.observe("a", State.SHUTDOWN)
        await swarm.settle(1)
        assert ids(swarm) == ["b"]


async def test_a_slot_that_could_not_be_settled_is_looked_at_when_the_limit_changes() -> None:
    swarm = Bench()
    await swarm.cluster(3)
    service = make_service(replicas=1)
    await swarm.create(service)
    async with swarm.running(swarm.reaper.run):
        await swarm.create(make_task(service, "a", slot=1, at=-4), make_task(service, "b", slot=1, at=-3))
        for id, age in (("c", -2), ("d", -1)):
            await swarm.create(
                make_task(service, id, slot=1, state=State.FAILED, desired=State.SHUTDOWN, at=age)
            )
        await swarm.settle(1)
        assert ids(swarm) == ["a", "b", "d"]
        await swarm.edit(
            api.Cluster, "cluster", lambda c: setattr(c.spec.orchestration, "task_history_retention_limit", 1)
        )
        await swarm.settle(1)
        assert ids(swarm) == ["a", "b"]
