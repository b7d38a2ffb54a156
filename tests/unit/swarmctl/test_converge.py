from swarmctl.converge import MAX_FAILURES, Verdict, look
from swarmkit.api import messages as api


def service(replicas: int) -> api.Service:
    made = api.Service(id="s")
    made.spec.replicated.replicas = replicas
    made.spec_version.index = 7
    return made


def task(
    slot: int,
    state: "api.TaskState.ValueType",
    desired: "api.TaskState.ValueType" = api.TaskState.RUNNING,
    version: int = 7,
    err: str = "",
) -> api.Task:
    made = api.Task(id=f"{slot}-{state}-{version}-{desired}", slot=slot, desired_state=desired)
    made.spec_version.index = version
    made.spec.container.image = f"v{version}"
    made.status.state = state
    made.status.err = err
    return made


RUNNING, FAILED, SHUTDOWN = api.TaskState.RUNNING, api.TaskState.FAILED, api.TaskState.SHUTDOWN


def test_all_instances_running_is_converged() -> None:
    assert look(service(2), [task(1, RUNNING), task(2, RUNNING)], 0).verdict is Verdict.CONVERGED


def test_no_instances_wanted_and_none_there_is_converged() -> None:
    assert look(service(0), [], 0).verdict is Verdict.CONVERGED


def test_tasks_of_an_older_spec_do_not_count() -> None:
    seen = look(service(2), [task(1, RUNNING), task(2, RUNNING, version=6)], 0)
    assert seen.verdict is Verdict.CONVERGING
    assert seen.running == 1


def test_surplus_tasks_are_waited_for() -> None:
    assert look(service(1), [task(1, RUNNING), task(2, RUNNING)], 0).verdict is Verdict.CONVERGING


def test_a_running_update_is_waited_for_and_a_paused_one_has_failed() -> None:
    made = service(1)
    made.update_status.state = api.UpdateStatus.UPDATING
    assert look(made, [task(1, RUNNING)], 0).verdict is Verdict.CONVERGING
    made.update_status.state = api.UpdateStatus.PAUSED
    made.update_status.message = "update paused"
    assert look(made, [task(1, RUNNING)], 0).reasons[0] == "update paused"
    assert look(made, [task(1, RUNNING)], 0).verdict is Verdict.FAILED


def test_an_instance_that_keeps_failing_ends_the_wait() -> None:
    failures = [task(1, FAILED, SHUTDOWN, err="task: non-zero exit (1)") for _ in range(MAX_FAILURES)]
    waiting = task(1, api.TaskState.READY, api.TaskState.READY)
    seen = look(service(1), [*failures, waiting], 0)
    assert seen.verdict is Verdict.FAILED
    assert "non-zero exit" in seen.reasons[0]
    assert look(service(1), [*failures[1:], waiting], 0).verdict is Verdict.CONVERGING


def test_an_instance_given_up_by_its_restart_policy_ends_the_wait() -> None:
    assert look(service(1), [task(1, FAILED, SHUTDOWN)], 0).verdict is Verdict.FAILED


def test_a_global_service_is_measured_against_eligible_nodes_until_it_has_tasks() -> None:
    made = api.Service(id="s")
    getattr(made.spec, "global").SetInParent()
    made.spec_version.index = 7
    assert look(made, [], 3).wanted == 3
    on_node = task(0, RUNNING)
    on_node.node_id = "n1"
    assert look(made, [on_node], 3).verdict is Verdict.CONVERGED
