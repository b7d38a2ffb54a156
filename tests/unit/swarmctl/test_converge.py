import itertools

import pytest

from swarmctl.converge import MAX_ENDED, STEADY_EMPTY_SECONDS, Course, Look, Verdict
from swarmkit.api import messages as api

COMPLETE, FAILED, REJECTED = api.TaskState.COMPLETE, api.TaskState.FAILED, api.TaskState.REJECTED
PENDING, READY, RUNNING = api.TaskState.PENDING, api.TaskState.READY, api.TaskState.RUNNING
REMOVE, SHUTDOWN = api.TaskState.REMOVE, api.TaskState.SHUTDOWN
numbers = itertools.count()


def service(replicas: int | None) -> api.Service:
    """Return a service of spec version 7, global for None."""
    made = api.Service(id="s")
    if replicas is None:
        getattr(made.spec, "global").SetInParent()
    else:
        made.spec.replicated.replicas = replicas
    made.spec_version.index = 7
    return made


def task(
    place: int | str,
    state: "api.TaskState.ValueType",
    desired: "api.TaskState.ValueType" = RUNNING,
    version: int = 7,
    err: str = "",
) -> api.Task:
    """Return a task, newer than those before, in a slot or on a node."""
    number = next(numbers)
    made = api.Task(id=f"t{number}", desired_state=desired)
    made.service_annotations.name = "web"
    if isinstance(place, int):
        made.slot = place
    else:
        made.node_id = place
    made.spec_version.index = version
    made.meta.created_at.seconds = number + 1
    made.status.state = state
    made.status.err = err
    return made


def look(made: api.Service, *tasks: api.Task, stale: tuple[api.Task, ...] = ()) -> Look:
    """Look once at a service; all but ``stale`` are up to date."""
    return Course().look(made, [*tasks, *stale], {one.id for one in tasks})


def test_all_instances_running_is_converged() -> None:
    seen = look(service(2), task(1, RUNNING), task(2, RUNNING))
    assert (seen.verdict, seen.running, seen.wanted) == (Verdict.CONVERGED, 2, 2)


def test_no_instances_wanted_and_none_there_is_converged() -> None:
    assert look(service(0)).verdict is Verdict.CONVERGED


def test_tasks_that_do_not_fit_the_spec_do_not_count() -> None:
    seen = look(service(2), task(1, RUNNING), stale=(task(2, RUNNING),))
    assert (seen.verdict, seen.running) == (Verdict.CONVERGING, 1)


def test_a_task_of_an_older_version_that_still_fits_counts() -> None:
    assert look(service(1), task(1, RUNNING, version=6)).verdict is Verdict.CONVERGED


def test_surplus_tasks_are_waited_for() -> None:
    assert look(service(1), task(1, RUNNING), task(2, RUNNING)).verdict is Verdict.CONVERGING


def test_tasks_that_are_to_end_are_not_counted() -> None:
    seen = look(service(1), task(1, RUNNING), task(1, RUNNING, SHUTDOWN), task(2, FAILED, REMOVE))
    assert (seen.verdict, seen.running) == (Verdict.CONVERGED, 1)


def test_a_running_update_is_waited_for_and_a_paused_one_has_failed() -> None:
    made = service(1)
    made.update_status.state = api.UpdateStatus.UPDATING
    assert look(made, task(1, RUNNING)).verdict is Verdict.CONVERGING
    made.update_status.state = api.UpdateStatus.PAUSED
    made.update_status.message = "update paused"
    seen = look(made, task(1, FAILED, err="exit 1"))
    assert (seen.verdict, seen.reasons) == (Verdict.FAILED, ("update paused", "web.1: exit 1"))


@pytest.mark.parametrize("state", [FAILED, REJECTED, COMPLETE])
def test_an_instance_that_keeps_ending_ends_the_wait(state: "api.TaskState.ValueType") -> None:
    ended = [task(1, state, SHUTDOWN) for _ in range(MAX_ENDED)]
    waiting = task(1, READY, READY)
    assert look(service(1), *ended, waiting).verdict is Verdict.FAILED
    assert look(service(1), *ended[1:], waiting).verdict is Verdict.CONVERGING
    assert look(service(1), *ended, task(1, RUNNING)).verdict is Verdict.CONVERGED


