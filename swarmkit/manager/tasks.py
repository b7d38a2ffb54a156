"""What a task is to the manager: making one, its states and its age (its name: ``api.naming``).

Source: contract/orchestration.md, 1, 4 and 6. Pure: nothing here waits, reads a clock or touches the store.
"""

import datetime
from collections.abc import Iterable

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from swarmkit.api import messages as api

#: Before every real time, in nanoseconds since 1970: the age of a task that carries no time.
NEVER = -(1 << 63)

_NANOS = 1_000_000_000

# Looking up an enum's value by name costs more than the comparisons below, which are made for every event.
_ASSIGNED = api.TaskState.ASSIGNED
_RUNNING = api.TaskState.RUNNING
_COMPLETE = api.TaskState.COMPLETE
_REMOVE = api.TaskState.REMOVE
_DOWN = api.NodeStatus.DOWN
_DRAIN = api.NodeSpec.DRAIN


def is_replicated(service: api.Service | None) -> bool:
    """Tell whether the service exists and keeps a number of replicas."""
    return service is not None and service.spec.HasField("replicated")


def is_global(service: api.Service | None) -> bool:
    """Tell whether the service exists and keeps one task a node."""
    return service is not None and service.spec.HasField("global")


def is_replicated_job(service: api.Service | None) -> bool:
    """Tell whether the service exists and runs a number of tasks to completion."""
    return service is not None and service.spec.HasField("replicated_job")


def is_global_job(service: api.Service | None) -> bool:
    """Tell whether the service exists and runs one task a node to completion."""
    return service is not None and service.spec.HasField("global_job")


def is_job(service: api.Service | None) -> bool:
    """Tell whether the service exists and is a job of either kind."""
    return is_replicated_job(service) or is_global_job(service)


def wanted(task: api.Task) -> bool:
    """Tell whether a task of a long-running service is to be there (desired state up to RUNNING)."""
    return task.desired_state <= _RUNNING


def wanted_of(service: api.Service, task: api.Task) -> bool:
    """Tell whether the task is to be there: for a job up to COMPLETE, for other services up to RUNNING."""
    return task.desired_state <= (_COMPLETE if is_job(service) else _RUNNING)


def ended(task: api.Task) -> bool:
    """Tell whether the task was observed in a terminal state (above RUNNING)."""
    return task.status.state > _RUNNING


def reapable(task: api.Task) -> bool:
    """Tell whether the record of a task that is to be removed may go: nothing of it runs on a node."""
    return task.desired_state == _REMOVE and (task.status.state < _ASSIGNED or task.status.state >= _COMPLETE)


def is_invalid_node(node: api.Node | None) -> bool:
    """Tell whether tasks cannot stay on the node: it is gone, DOWN or drained (contract, 1.5)."""
    return node is None or node.status.state == _DOWN or node.spec.availability == _DRAIN


def nanoseconds(value: Timestamp | Duration) -> int:
    """Return a wire time (since 1970) or duration as whole nanoseconds."""
    return value.seconds * _NANOS + value.nanos


def created_time(task: api.Task) -> int:
    """Return when the record was created, in nanoseconds since 1970; ``NEVER`` if it does not say."""
    return nanoseconds(task.meta.created_at) if task.meta.HasField("created_at") else NEVER


def applied_time(task: api.Task) -> int:
    """Return when the present status came about, in nanoseconds since 1970; ``NEVER`` if it does not say.

    A manager's clock is preferred to the worker's.
    """
    status = task.status
    if status.HasField("applied_at"):
        return nanoseconds(status.applied_at)
    return nanoseconds(status.timestamp) if status.HasField("timestamp") else NEVER


def oldest_first(tasks: Iterable[api.Task]) -> list[api.Task]:
    """Sort by ``applied_time``; tasks without a time come first, equal ones keep their order."""
    return sorted(tasks, key=applied_time)


def newest(tasks: Iterable[api.Task]) -> api.Task:
    """Return the task with the greatest ``applied_time``; of equal ones the first. ``tasks`` is not empty."""
    return max(tasks, key=applied_time)


def new_task(
    task_id: str,
    service: api.Service,
    now: datetime.datetime,
    *,
    slot: int = 0,
    node_id: str = "",
    cluster: api.Cluster | None = None,
) -> api.Task:
    """Make the record of a new task of a service, bound to a node if ``node_id`` is given.

    Its desired state is RUNNING, for jobs COMPLETE. ``cluster`` supplies the log driver of services that name
    none; without a cluster such tasks have none.
    """
    task = api.Task(
        id=task_id,
        service_id=service.id,
        slot=slot,
        node_id=node_id,
        desired_state=api.TaskState.RUNNING,
    )
    task.service_annotations.CopyFrom(service.spec.annotations)
    task.spec.CopyFrom(service.spec.task)
    if service.HasField("spec_version"):
        task.spec_version.CopyFrom(service.spec_version)
    task.endpoint.SetInParent()
    if service.spec.HasField("endpoint"):
        task.endpoint.spec.CopyFrom(service.spec.endpoint)
    task.status.state = api.TaskState.NEW
    task.status.timestamp.FromDatetime(now)
    task.status.message = "created"
    if service.spec.task.HasField("log_driver"):
        task.log_driver.CopyFrom(service.spec.task.log_driver)
    elif cluster is not None and cluster.spec.task_defaults.HasField("log_driver"):
        task.log_driver.CopyFrom(cluster.spec.task_defaults.log_driver)
    if is_job(service):
        task.desired_state = api.TaskState.COMPLETE
        task.job_iteration.CopyFrom(service.job_status.job_iteration)
    return task


def with_desired_state(task: api.Task, state: api.TaskState.ValueType) -> api.Task | None:
    """Return a copy with a higher desired state, or None if that would not raise it: it never decreases."""
    if task.desired_state >= state:
        return None
    copy = api.Task()
    copy.CopyFrom(task)
    copy.desired_state = state
    return copy
