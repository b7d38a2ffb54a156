"""Has a service converged? Pure: a look at its tasks in, progress or a verdict out."""

import enum
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from swarmkit.api import messages as api

#: Failures of one instance, none of its tasks running, after which waiting longer is not worth it.
MAX_FAILURES = 3
_PAUSED = (api.UpdateStatus.PAUSED, api.UpdateStatus.ROLLBACK_PAUSED)
_ROLLED_BACK = (api.UpdateStatus.ROLLBACK_STARTED, api.UpdateStatus.ROLLBACK_COMPLETED)
_FAILED = (api.TaskState.FAILED, api.TaskState.REJECTED)


class Verdict(enum.Enum):
    """Where the service is."""

    CONVERGING = "converging"
    CONVERGED = "converged"
    FAILED = "failed"


@dataclass(frozen=True)
class Look:
    """What one look at a service shows.

    Attributes:
        verdict: whether to wait on.
        running: up-to-date tasks that run.
        wanted: tasks that should.
        reasons: sentences on what is in the way, each once, in order.
    """

    verdict: Verdict
    running: int
    wanted: int
    reasons: tuple[str, ...] = ()


def _current(service: api.Service, task: api.Task) -> bool:
    return task.spec_version == service.spec_version or task.spec == service.spec.task


def _key(task: api.Task) -> str:
    return str(task.slot) if task.slot else task.node_id


def look(service: api.Service, tasks: Sequence[api.Task], eligible_nodes: int) -> Look:
    """Judge a service by its tasks.

    Args:
        service: as stored now.
        tasks: all its tasks.
        eligible_nodes: ready, active nodes; what a global service is measured against before it has tasks.
    """
    alive = [task for task in tasks if task.desired_state <= api.TaskState.RUNNING]
    current = [task for task in alive if _current(service, task)]
    running = sum(task.status.state == api.TaskState.RUNNING for task in current)
    if service.spec.HasField("global"):
        wanted = len({task.node_id for task in alive}) or eligible_nodes
    else:
        wanted = service.spec.replicated.replicas
    reasons = tuple(_reasons(tasks))
    if service.HasField("update_status"):
        status = service.update_status
        if status.state in _PAUSED or status.state in _ROLLED_BACK:
            return Look(Verdict.FAILED, running, wanted, (status.message, *reasons))
        if status.state == api.UpdateStatus.UPDATING:
            return Look(Verdict.CONVERGING, running, wanted, reasons)
    if running == wanted and len(alive) == wanted:
        return Look(Verdict.CONVERGED, running, wanted)
    if _hopeless(service, tasks, alive, wanted):
        return Look(Verdict.FAILED, running, wanted, reasons)
    return Look(Verdict.CONVERGING, running, wanted, reasons)


def _reasons(tasks: Iterable[api.Task]) -> Iterable[str]:
    seen = set()
    for task in sorted(tasks, key=lambda task: (task.slot, task.id)):
        if task.status.err and task.status.err not in seen:
            seen.add(task.status.err)
            yield f"{task.service_annotations.name}.{_key(task)}: {task.status.err}"


def _hopeless(
    service: api.Service, tasks: Sequence[api.Task], alive: Sequence[api.Task], wanted: int
) -> bool:
    """Tell whether an instance keeps failing, or the restart policy has given some up."""
    failures = Counter(
        _key(task) for task in tasks if task.status.state in _FAILED and _current(service, task)
    )
    fine = {_key(task) for task in alive if task.status.state == api.TaskState.RUNNING}
    if any(count >= MAX_FAILURES and key not in fine for key, count in failures.items()):
        return True
    given_up = {key for key in failures if key not in {_key(task) for task in alive}}
    return bool(given_up) and len(alive) < wanted


def line(seen: Look) -> str:
    """Return the progress as one line."""
    return f"{seen.running}/{seen.wanted} running"
