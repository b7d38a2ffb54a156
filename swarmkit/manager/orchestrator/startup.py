"""What a new leader finds: tasks to repair, release, remember (contract/orchestration.md, 13.1). Pure."""

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from swarmkit.api import messages as api
from swarmkit.manager.orchestrator import settings
from swarmkit.manager.orchestrator.slots import SlotKey, slot_key
from swarmkit.manager.orchestrator.steps import Steps
from swarmkit.manager.tasks import NEVER, applied_time, created_time, ended, is_invalid_node, wanted


class Repair(enum.Enum):
    """What a task needs before ordinary work begins."""

    NOTHING = enum.auto()
    RESTART = enum.auto()
    SHUT_DOWN = enum.auto()


@dataclass(slots=True)
class StartupPlan:
    """What the check of all tasks found.

    Attributes:
        forget: tasks whose service is gone; their records are deleted.
        restart: tasks to restart.
        shut_down: tasks to shut down without a replacement.
        release: tasks that wait in READY, with the seconds they still have to wait.
        restarts: for each slot key, the tasks that once were replacements, oldest first.
    """

    forget: list[str] = field(default_factory=list)
    restart: list[str] = field(default_factory=list)
    shut_down: list[str] = field(default_factory=list)
    release: list[tuple[str, float]] = field(default_factory=list)
    restarts: list[tuple[SlotKey, api.Task]] = field(default_factory=list)


def repair_of_replicated(task: api.Task, nodes: Mapping[str, api.Node]) -> Repair:
    """Restart what ended or sits on a node where it cannot stay."""
    stranded = bool(task.node_id) and is_invalid_node(nodes.get(task.node_id))
    return Repair.RESTART if wanted(task) and (ended(task) or stranded) else Repair.NOTHING


def repair_of_global(task: api.Task, nodes: Mapping[str, api.Node]) -> Repair:
    """Shut down what has no node any more, restart what ended."""
    if not wanted(task):
        return Repair.NOTHING
    if is_invalid_node(nodes.get(task.node_id)):
        return Repair.SHUT_DOWN
    return Repair.RESTART if ended(task) else Repair.NOTHING


def check_tasks(
    tasks: Iterable[api.Task],
    services: Mapping[str, api.Service],
    nodes: Mapping[str, api.Node],
    takes: Callable[[api.Service | None], bool],
    repair: Callable[[api.Task, Mapping[str, api.Node]], Repair],
    now: int,
) -> Steps[StartupPlan]:
    """Look at all tasks, for the orchestrator of the services that ``takes`` selects.

    ``services`` and ``nodes`` are by id; ``now`` is in nanoseconds since 1970.
    """
    plan = StartupPlan()
    slots: dict[SlotKey, list[api.Task]] = {}
    for task in tasks:
        yield
        if not task.service_id:
            continue
        service = services.get(task.service_id)
        if service is None:
            plan.forget.append(task.id)
            continue
        if not takes(service):
            continue
        if task.HasField("spec_version"):
            slots.setdefault(slot_key(service, task), []).append(task)
        needed = repair(task, nodes)
        if needed is Repair.RESTART:
            plan.restart.append(task.id)
        elif needed is Repair.SHUT_DOWN:
            plan.shut_down.append(task.id)
        elif task.desired_state == api.TaskState.READY and task.status.state <= api.TaskState.COMPLETE:
            plan.release.append((task.id, _remaining_delay(task, now)))
    for key, members in slots.items():
        plan.restarts += [(key, task) for task in _replacements(members)]
        yield
    return plan


def _remaining_delay(task: api.Task, now: int) -> float:
    delay = settings.restart_delay_seconds(task)
    since = applied_time(task)
    return max(0.0, min(delay, delay - (now - since) / 1e9)) if since != NEVER else 0.0


def _replacements(tasks: list[api.Task]) -> list[api.Task]:
    newest = max(task.spec_version.index for task in tasks)
    return sorted((task for task in tasks if task.spec_version.index == newest), key=created_time)[1:]
