"""Whether and with what a task is replaced: contract/orchestration.md, 8.1 to 8.3 and 17 (Restart)."""

import datetime

import pytest

from swarmkit.api import messages as api
from swarmkit.manager.orchestrator.restart_policy import Replacement, RestartHistory, replacement_for
from swarmkit.manager.orchestrator.slots import SlotKey
from tests.fakes.loop import EPOCH
from tests.unit.manager.orchestrator.support import State, make_node, make_service, make_task

KEY = SlotKey("svc", 1)


def moment(seconds: float) -> datetime.datetime:
    return EPOCH + datetime.timedelta(seconds=seconds)


def ended_at(
    service: api.Service, seconds: float | None, state: api.TaskState.ValueType = State.FAILED
) -> api.Task:
    return make_task(service, "t", slot=1, state=state, at=seconds)


def record(history: RestartHistory, service: api.Service, seconds: float) -> None:
    replacement = make_task(service, "r", slot=1)
    replacement.meta.created_at.FromDatetime(moment(seconds))
    history.record(KEY, replacement, moment(seconds))


@pytest.mark.parametrize(
    ("condition", "state", "restarted"),
    [
        (api.RestartPolicy.NONE, State.FAILED, False),
        (api.RestartPolicy.NONE, State.RUNNING, False),
        (api.RestartPolicy.ON_FAILURE, State.FAILED, True),
        (api.RestartPolicy.ON_FAILURE, State.COMPLETE, False),
        (api.RestartPolicy.ON_FAILURE, State.SHUTDOWN, True),
        (api.RestartPolicy.ON_FAILURE, State.RUNNING, True),
        (api.RestartPolicy.ANY, State.COMPLETE, True),
        (api.RestartPolicy.ANY, State.REJECTED, True),
    ],
)
def test_the_condition_decides_by_how_the_task_ended(
    condition: "api.RestartPolicy.RestartCondition.ValueType",
    state: api.TaskState.ValueType,
    restarted: bool,
) -> None:
    service = make_service(replicas=1, condition=condition)
    assert RestartHistory().should_restart(service, ended_at(service, 0, state)) is restarted


def test_a_job_that_completed_is_done_under_any_condition() -> None:
    service = make_service(replicas=1)
    service.spec.replicated_job.SetInParent()
    assert not RestartHistory().should_restart(service, ended_at(service, 0, State.COMPLETE))
    assert RestartHistory().should_restart(service, ended_at(service, 0, State.FAILED))


def test_attempts_are_counted_by_slot() -> None:
    history = RestartHistory()
    service = make_service(replicas=2, attempts=1)
    record(history, service, 0)
    assert not history.should_restart(service, ended_at(service, 1))
    other = make_task(service, "o", slot=2, state=State.FAILED)
    assert history.should_restart(service, other)


def test_attempts_of_global_services_and_jobs_are_counted_by_node() -> None:
    for mode in ("global", "global_job"):
        history = RestartHistory()
        service = make_service(attempts=1)
        getattr(service.spec, mode).SetInParent()
        replacement = make_task(service, "r", node="n1")
        history.record(SlotKey("svc", 0, "n1"), replacement, EPOCH)
        assert not history.should_restart(service, make_task(service, "a", node="n1", state=State.FAILED))
        assert history.should_restart(service, make_task(service, "b", node="n2", state=State.FAILED))


def test_restarts_of_another_spec_version_do_not_count_and_are_dropped_by_the_next() -> None:
    history = RestartHistory()
    old = make_service(replicas=1, attempts=1, version=1)
    new = make_service(replicas=1, attempts=1, version=2)
    record(history, old, 0)
    assert history.should_restart(new, ended_at(new, 1))
    record(history, new, 1)
    assert not history.should_restart(new, ended_at(new, 2))
    assert history.should_restart(old, ended_at(old, 2))


def test_nothing_is_remembered_without_a_limit() -> None:
    history = RestartHistory()
    record(history, make_service(replicas=1, attempts=0), 0)
    limited = make_service(replicas=1, attempts=1)
    assert history.should_restart(limited, ended_at(limited, 1))


def test_only_restarts_within_the_window_count() -> None:
    history = RestartHistory()
    service = make_service(replicas=1, attempts=1, window=0.5)
    record(history, service, 0)
    assert not history.should_restart(service, ended_at(service, 0.4))
    assert history.should_restart(service, ended_at(service, 0.5))


