"""The restart supervisor on a store: contract/orchestration.md, 8 and 17 (Restart)."""

import contextlib
from collections.abc import AsyncIterator

import pytest

from swarmkit.api import messages as api
from swarmkit.manager.orchestrator.restart import AlreadyShutDownError, RestartSupervisor
from tests.unit.manager.orchestrator.support import State, Swarm, make_node, make_service, make_task


class Bench(Swarm):
    def __init__(self) -> None:
        super().__init__()
        self.restarts = RestartSupervisor(self.store, self.clock, self.new_id)

    @contextlib.asynccontextmanager
    async def started(self) -> AsyncIterator[None]:
        with self.restarts.watch() as watcher:
            async with self.running(lambda: self.restarts.run(watcher)):
                yield

    async def restart(self, task_id: str) -> None:
        await self.store.update(
            lambda tx: self.restarts.restart(tx, self.service(), tx.get(api.Task, task_id) or api.Task())
        )


async def test_a_failed_task_is_shut_down_and_replaced_in_one_commit_and_the_replacement_released() -> None:
    swarm = Bench()
    service = make_service(replicas=1)
    await swarm.create(service, make_task(service, "old", slot=1, node="n1", state=State.FAILED))
    async with swarm.started():
        version = swarm.store.version
        await swarm.restart("old")
        assert swarm.store.version == version + 1
        assert swarm.task("old").desired_state == State.SHUTDOWN
        assert swarm.task("task0001").desired_state == State.READY
        await swarm.settle()
        assert swarm.task("task0001").desired_state == State.RUNNING


async def test_a_task_that_is_not_replaced_is_shut_down_only() -> None:
    swarm = Bench()
    service = make_service(replicas=1, condition=api.RestartPolicy.ON_FAILURE)
    await swarm.create(service, make_task(service, "old", slot=1, state=State.COMPLETE))
    await swarm.restart("old")
    assert swarm.task("old").desired_state == State.SHUTDOWN
    assert not swarm.new_tasks()


async def test_the_replacement_is_not_released_before_the_delay() -> None:
    swarm = Bench()
    service = make_service(replicas=1, delay=0.1)
    await swarm.create(service, make_task(service, "old", slot=1, state=State.FAILED))
    async with swarm.started():
        await swarm.restart("old")
        await swarm.settle(0.09)
        assert swarm.task("task0001").desired_state == State.READY
        await swarm.settle(0.02)
        assert swarm.task("task0001").desired_state == State.RUNNING


async def test_a_job_is_released_to_complete() -> None:
    swarm = Bench()
    service = make_service(replicas=1)
    service.spec.replicated_job.total_completions = 1
    await swarm.create(service)
    task = make_task(service, "old", state=State.FAILED, desired=State.COMPLETE)
    task.job_iteration.SetInParent()
    await swarm.create(task)
    async with swarm.started():
        await swarm.restart("old")
        await swarm.settle()
        assert swarm.task("task0001").desired_state == State.COMPLETE


async def test_an_old_task_that_never_stops_holds_the_replacement_for_sixty_seconds() -> None:
    swarm = Bench()
    service = make_service(replicas=1)
    await swarm.create(make_node("n1"), service, make_task(service, "old", slot=1, node="n1"))
    async with swarm.started():
        await swarm.restart("old")
        await swarm.settle(59)
        assert swarm.task("task0001").desired_state == State.READY
        await swarm.settle(1.1)
        assert swarm.task("task0001").desired_state == State.RUNNING


@pytest.mark.parametrize("how", ["ended", "down", "deleted"])
async def test_the_wait_ends_with_the_old_task_or_its_node(how: str) -> None:
    swarm = Bench()
    service = make_service(replicas=1)
    await swarm.create(make_node("n1"), service, make_task(service, "old", slot=1, node="n1"))
    async with swarm.started():
        await swarm.restart("old")
        await swarm.settle(5)
        assert swarm.task("task0001").desired_state == State.READY
        if how == "ended":
            await swarm.observe("old", State.SHUTDOWN)
        elif how == "down":
            await swarm.edit(api.Node, "n1", lambda node: setattr(node.status, "state", api.NodeStatus.DOWN))
        else:
            await swarm.delete(api.Node, "n1")
        await swarm.settle()
        assert swarm.task("task0001").desired_state == State.RUNNING


async def test_the_deletion_of_the_old_record_does_not_end_the_wait() -> None:
    swarm = Bench()
    service = make_service(replicas=1)
    await swarm.create(make_node("n1"), service, make_task(service, "old", slot=1, node="n1"))
    async with swarm.started():
        await swarm.restart("old")
        await swarm.delete(api.Task, "old")
        await swarm.settle(59)
        assert swarm.task("task0001").desired_state == State.READY


@pytest.mark.parametrize("desired", [State.SHUTDOWN, State.REMOVE])
async def test_a_replacement_that_is_given_up_meanwhile_is_never_released(
    desired: api.TaskState.ValueType,
) -> None:
    swarm = Bench()
    service = make_service(replicas=1, delay=1)
    await swarm.create(service, make_task(service, "old", slot=1, state=State.FAILED))
    async with swarm.started():
        await swarm.restart("old")
        await swarm.edit(api.Task, "task0001", lambda task: setattr(task, "desired_state", desired))
        await swarm.settle(2)
        assert swarm.task("task0001").desired_state == desired


async def test_a_cancelled_release_leaves_the_replacement_in_ready() -> None:
    swarm = Bench()
    service = make_service(replicas=1, delay=1)
    await swarm.create(service, make_task(service, "old", slot=1, state=State.FAILED))
    async with swarm.started():
        await swarm.restart("old")
        swarm.restarts.cancel("task0001")
        await swarm.settle(2)
        assert swarm.task("task0001").desired_state == State.READY


async def test_a_replacement_that_fails_before_its_delay_is_restarted_once_after_it() -> None:
    swarm = Bench()
    service = make_service(replicas=1, delay=1)
    await swarm.create(service, make_task(service, "old", slot=1, state=State.FAILED))
    async with swarm.started():
        await swarm.restart("old")
        await swarm.observe("task0001", State.REJECTED)
        await swarm.restart("task0001")
        await swarm.restart("task0001")
        await swarm.settle(0.9)
        assert swarm.task("task0001").desired_state == State.READY
        assert len(swarm.new_tasks()) == 1
        await swarm.settle(0.2)
        assert swarm.task("task0001").desired_state == State.SHUTDOWN
        assert [task.id for task in swarm.new_tasks()] == ["task0001", "task0002"]


async def test_a_task_that_is_shut_down_already_cannot_be_restarted() -> None:
    swarm = Bench()
    service = make_service(replicas=1)
    await swarm.create(service, make_task(service, "old", slot=1, state=State.FAILED, desired=State.SHUTDOWN))
    with pytest.raises(AlreadyShutDownError, match="old"):
        await swarm.restart("old")
    assert not swarm.new_tasks()


async def test_replacements_take_the_clusters_log_driver() -> None:
    swarm = Bench()
    cluster = api.Cluster()
    cluster.spec.task_defaults.log_driver.name = "journald"
    swarm.restarts.adopt_cluster(cluster)
    service = make_service(replicas=1)
    await swarm.create(service, make_task(service, "old", slot=1, state=State.FAILED))
    await swarm.restart("old")
    assert swarm.task("task0001").log_driver.name == "journald"
