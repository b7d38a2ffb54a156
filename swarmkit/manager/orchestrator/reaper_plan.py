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

    A slot that a pass could not settle, because several of its tasks still run, waits until one of them
    changes. Bounded by the number of slots and tasks; above ``MARKS_LIMIT`` a pass is due.
    """

    def __init__(self) -> None:
        self._slots: dict[SlotKey, None] = {}
        self._cleanup: dict[str, None] = {}
        self._unsettled: set[SlotKey] = set()

    def __len__(self) -> int:
        return len(self._slots) + len(self._cleanup)

    def created(self, task: api.Task) -> None:
        """Note a new task."""
        if task.service_id:
            self._slots[_place_of_task(task)] = None

    def updated(self, task: api.Task) -> None:
        """Note a task that ended or is no longer wanted."""
        if cleanup_due(task):
            self._cleanup[task.id] = None
        if self._unsettled and (place := _place_of_task(task)) in self._unsettled:
            self._unsettled.discard(place)
            self._slots[place] = None

    def limit_changed(self) -> None:
        """Note that another number of tasks is kept: what was not settled may be now."""
        self._slots.update(dict.fromkeys(self._unsettled))
        self._unsettled.clear()

    def clean_up(self, task_ids: Iterable[str]) -> None:
        """Note records that are to go."""
        self._cleanup.update(dict.fromkeys(task_ids))

    def overfull(self) -> bool:
        """Tell whether a pass is due now."""
        return len(self) > MARKS_LIMIT

    def take_cleanup(self) -> list[str]:
        """Return the records that are to go, once."""
        cleanup, self._cleanup = self._cleanup, {}
        return list(cleanup)

    def take_slots(self) -> list[SlotKey]:
        """Return the slots to look at, once."""
        slots, self._slots = self._slots, {}
        return list(slots)

    def unsettled(self, slot: SlotKey) -> None:
        """Put back a slot in which several tasks still run."""
        self._unsettled.add(slot)


def _place_of_task(task: api.Task) -> SlotKey:
    # Tasks with a number are told apart by it wherever they run, the others by their node.
    return SlotKey(task.service_id, task.slot, "" if task.slot else task.node_id)


def keeps_history(service: api.Service, place: SlotKey) -> bool:
    """Tell whether ``place`` is a slot whose history is trimmed; that of jobs is not."""
    return is_replicated(service) or (is_global(service) and bool(place.node_id))


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
