"""Counts of services and jobs (contract/control-api.md, 4, ListServiceStatuses)."""

from swarmkit.api import messages as api
from swarmkit.manager.controlapi.service_status import service_status

State = api.TaskState


def task(
    desired: "api.TaskState.ValueType", state: "api.TaskState.ValueType", iteration: int = 0
) -> api.Task:
    made = api.Task(desired_state=desired, job_iteration=api.Version(index=iteration))
    made.status.state = state
    return made


def test_a_replicated_job_counts_its_present_iteration() -> None:
    service = api.Service(id="j", spec=api.ServiceSpec(replicated_job=api.ReplicatedJob(max_concurrent=4)))
    service.job_status.job_iteration.index = 2
    tasks = [
        task(State.COMPLETE, State.RUNNING, 2),
        task(State.COMPLETE, State.COMPLETE, 2),
        task(State.COMPLETE, State.COMPLETE, 1),
    ]
    status = service_status(service, tasks)
    assert (status.desired_tasks, status.running_tasks, status.completed_tasks) == (4, 1, 1)


def test_a_global_job_wants_what_is_not_complete_yet() -> None:
    service = api.Service(id="j", spec=api.ServiceSpec(global_job=api.GlobalJob()))
    tasks = [
        task(State.COMPLETE, State.RUNNING),
        task(State.COMPLETE, State.COMPLETE),
        task(State.RUNNING, State.PENDING),
        task(State.SHUTDOWN, State.FAILED),
    ]
    status = service_status(service, tasks)
    assert (status.desired_tasks, status.running_tasks, status.completed_tasks) == (2, 1, 1)
