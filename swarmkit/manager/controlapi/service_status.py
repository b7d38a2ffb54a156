"""How many tasks of a service there shall be, run, and are done (contract/control-api.md, 4)."""

from collections.abc import Sequence

from swarmkit.api import messages as api

_State = api.TaskState
_Status = api.ListServiceStatusesResponse.ServiceStatus


def service_status(service: api.Service, tasks: Sequence[api.Task]) -> _Status:
    """Return the counts of a service from all its tasks; of a job only the present iteration counts."""
    mode = service.spec.WhichOneof("mode")
    job = mode in ("replicated_job", "global_job")
    if job:
        iteration = service.job_status.job_iteration.index
        tasks = [task for task in tasks if task.job_iteration.index == iteration]
    status = _Status(service_id=service.id)
    status.running_tasks = sum(task.status.state == _State.RUNNING for task in tasks)
    if job:
        status.completed_tasks = sum(task.status.state == _State.COMPLETE for task in tasks)
    match mode:
        case "replicated":
            status.desired_tasks = service.spec.replicated.replicas
        case "replicated_job":
            status.desired_tasks = service.spec.replicated_job.max_concurrent
        case "global":
            status.desired_tasks = sum(task.desired_state == _State.RUNNING for task in tasks)
        case "global_job":
            status.desired_tasks = sum(
                task.desired_state == _State.RUNNING
                or (task.desired_state == _State.COMPLETE and task.status.state != _State.COMPLETE)
                for task in tasks
            )
    return status
