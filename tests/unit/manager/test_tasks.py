"""Making tasks, and what their states mean: contract/orchestration.md, 1, 4 and 17 (Creation)."""

import datetime

import pytest

from swarmkit.api import messages as api
from swarmkit.manager import tasks as t

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
MODES = ["replicated", "global", "replicated_job", "global_job"]
PREDICATES = {
    "replicated": t.is_replicated,
    "global": t.is_global,
    "replicated_job": t.is_replicated_job,
    "global_job": t.is_global_job,
}


def service_of(mode: str) -> api.Service:
    service = api.Service(id="svc")
    getattr(service.spec, mode).SetInParent()
    return service


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_predicate_answers_true_for_its_own_mode_only(mode: str) -> None:
    service = service_of(mode)
    assert [name for name in MODES if PREDICATES[name](service)] == [mode]
    assert t.is_job(service) is mode.endswith("job")


@pytest.mark.parametrize("service", [None, api.Service()])
def test_an_absent_service_or_mode_is_of_no_mode(service: api.Service | None) -> None:
    assert not any(predicate(service) for predicate in PREDICATES.values())
    assert not t.is_job(service)


def test_a_new_task_copies_what_its_service_asks_for() -> None:
    service = service_of("replicated")
    service.spec.annotations.name = "web"
    service.spec.annotations.labels["a"] = "b"
    service.spec.task.container.image = "redis"
    service.spec.endpoint.mode = api.EndpointSpec.DNSRR
    service.spec_version.index = 7
    task = t.new_task("id1", service, NOW, slot=3)
    assert (task.id, task.service_id, task.slot, task.node_id) == ("id1", "svc", 3, "")
    assert task.service_annotations == service.spec.annotations
    assert task.spec == service.spec.task
    assert task.spec_version.index == 7
    assert task.endpoint.spec == service.spec.endpoint
    assert (task.status.state, task.status.message) == (api.TaskState.NEW, "created")
    assert task.status.timestamp.ToDatetime(datetime.UTC) == NOW
    assert task.desired_state == api.TaskState.RUNNING
    assert not task.HasField("annotations")
    assert not task.HasField("job_iteration")


def test_a_new_task_has_an_endpoint_even_if_its_service_has_none_and_a_version_only_with_it() -> None:
    task = t.new_task("id1", service_of("global"), NOW, node_id="n1")
    assert task.HasField("endpoint")
    assert not task.endpoint.HasField("spec")
    assert not task.HasField("spec_version")
    assert (task.slot, task.node_id) == (0, "n1")


def test_a_task_of_a_job_is_to_complete_and_carries_the_iteration() -> None:
    service = service_of("replicated_job")
    assert t.new_task("id1", service, NOW).job_iteration.index == 0
    assert t.new_task("id1", service, NOW).HasField("job_iteration")
    service.job_status.job_iteration.index = 4
    task = t.new_task("id1", service, NOW)
    assert task.job_iteration.index == 4
    assert task.desired_state == api.TaskState.COMPLETE


def test_the_log_driver_is_the_services_else_the_clusters_else_none() -> None:
    service = service_of("replicated")
    cluster = api.Cluster()
    assert not t.new_task("i", service, NOW).HasField("log_driver")
    assert not t.new_task("i", service, NOW, cluster=cluster).HasField("log_driver")
    cluster.spec.task_defaults.log_driver.name = "of-cluster"
    assert t.new_task("i", service, NOW, cluster=cluster).log_driver.name == "of-cluster"
    service.spec.task.log_driver.name = "of-service"
    assert t.new_task("i", service, NOW).log_driver.name == "of-service"
    assert t.new_task("i", service, NOW, cluster=cluster).log_driver.name == "of-service"


def aged(id: str, *, status: int | None = None, applied: int | None = None) -> api.Task:
    task = api.Task(id=id)
    if status is not None:
        task.status.timestamp.seconds = status
    if applied is not None:
        task.status.applied_at.seconds = applied
    return task


def ids(tasks: list[api.Task]) -> list[str]:
    return [task.id for task in tasks]


def test_tasks_sort_by_status_time_and_by_applied_time_where_there_is_one() -> None:
    assert ids(t.oldest_first([aged("c", status=3), aged("a", status=1), aged("b", status=2)])) == [
        "a",
        "b",
        "c",
    ]
    by_both = [aged("a", status=1, applied=9), aged("b", status=2, applied=8), aged("c", status=3)]
    assert ids(t.oldest_first(by_both)) == ["c", "b", "a"]


def test_a_task_without_a_time_sorts_first() -> None:
    assert ids(t.oldest_first([aged("a", status=-5), aged("none"), aged("b", status=0)])) == [
        "none",
        "a",
        "b",
    ]
    assert t.newest([aged("none"), aged("a", status=-5)]).id == "a"


@pytest.mark.parametrize(
    ("observed", "is_ended"),
    [("RUNNING", False), ("COMPLETE", True), ("SHUTDOWN", True), ("FAILED", True), ("ORPHANED", True)],
)
def test_ended_is_above_running(observed: str, is_ended: bool) -> None:
    task = api.Task()
    task.status.state = api.TaskState.Value(observed)
    assert t.ended(task) is is_ended


def test_wanted_is_up_to_running_and_for_jobs_up_to_complete() -> None:
    task = api.Task(desired_state=api.TaskState.COMPLETE)
    assert not t.wanted(task)
    assert not t.wanted_of(service_of("global"), task)
    assert t.wanted_of(service_of("global_job"), task)
    assert t.wanted(api.Task(desired_state=api.TaskState.READY))


@pytest.mark.parametrize(
    ("observed", "may_go"),
    [
        ("NEW", True),
        ("PENDING", True),
        ("ASSIGNED", False),
        ("RUNNING", False),
        ("COMPLETE", True),
        ("FAILED", True),
    ],
)
def test_a_task_to_be_removed_is_reapable_unless_it_is_on_a_node(observed: str, may_go: bool) -> None:
    task = api.Task(desired_state=api.TaskState.REMOVE)
    task.status.state = api.TaskState.Value(observed)
    assert t.reapable(task) is may_go
    task.desired_state = api.TaskState.SHUTDOWN
    assert not t.reapable(task)


def test_a_node_is_invalid_if_absent_down_or_drained_only() -> None:
    assert t.is_invalid_node(None)
    for state in api.NodeStatus.State.values():
        node = api.Node()
        node.status.state = state
        assert t.is_invalid_node(node) is (state == api.NodeStatus.DOWN)
    for availability in api.NodeSpec.Availability.values():
        node = api.Node()
        node.spec.availability = availability
        assert t.is_invalid_node(node) is (availability == api.NodeSpec.DRAIN)


def test_the_desired_state_only_rises_and_the_original_stays_as_it_is() -> None:
    task = api.Task(desired_state=api.TaskState.SHUTDOWN)
    assert t.with_desired_state(task, api.TaskState.RUNNING) is None
    assert t.with_desired_state(task, api.TaskState.SHUTDOWN) is None
    raised = t.with_desired_state(task, api.TaskState.REMOVE)
    assert raised is not None
    assert raised.desired_state == api.TaskState.REMOVE
    assert task.desired_state == api.TaskState.SHUTDOWN