def test_restarts_at_or_after_the_end_of_the_task_do_not_count() -> None:
    history = RestartHistory()
    service = make_service(replicas=1, attempts=1, window=10)
    record(history, service, 5)
    assert history.should_restart(service, ended_at(service, 5))
    assert not history.should_restart(service, ended_at(service, 5.001))


def test_without_a_usable_time_the_total_is_compared_even_with_a_window() -> None:
    history = RestartHistory()
    service = make_service(replicas=1, attempts=1, window=0.5)
    record(history, service, 0)
    assert not history.should_restart(service, ended_at(service, None))


def test_the_applied_time_is_preferred() -> None:
    history = RestartHistory()
    service = make_service(replicas=1, attempts=1, window=0.5)
    record(history, service, 0)
    task = ended_at(service, 100)
    task.status.applied_at.FromDatetime(moment(0.1))
    assert not history.should_restart(service, task)


def test_a_service_or_node_that_is_gone_is_forgotten() -> None:
    history = RestartHistory()
    service = make_service(replicas=1, attempts=1)
    record(history, service, 0)
    history.forget_service("svc")
    assert history.should_restart(service, ended_at(service, 1))
    everywhere = make_service(attempts=1)
    history.record(SlotKey("svc", 0, "n1"), make_task(everywhere, "r", node="n1"), EPOCH)
    history.forget_node("n1")
    assert history.should_restart(everywhere, make_task(everywhere, "a", node="n1", state=State.FAILED))


def replace(
    service: api.Service, old: api.Task, node: api.Node | None, cluster: api.Cluster | None = None
) -> Replacement | None:
    return replacement_for(service, old, node, task_id="new", now=EPOCH, cluster=cluster)


def test_a_replacement_waits_in_ready_in_the_same_slot_without_a_node() -> None:
    service = make_service(replicas=1, delay=3)
    old = make_task(service, "t", slot=4, node="n1")
    result = replace(service, old, make_node("n1"))
    assert result is not None
    assert (result.task.id, result.task.slot, result.task.node_id) == ("new", 4, "")
    assert result.task.desired_state == State.READY
    assert (result.delay_seconds, result.wait_for_old) == (3.0, True)


def test_a_replacement_of_a_global_service_stays_on_its_node() -> None:
    service = make_service()
    result = replace(service, make_task(service, "t", node="n1"), make_node("n1"))
    assert result is not None
    assert (result.task.slot, result.task.node_id) == (0, "n1")


def test_the_delay_is_that_of_the_old_task_and_the_spec_that_of_the_service() -> None:
    old = make_task(make_service(replicas=1, delay=7), "t", slot=1)
    result = replace(make_service(replicas=1, delay=1, image="new"), old, None)
    assert result is not None
    assert result.delay_seconds == 7.0
    assert result.task.spec.container.image == "new"


def test_on_a_drained_node_there_is_no_delay_but_the_stop_is_awaited() -> None:
    service = make_service(replicas=1, delay=3)
    node = make_node("n1", availability=api.NodeSpec.DRAIN)
    result = replace(service, make_task(service, "t", slot=1, node="n1"), node)
    assert result is not None
    assert (result.delay_seconds, result.wait_for_old) == (0.0, True)


def test_the_stop_is_not_awaited_on_a_node_that_is_down_or_of_a_task_that_ended() -> None:
    service = make_service(replicas=1, delay=3)
    down = replace(
        service, make_task(service, "t", slot=1, node="n1"), make_node("n1", state=api.NodeStatus.DOWN)
    )
    over = replace(service, make_task(service, "t", slot=1, node="n1", state=State.FAILED), make_node("n1"))
    missing = replace(service, make_task(service, "t", slot=1, node="n1"), None)
    assert down is not None
    assert over is not None
    assert missing is not None
    assert [down.wait_for_old, over.wait_for_old, missing.wait_for_old] == [False, False, True]


def test_a_global_job_on_a_lost_node_has_no_replacement() -> None:
    service = make_service()
    service.spec.global_job.SetInParent()
    old = make_task(service, "t", node="n1")
    assert replace(service, old, None) is None
    assert replace(service, old, make_node("n1")) is not None


def test_a_service_without_a_mode_has_no_replacements() -> None:
    assert replace(api.Service(id="svc"), api.Task(id="t", slot=1), None) is None
