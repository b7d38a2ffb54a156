"""What a new leader finds: contract/orchestration.md, 13.1."""

import datetime

import pytest

from swarmkit.api import messages as api
from swarmkit.manager.orchestrator.slots import SlotKey
from swarmkit.manager.orchestrator.startup import (
    StartupPlan,
    check_tasks,
    repair_of_global,
    repair_of_replicated,
)
from swarmkit.manager.orchestrator.steps import finish
from swarmkit.manager.tasks import is_global, is_replicated, nanoseconds
from tests.fakes.loop import EPOCH
from tests.unit.manager.orchestrator.support import State, make_node, make_service, make_task

NODES = {
    node.id: node
    for node in (
        make_node("ready"),
        make_node("down", state=api.NodeStatus.DOWN),
        make_node("unknown", state=api.NodeStatus.UNKNOWN),
        make_node("disconnected", state=api.NodeStatus.DISCONNECTED),
        make_node("paused", availability=api.NodeSpec.PAUSE),
        make_node("drained", availability=api.NodeSpec.DRAIN),
    )
}


def check(service: api.Service, *tasks: api.Task, after: float = 0) -> StartupPlan:
    stamp = api.TaskStatus().timestamp
    stamp.FromDatetime(EPOCH + datetime.timedelta(seconds=after))
    takes, repair = (
        (is_replicated, repair_of_replicated) if is_replicated(service) else (is_global, repair_of_global)
    )
    services = {"svc": service}
    return finish(check_tasks(tasks, services, NODES, takes, repair, nanoseconds(stamp)))


def test_a_task_of_a_missing_service_is_forgotten_even_if_it_runs() -> None:
    gone = make_service("gone", replicas=1)
    plan = check(make_service(replicas=1), make_task(gone, "t", slot=1))
    assert plan.forget == ["t"]
    assert check(make_service(replicas=1), api.Task(id="own")) == StartupPlan()


def test_tasks_of_other_modes_are_left_alone() -> None:
    service = make_service(replicas=1)
    service.spec.replicated_job.SetInParent()
    assert check(service, make_task(service, "t", slot=1, state=State.FAILED)) == StartupPlan()


@pytest.mark.parametrize(
    ("node", "restarted"),
    [
        ("ready", False),
        ("down", True),
        ("unknown", False),
        ("disconnected", False),
        ("paused", False),
        ("drained", True),
        ("missing", True),
        ("", False),
    ],
)
def test_a_replicated_task_on_a_node_where_it_cannot_stay_is_restarted(node: str, restarted: bool) -> None:
    service = make_service(replicas=1)
    plan = check(service, make_task(service, "t", slot=1, node=node))
    assert plan.restart == (["t"] if restarted else [])


def test_what_ended_is_restarted_if_it_is_wanted() -> None:
    for service in (make_service(replicas=1), make_service()):
        failed = make_task(service, "a", node="ready", state=State.FAILED)
        rejected = make_task(service, "b", node="ready", state=State.REJECTED, desired=State.READY)
        over = make_task(service, "c", node="ready", state=State.FAILED, desired=State.SHUTDOWN)
        plan = check(service, failed, rejected, over)
        assert plan.restart == ["a", "b"]
        assert not plan.release
        assert not plan.shut_down


@pytest.mark.parametrize(
    ("node", "stopped"),
    [("ready", False), ("paused", False), ("down", True), ("drained", True), ("missing", True), ("", True)],
)
def test_a_global_task_without_a_node_that_may_have_it_is_shut_down_only(node: str, stopped: bool) -> None:
    service = make_service()
    plan = check(service, make_task(service, "t", node=node))
    assert plan.shut_down == (["t"] if stopped else [])
    assert not plan.restart


@pytest.mark.parametrize(
    ("delay", "since", "after", "remaining"),
    [(10, 0.0, 4, 6.0), (10, 0.0, 14, 0.0), (10, 100.0, 0, 10.0), (0, 0.0, 0, 0.0), (10, None, 0, 0.0)],
)
def test_a_task_that_waits_goes_on_waiting_for_what_is_left_of_its_delay(
    delay: float, since: float | None, after: float, remaining: float
) -> None:
    service = make_service(replicas=1, delay=delay)
    task = make_task(service, "t", slot=1, state=State.READY, desired=State.READY, at=since)
    assert check(service, task, after=after).release == [("t", remaining)]


def test_the_applied_time_is_preferred_and_a_missing_delay_is_five_seconds() -> None:
    service = make_service(replicas=1)
    task = make_task(service, "t", slot=1, state=State.READY, desired=State.READY)
    task.spec.ClearField("restart")
    task.status.applied_at.FromDatetime(EPOCH + datetime.timedelta(seconds=2))
    assert check(service, task, after=3).release == [("t", 4.0)]


def aged(service: api.Service, id: str, created: float | None) -> api.Task:
    task = make_task(service, id, slot=1, state=State.FAILED, desired=State.SHUTDOWN)
    if created is not None:
        task.meta.created_at.FromDatetime(EPOCH + datetime.timedelta(seconds=created))
    return task


def test_all_but_the_first_task_of_the_newest_version_of_a_slot_were_restarts() -> None:
    old = make_service(replicas=1, version=4, attempts=3)
    new = make_service(replicas=1, version=5, attempts=3)
    unversioned = make_service(replicas=1, version=None, attempts=3)
    plan = check(
        new,
        aged(new, "c", 30),
        aged(old, "z", 40),
        aged(new, "a", 10),
        aged(new, "b", 20),
        aged(unversioned, "u", 5),
    )
    assert [(key, task.id) for key, task in plan.restarts] == [
        (SlotKey("svc", 1), "b"),
        (SlotKey("svc", 1), "c"),
    ]


def test_a_task_without_a_creation_time_counts_as_the_first() -> None:
    service = make_service(replicas=1, version=4, attempts=3)
    plan = check(service, aged(service, "a", 10), aged(service, "none", None))
    assert [task.id for _, task in plan.restarts] == ["a"]
