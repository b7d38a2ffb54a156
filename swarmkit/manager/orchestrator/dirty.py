"""Is a task out of date? (contract/orchestration.md, 5)."""

from collections.abc import Sequence

from swarmkit.api import messages as api
from swarmkit.manager import constraint
from swarmkit.manager.tasks import wanted


def is_task_dirty(service: api.Service, task: api.Task, node: api.Node | None) -> bool:
    """Tell whether the task must be replaced to be what its service asks for now.

    ``node`` is the record of the task's node, None if it has no node or the record is gone.
    """
    if (
        service.HasField("spec_version")
        and task.HasField("spec_version")
        and service.spec_version.index == task.spec_version.index
    ):
        return False
    if (
        node is not None
        and differs_in_placement_only(service.spec.task, task.spec)
        and constraint.matches(constraint.parse_or_empty(service.spec.task.placement.constraints), node)
    ):
        return False
    if task.HasField("endpoint") and _endpoint_differs(service, task):
        return True
    return not _equal_specs(service.spec.task, task)


def is_slot_dirty(service: api.Service, tasks: Sequence[api.Task], nodes: Sequence[api.Node | None]) -> bool:
    """Tell whether a slot holds several tasks or an outdated one; ``nodes`` are those of ``tasks``."""
    if len(tasks) != 1:
        return len(tasks) > 1
    return is_task_dirty(service, tasks[0], nodes[0])


def differs_in_placement_only(wanted_spec: api.TaskSpec, spec: api.TaskSpec) -> bool:
    """Tell whether two specs differ, and in their placement alone."""
    if wanted_spec.HasField("placement") == spec.HasField("placement") and (
        wanted_spec.placement == spec.placement
    ):
        return False
    return _without_placement(wanted_spec) == _without_placement(spec)


def _without_placement(spec: api.TaskSpec) -> api.TaskSpec:
    copy = api.TaskSpec()
    copy.CopyFrom(spec)
    copy.ClearField("placement")
    return copy


def _endpoint_differs(service: api.Service, task: api.Task) -> bool:
    # Absent and present but empty are different.
    return (
        service.spec.HasField("endpoint") != task.endpoint.HasField("spec")
        or service.spec.endpoint != task.endpoint.spec
    )


def _equal_specs(wanted_spec: api.TaskSpec, task: api.Task) -> bool:
    if wanted_spec == task.spec:
        return True
    # New pull options alone are no reason to replace a task that has its image.
    has_image = wanted(task) and api.TaskState.READY <= task.status.state <= api.TaskState.RUNNING
    if not (has_image and wanted_spec.HasField("container") and task.spec.HasField("container")):
        return False
    return _without_pull_options(wanted_spec) == _without_pull_options(task.spec)


def _without_pull_options(spec: api.TaskSpec) -> api.TaskSpec:
    copy = api.TaskSpec()
    copy.CopyFrom(spec)
    copy.container.ClearField("pull_options")
    return copy
