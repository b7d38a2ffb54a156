"""What to do about the nodes of a global service (contract/orchestration.md, 7). Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from swarmkit.api import messages as api
from swarmkit.manager import constraint
from swarmkit.manager.constraint import Constraint
from swarmkit.manager.orchestrator.dirty import is_task_dirty
from swarmkit.manager.orchestrator.slots import ShouldRestart, Slot, SlotKey, group, updatable
from swarmkit.manager.orchestrator.steps import Steps
from swarmkit.manager.tasks import is_invalid_node, wanted


@dataclass(slots=True)
class GlobalPlan:
    """The decisions of one pass over one service.

    Attributes:
        create: places that get a task.
        stop: tasks to be shut down without a replacement.
        update: places whose tasks stay, for the updater.
    """

    create: list[SlotKey] = field(default_factory=list)
    stop: list[str] = field(default_factory=list)
    update: list[Slot] = field(default_factory=list)


def plan_global(
    service: api.Service,
    constraints: Sequence[Constraint],
    nodes: Iterable[api.Node],
    tasks: Iterable[api.Task],
    should_restart: ShouldRestart,
) -> Steps[GlobalPlan]:
    """Compare the tasks of a service, all of them, with the nodes it should run on."""
    places: dict[SlotKey, list[api.Task]] = {}
    yield from group(service, tasks, places)
    plan = GlobalPlan()
    for node in nodes:
        yield
        if is_invalid_node(node):
            continue
        key = SlotKey(service.id, 0, node.id)
        counted = updatable(service, places.pop(key, ()), should_restart)
        if not constraint.matches(constraints, node):
            plan.stop += [task.id for task in counted]
        elif node.spec.availability == api.NodeSpec.PAUSE:
            continue
        elif counted:
            plan.update.append(Slot(key, tuple(counted)))
        else:
            plan.create.append(key)
    for leftover in places.values():
        plan.stop += [task.id for task in updatable(service, leftover, should_restart)]
        yield
    return plan


@dataclass(frozen=True, slots=True)
class PlaceChange:
    """What one place needs after its node changed: a new task, and tasks to be shut down."""

    create: bool
    stop: tuple[api.Task, ...]

    def __bool__(self) -> bool:
        return self.create or bool(self.stop)


def change_of_place(
    service: api.Service,
    constraints: Sequence[Constraint],
    node: api.Node,
    tasks: Sequence[api.Task],
    should_restart: ShouldRestart,
) -> PlaceChange:
    """Decide about one service on one node that was created or changed; ``tasks`` are all there.

    PARITY: outdated tasks are replaced at once, even while an update is under way or paused (contract, 16,
    O5); each service's own policy and update status are applied to its tasks (O9).
    """
    if is_invalid_node(node):
        return PlaceChange(create=False, stop=tuple(task for task in tasks if _can_stop(task)))
    if node.spec.availability == api.NodeSpec.PAUSE or not constraint.matches(constraints, node):
        return PlaceChange(create=False, stop=())
    counted = updatable(service, tasks, should_restart)
    clean = [task for task in counted if not is_task_dirty(service, task, node)]
    # Of several, one that runs stays.
    keep = max(clean, key=_worth, default=None)
    return PlaceChange(
        create=keep is None,
        stop=tuple(task for task in counted if task is not keep and _can_stop(task)),
    )


def _can_stop(task: api.Task) -> bool:
    return task.desired_state < api.TaskState.SHUTDOWN


def _worth(task: api.Task) -> tuple[bool, int]:
    state = task.status.state
    return wanted(task), state if state <= api.TaskState.RUNNING else -1