def test_the_verdict_names_the_instance_that_keeps_failing_first() -> None:
    other = task(1, PENDING, err="no suitable node")
    ended = [task(2, FAILED, SHUTDOWN, err="task: non-zero exit (1)") for _ in range(MAX_ENDED)]
    seen = look(service(2), other, *ended, task(2, READY, READY))
    assert seen.reasons == ("web.2: task: non-zero exit (1)", "web.1: no suitable node")


def test_ends_are_counted_although_the_swarm_forgets_them() -> None:
    course = Course()
    verdicts = []
    for _ in range(MAX_ENDED):
        tasks = [task(1, FAILED, SHUTDOWN), task(1, READY, READY)]
        verdicts.append(course.look(service(1), tasks, {one.id for one in tasks}).verdict)
    assert verdicts == [*[Verdict.CONVERGING] * (MAX_ENDED - 1), Verdict.FAILED]


def test_ends_from_before_the_update_do_not_count() -> None:
    ended = [task(1, FAILED, SHUTDOWN, version=6, err="old") for _ in range(MAX_ENDED)]
    seen = look(service(1), task(1, READY, READY), stale=tuple(ended))
    assert (seen.verdict, seen.reasons) == (Verdict.CONVERGING, ())


def test_a_newer_spec_begins_the_count_again() -> None:
    course = Course()
    newer = service(1)
    newer.spec_version.index = 8
    ended = [task(1, FAILED, SHUTDOWN) for _ in range(MAX_ENDED)]
    assert course.look(service(1), ended, {one.id for one in ended}).verdict is Verdict.FAILED
    assert course.look(newer, [*ended, task(1, PENDING, version=8)], set()).verdict is Verdict.CONVERGING


@pytest.mark.parametrize(
    ("state", "err", "reason"),
    [
        (FAILED, "task: non-zero exit (1)", "web.1: task: non-zero exit (1)"),
        (COMPLETE, "", "web.1: the task ended by itself, with exit code 0"),
    ],
)
def test_an_instance_given_up_by_its_restart_policy_ends_the_wait(
    state: "api.TaskState.ValueType", err: str, reason: str
) -> None:
    seen = look(service(1), task(1, state, SHUTDOWN, err=err))
    assert (seen.verdict, seen.reasons) == (Verdict.FAILED, (reason,))


def test_an_instance_given_up_before_a_new_image_is_waited_for() -> None:
    assert look(service(1), stale=(task(1, FAILED, SHUTDOWN),)).verdict is Verdict.CONVERGING


def test_a_global_service_is_measured_against_the_nodes_it_has_tasks_for() -> None:
    seen = look(service(None), task("a", RUNNING), task("b", PENDING))
    assert (seen.verdict, seen.running, seen.wanted) == (Verdict.CONVERGING, 1, 2)
    assert look(service(None), task("a", RUNNING), task("b", RUNNING)).verdict is Verdict.CONVERGED


def test_a_node_that_a_global_service_gave_up_on_ends_the_wait_and_a_drained_one_does_not() -> None:
    assert look(service(None), task("a", RUNNING), task("b", FAILED, SHUTDOWN)).verdict is Verdict.FAILED
    drained = [task("b", FAILED, SHUTDOWN), task("b", SHUTDOWN, SHUTDOWN)]
    assert look(service(None), task("a", RUNNING), *drained).verdict is Verdict.CONVERGED


def test_a_global_service_without_tasks_needs_a_longer_look() -> None:
    seen = look(service(None))
    assert (seen.verdict, seen.wanted) == (Verdict.CONVERGED, 0)
    assert seen.steady_seconds == STEADY_EMPTY_SECONDS
    assert look(service(0)).steady_seconds < STEADY_EMPTY_SECONDS
