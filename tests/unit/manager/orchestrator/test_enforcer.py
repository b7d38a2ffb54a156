"""The constraint enforcer on a store: contract/orchestration.md, 11.1 and 17 (Enforcers)."""

import asyncio

from swarmkit.api import messages as api
from swarmkit.manager.orchestrator import ConstraintEnforcer
from tests.fakes.proposer import FakeProposer
from tests.unit.manager.orchestrator.support import State, Swarm, make_node, make_service, make_task


async def test_at_the_start_only_what_does_not_match_is_rejected() -> None:
    swarm = Swarm()
    managers_only = make_service("managers", constraints=["node.role==manager"])
    anywhere = make_service("anywhere")
    job = make_service("job")
    job.spec.global_job.SetInParent()
    await swarm.create(make_node("n1"), managers_only, anywhere, job)
    await swarm.create(make_task(managers_only, "a", node="n1"), make_task(anywhere, "b", node="n1"))
    await swarm.create(make_task(job, "c", node="n1", desired=State.COMPLETE))
    async with swarm.running(ConstraintEnforcer(swarm.store, swarm.clock).run):
        assert swarm.task("a").status.state == State.REJECTED
        assert swarm.task("a").desired_state == State.RUNNING
        assert swarm.task("a").status.message == "task rejected by constraint enforcer"
        assert swarm.task("a").status.err == "assigned node no longer meets constraints"
        assert swarm.task("b").status.state == State.RUNNING
        assert swarm.task("c").status.state == State.RUNNING


async def test_a_node_that_changes_is_looked_at_again() -> None:
    swarm = Swarm()
    service = make_service(constraints=["node.role==worker"])
    await swarm.create(make_node("n1"), make_node("n2"), service)
    await swarm.create(make_task(service, "a", node="n1"), make_task(service, "b", node="n2"))
    async with swarm.running(ConstraintEnforcer(swarm.store, swarm.clock).run):
        assert swarm.task("a").status.state == State.RUNNING
        await swarm.edit(api.Node, "n1", lambda node: setattr(node, "role", api.NodeRole.MANAGER))
        await swarm.settle()
        assert swarm.task("a").status.state == State.REJECTED
        assert swarm.task("b").status.state == State.RUNNING


async def test_the_rejection_is_dated_now_so_that_the_task_is_the_newest() -> None:
    swarm = Swarm()
    service = make_service(constraints=["node.role==manager"])
    await swarm.create(make_node("n1"), service)
    await swarm.settle(7)
    task = make_task(service, "t", node="n1", at=1)
    task.status.applied_at.CopyFrom(task.status.timestamp)
    await swarm.create(task)
    async with swarm.running(ConstraintEnforcer(swarm.store, swarm.clock).run):
        status = swarm.task("t").status
        assert status.timestamp.seconds - task.status.timestamp.seconds == 6
        assert status.applied_at == status.timestamp


async def test_a_node_that_is_paused_is_left_alone_until_it_is_active() -> None:
    swarm = Swarm()
    service = make_service()
    task = make_task(service, "t", node="n1", state=State.READY, desired=State.READY)
    task.spec.resources.reservations.memory_bytes = 9
    await swarm.create(make_node("n1", availability=api.NodeSpec.PAUSE), service, task)
    async with swarm.running(ConstraintEnforcer(swarm.store, swarm.clock).run):
        await swarm.edit(api.Node, "n1", lambda node: setattr(node.description.resources, "memory_bytes", 5))
        await swarm.settle()
        assert swarm.task("t").status.state == State.READY
        await swarm.edit(api.Node, "n1", lambda node: setattr(node.spec, "availability", api.NodeSpec.ACTIVE))
        await swarm.settle()
        assert swarm.task("t").status.state == State.REJECTED


async def test_a_task_that_has_just_ended_is_not_rejected() -> None:
    swarm = Swarm()
    service = make_service(constraints=["node.role==manager"])
    await swarm.create(make_node("n1"), service, make_task(service, "t", node="n1"))
    proposer = FakeProposer(swarm.store, automatic=False)
    swarm.store.attach(proposer)
    report = asyncio.get_running_loop().create_task(swarm.observe("t", State.COMPLETE))
    await swarm.settle()
    async with swarm.running(ConstraintEnforcer(swarm.store, swarm.clock).run):
        proposer.commit_all()
        await report
        await swarm.settle()
        assert proposer.waiting == 0
        assert swarm.task("t").status.state == State.COMPLETE
