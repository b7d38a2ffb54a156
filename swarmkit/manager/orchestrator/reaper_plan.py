"""Which task records may go (contract/orchestration.md, 12). Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from swarmkit.api import messages as api
from swarmkit.manager.orchestrator.slots import SlotKey
from swarmkit.manager.tasks import ended, is_global, is_replicated, oldest_first, reapable

#: Marks above which a pass is made at once instead of waiting for more.
MARKS_LIMIT = 1000


def cleanup_due(task: api.Task) -> bool:
    """Tell whether a record goes regardless of history: removed for good, or lost and of no service."""
    lost = task.status.state >= api.TaskState.ORPHANED and not task.service_id
    return lost or reapable(task)


class ReaperMarks:
    """What the next pass has to look at: slots that got a new task, and records that are to go.

    Bounded by the number of slots and tasks; above ``MARKS_LIMIT`` a pass is due.
    """

    def __init__(self) -> None:
        self.slots: dict[SlotKey, None] = {}
        self.cleanup: dict[str, None] = {}
        self._kept = 0

    def __len__(self) -> int:
        return len(self.slots) + len(self.cleanup)

    def created(self, task: api.Task) -> None:
        """Note a new task."""
        if task.service_id:
            self.slots[SlotKey(task.service_id, task.slot, task.node_id)] = None

    def updated(self, task: api.Task) -> None:
        """Note a changed task."""
        if cleanup_due(task):
            self.cleanup[task.id] = None

    def overfull(self) -> bool:
        """Tell whether a pass is due now: so many marks have come since the last one."""
        return len(self) - self._kept > MARKS_LIMIT

    def take_cleanup(self) -> list[str]:
        """Return the records that are to go, once."""
        cleanup, self.cleanup = self.cleanup, {}
        return list(cleanup)

    def take_slots(self) -> list[SlotKey]:
        """Return the slots to look at, once."""
        slots, self.slots = self.slots, {}
        self._kept = 0
        return list(slots)

    def keep(self, slots: Sequence[SlotKey]) -> None:
        """Put back slots that a pass could not settle; by themselves they do not make another one due."""
        self._kept = len(slots)
        self.slots.update(dict.fromkeys(slots))


def place_of(service: api.Service, marked: SlotKey) -> SlotKey | None:
    """Return the slot whose history a mark stands for; None for jobs, whose history is kept."""
    if is_replicated(service):
        return SlotKey(marked.service_id, marked.slot)
    if is_global(service) and marked.node_id:
        return SlotKey(marked.service_id, 0, marked.node_id)
    return None


def history_limit(service: api.Service, cluster_limit: int) -> int:
    """Return how many tasks a slot of the service keeps; negative for all.

    A service that limits its restarts keeps as many as a new leader needs to count them.
    """
    attempts = service.spec.task.restart.max_attempts
    return attempts + 1 if attempts else cluster_limit


@dataclass(frozen=True, slots=True)
class Trim:
    """Records to delete of one slot, and whether to look at it again at the next pass."""

    delete: tuple[str, ...] = ()
    look_again: bool = False


def trim_history(tasks: Sequence[api.Task], limit: int) -> Trim:
    """Decide about one slot; ``tasks`` are all its tasks."""
    excess = len(tasks) - limit
    if limit < 0 or excess <= 0:
        return Trim()
    delete: list[str] = []
    passed = 0
    for task in oldest_first(tasks):
        if len(delete) >= excess:
            break
        if _is_history(task):
            delete.append(task.id)
        else:
            passed += 1
    return Trim(tuple(delete), look_again=passed > 1)


def _is_history(task: api.Task) -> bool:
    never_placed = task.status.state < api.TaskState.ASSIGNED
    return ended(task) or (never_placed and task.desired_state > api.TaskState.RUNNING)


def cleanup_at_start(removed: Iterable[api.Task], orphaned: Iterable[api.Task]) -> list[str]:
    """Return the records that go at once, among those that are to be removed and those that are orphaned."""
    return [task.id for tasks in (removed, orphaned) for task in tasks if cleanup_due(task)]
