"""What a new leader makes of replicated services that are there already: contract/orchestration.md, 13."""

import asyncio
from functools import partial
from itertools import pairwise

from swarmkit.api import messages as api
from swarmkit.manager.orchestrator import ReplicatedOrchestrator
from swarmkit.manager.pacing import SLICE_SECONDS
from tests.fakes.loop import SteppingClock
from tests.fakes.proposer import FakeProposer
from tests.unit.manager.orchestrator.replicated_bench import Bench, set_image
from tests.unit.manager.orchestrator.support import State, Worker, make_node, make_service, make_task


async def test_a_stored_service_gets_its_tasks_at_the_start() -> None:
    swarm = Bench()
    await swarm.create(make_service(replicas=2))
    async with swarm.started():
        tasks = swarm.tasks()
        assert [task.status.state for task in tasks] == [State.NEW, State.NEW]
        assert {task.service_annotations.name for task in tasks} == {"name-of-svc"}
        assert swarm.slots() == [1, 2]


async def test_a_start_with_many_services_lets_the_loop_go_on_between_them() -> None:
    swarm = Bench()
    await swarm.create(*(make_service(f"svc{number}", replicas=0) for number in range(200)))
    clock = SteppingClock(SLICE_SECONDS / 4)
    looks: list[float] = []

    async def watch_the_loop() -> None:
        for _ in range(1000):
            looks.append(clock.time)
            await asyncio.sleep(0)

    async with swarm.running(watch_the_loop, ReplicatedOrchestrator(swarm.store, clock, swarm.new_id).run):
        pass
    assert looks[-1] > 200 * SLICE_SECONDS / 4  # each of them was dealt with
    assert max(later - earlier for earlier, later in pairwise(looks)) < 3 * SLICE_SECONDS


async def test_a_rejected_replacement_is_replaced_at_the_start() -> None:
    swarm = Bench()
    service = make_service(replicas=1, delay=1)
    await swarm.create(make_node("n1"), service)
    await swarm.create(make_task(service, "t", slot=1, node="n1", state=State.REJECTED, desired=State.READY))
    async with swarm.started():
        assert swarm.task("t").desired_state == State.SHUTDOWN
        (new,) = swarm.new_tasks()
        assert (new.desired_state, new.node_id, new.slot) == (State.READY, "", 1)


async def test_only_what_failed_is_replaced_at_the_start() -> None:
    swarm = Bench()
    service = make_service(replicas=2)
    await swarm.create(make_node("n1"), service)
    await swarm.create(make_task(service, "failed", slot=1, node="n1", state=State.FAILED))
    await swarm.create(make_task(service, "starting", slot=2, node="n1", state=State.STARTING))
    async with swarm.started():
        assert swarm.task("failed").desired_state == State.SHUTDOWN
        assert swarm.task("starting").desired_state == State.RUNNING
        assert [task.slot for task in swarm.new_tasks()] == [1]


async def test_a_waiting_task_is_released_after_what_is_left_of_its_delay() -> None:
    swarm = Bench()
    service = make_service(replicas=1, delay=0.1)
    await swarm.create(service, make_task(service, "t", slot=1, state=State.READY, desired=State.READY))
    async with swarm.started():
        await swarm.settle(0.09)
        assert swarm.task("t").desired_state == State.READY
        await swarm.settle(0.02)
        assert swarm.task("t").desired_state == State.RUNNING


async def test_at_the_start_tasks_leave_nodes_that_are_down_or_drained() -> None:
    swarm = Bench()
    service = make_service(replicas=6)
    await swarm.create(
        service,
        make_node("ready"),
        make_node("down", state=api.NodeStatus.DOWN),
        make_node("unknown", state=api.NodeStatus.UNKNOWN),
        make_node("paused", availability=api.NodeSpec.PAUSE),
        make_node("drained", availability=api.NodeSpec.DRAIN),
    )
    for slot, node in enumerate(["ready", "down", "unknown", "paused", "drained", ""], 1):
        await swarm.create(make_task(service, f"on-{node}", slot=slot, node=node))
    async with swarm.started():
        stopped = [task.id for task in swarm.tasks() if task.desired_state == State.SHUTDOWN]
        assert stopped == ["on-down", "on-drained"]
        assert sorted(task.slot for task in swarm.new_tasks()) == [2, 5]
        assert all(not task.node_id for task in swarm.new_tasks())


async def test_an_interrupted_update_goes_on_under_the_next_leader() -> None:
    swarm = Bench()
    service = make_service(replicas=3)
    service.spec.update.parallelism = 1
    service.spec.update.delay.seconds = 2
    await swarm.create(make_node("n1"), service)
    async with swarm.running(Worker(swarm, ["n1"]).run):
        async with swarm.started():
            await swarm.roll_out("svc", lambda s: setattr(s.spec.task.container, "image", "new"))
            await swarm.settle(1)
        assert sum(task.spec.container.image == "new" for task in swarm.wanted()) == 1
        async with swarm.started():
            await swarm.settle(20)
        assert [task.spec.container.image for task in swarm.wanted()] == ["new"] * 3
        assert swarm.service().update_status.state == api.UpdateStatus.COMPLETED


async def test_a_paused_update_stays_paused_under_the_next_leader() -> None:
    swarm = Bench()
    service = make_service(replicas=2, image="new", version=5)
    service.update_status.state = api.UpdateStatus.PAUSED
    old = make_service(replicas=2, version=1)
    await swarm.create(service, make_task(old, "a", slot=1), make_task(old, "b", slot=2))
    async with swarm.started():
        await swarm.settle(20)
        assert [task.id for task in swarm.tasks()] == ["a", "b"]


async def test_tasks_of_services_that_vanished_between_leaders_are_deleted() -> None:
    swarm = Bench()
    await swarm.create(make_task(make_service("gone", replicas=1), "t", slot=1))
    async with swarm.started():
        assert not swarm.tasks("gone")


async def test_an_orchestrator_that_ended_can_be_started_again() -> None:
    swarm = Bench()
    await swarm.create(make_node("n1"), make_service(replicas=1))
    orchestrator = ReplicatedOrchestrator(swarm.store, swarm.clock, swarm.new_id)
    async with swarm.running(Worker(swarm, ["n1"]).run):
        for image in ("new", "newest"):
            async with swarm.running(orchestrator.run):
                await swarm.roll_out("svc", partial(set_image, image))
                await swarm.settle(10)
                assert [task.spec.container.image for task in swarm.wanted()] == [image]


async def test_two_runs_do_not_fill_a_slot_twice_though_the_first_ones_changes_are_in_flight() -> None:
    swarm = Bench()
    await swarm.create(make_service(replicas=2))
    proposer = FakeProposer(swarm.store, automatic=False)
    swarm.store.attach(proposer)
    async with swarm.started():
        assert proposer.waiting == 1
    async with swarm.started():
        while proposer.waiting:
            proposer.commit_all()
            await swarm.settle()
        assert swarm.slots() == [1, 2]
