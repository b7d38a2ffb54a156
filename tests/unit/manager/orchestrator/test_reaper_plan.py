"""Which records may go: contract/orchestration.md, 12 and 17 (Reaper)."""

import pytest

from swarmkit.api import messages as api
from swarmkit.manager.orchestrator.reaper_plan import (
    ReaperMarks,
    Trim,
    cleanup_due,
    history_limit,
    keeps_history,
    trim_history,
)
from swarmkit.manager.orchestrator.slots import SlotKey
from tests.unit.manager.orchestrator.support import State, make_service, make_task

SERVICE = make_service(replicas=1)


def task(
    id: str,
    age: float = 0,
    state: api.TaskState.ValueType = State.FAILED,
    desired: api.TaskState.ValueType = State.SHUTDOWN,
) -> api.Task:
    return make_task(SERVICE, id, slot=1, state=state, desired=desired, at=-age)


@pytest.mark.parametrize(("limit", "count"), [(0, 0), (1, 1), (5, 3)])
def test_up_to_the_limit_everything_stays(limit: int, count: int) -> None:
    assert trim_history([task(f"t{n}") for n in range(count)], limit) == Trim()


def test_the_oldest_go_until_the_limit_holds_and_live_tasks_count() -> None:
    tasks = [task("b", 20), task("live", 1, State.RUNNING, State.RUNNING), task("a", 30), task("c", 10)]
    assert trim_history(tasks, 2) == Trim(("a", "b"))


def test_a_negative_limit_keeps_everything() -> None:
    assert trim_history([task("a"), task("b")], -1) == Trim()


@pytest.mark.parametrize("state", list(State.values()))
def test_at_limit_zero_a_wanted_task_goes_iff_it_ended(state: api.TaskState.ValueType) -> None:
    trim = trim_history([task("t", state=state, desired=State.RUNNING)], 0)
    assert trim == Trim(("t",) if state >= State.COMPLETE else ())


@pytest.mark.parametrize("state", list(State.values()))
def test_at_limit_zero_a_task_that_shall_end_goes_unless_it_is_on_a_node(
    state: api.TaskState.ValueType,
) -> None:
    trim = trim_history([task("t", state=state)], 0)
    assert trim == Trim(("t",) if state < State.ASSIGNED or state >= State.COMPLETE else ())


def test_a_slot_with_more_than_one_running_task_is_looked_at_again() -> None:
    running = [task(f"r{n}", n, State.RUNNING, State.RUNNING) for n in range(2)]
    assert trim_history([*running, task("old", 9)], 1) == Trim(("old",), look_again=True)


@pytest.mark.parametrize("cluster_limit", [5, -1, 0])
def test_a_service_that_limits_restarts_keeps_one_task_more(cluster_limit: int) -> None:
    assert history_limit(make_service(replicas=1, attempts=3), cluster_limit) == 4
    assert history_limit(SERVICE, cluster_limit) == cluster_limit


def test_history_is_trimmed_by_slot_or_by_node_and_of_jobs_not_at_all() -> None:
    assert keeps_history(SERVICE, SlotKey("svc", 3))
    assert keeps_history(make_service(), SlotKey("svc", 0, "n1"))
    assert not keeps_history(make_service(), SlotKey("svc", 0))
    for mode in ("replicated_job", "global_job"):
        job = make_service()
        getattr(job.spec, mode).SetInParent()
        assert not keeps_history(job, SlotKey("svc", 3))
        assert not keeps_history(job, SlotKey("svc", 0, "n1"))


@pytest.mark.parametrize("state", list(State.values()))
def test_a_removed_task_goes_unless_it_is_on_a_node(state: api.TaskState.ValueType) -> None:
    due = cleanup_due(task("t", state=state, desired=State.REMOVE))
    assert due is (state < State.ASSIGNED or state >= State.COMPLETE)


def test_a_lost_task_goes_if_it_has_no_service() -> None:
    lost = task("t", state=State.ORPHANED)
    assert not cleanup_due(lost)
    lost.service_id = ""
    assert cleanup_due(lost)


def test_more_than_a_thousand_marks_make_a_pass_due() -> None:
    marks = ReaperMarks()
    for number in range(1000):
        marks.updated(task(f"t{number}", desired=State.REMOVE))
    assert not marks.overfull()
    marks.created(task("one more"))
    assert marks.overfull()
    assert len(marks.take_cleanup()) == 1000
    assert marks.take_slots() == [SlotKey("svc", 1)]
    assert len(marks) == 0


def test_a_slot_that_is_not_settled_waits_until_one_of_its_tasks_or_the_limit_changes() -> None:
    marks = ReaperMarks()
    marks.unsettled(SlotKey("svc", 1))
    assert len(marks) == 0
    elsewhere = make_task(SERVICE, "t", slot=2, node="n1", state=State.FAILED)
    marks.updated(elsewhere)
    assert len(marks) == 0
    marks.updated(make_task(SERVICE, "t", slot=1, node="n1", state=State.FAILED))
    assert marks.take_slots() == [SlotKey("svc", 1)]
    marks.unsettled(SlotKey("svc", 0, "n1"))
    marks.updated(make_task(make_service(), "t", node="n2", state=State.FAILED))
    assert len(marks) == 0
    marks.updated(make_task(make_service(), "t", node="n1", state=State.FAILED))
    assert marks.take_slots() == [SlotKey("svc", 0, "n1")]
    marks.unsettled(SlotKey("svc", 1))
    marks.limit_changed()
    assert marks.take_slots() == [SlotKey("svc", 1)]


def test_a_task_of_no_service_marks_no_slot() -> None:
    marks = ReaperMarks()
    marks.created(api.Task(id="t"))
    assert len(marks) == 0
