"""Slots: which tasks share a place, and which of them count (contract/orchestration.md, 4 and 6)."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from swarmkit.api import messages as api
from swarmkit.manager.tasks import is_global, is_global_job, newest, wanted

#: Tells whether the restart policy would replace a task that ended; see ``restart_policy``.
ShouldRestart = Callable[[api.Service, api.Task], bool]


class SlotKey(NamedTuple):
    """One place of a service: a number, or in the global modes a node (then ``slot`` is 0)."""

    service_id: str
    slot: int = 0
    node_id: str = ""


class Slot(NamedTuple):
    """A place and the tasks in it that count, as they were when somebody looked; never empty."""

    key: SlotKey
    tasks: tuple[api.Task, ...]


def slot_key(service: api.Service, task: api.Task) -> SlotKey:
    """Return the place of a task of ``service``."""
    if is_global(service) or is_global_job(service):
        return SlotKey(service.id, 0, task.node_id)
    return SlotKey(service.id, task.slot)


def group(
    service: api.Service, tasks: Iterable[api.Task], slots: dict[SlotKey, list[api.Task]]
) -> Iterator[None]:
    """Sort tasks of one service into ``slots``; yields after each, for ``Steps``."""
    for task in tasks:
        slots.setdefault(slot_key(service, task), []).append(task)
        yield


def updatable(
    service: api.Service, tasks: Iterable[api.Task], should_restart: ShouldRestart
) -> list[api.Task]:
    """Return the tasks of one slot that make it a running slot; without any it is dead.

    ``tasks`` are all tasks of the slot, whatever their state.
    """
    tasks = list(tasks)
    live = [task for task in tasks if wanted(task)]
    if live or not tasks:
        return live
    if service.update_status.state == api.UpdateStatus.ROLLBACK_STARTED:
        return []
    last = newest(tasks)
    # PARITY: a task that is to be removed never counts. In the original it did where the policy does not
    # restart, and a quick scale-down and scale-up left too few replicas (contract, 16, O6).
    if last.desired_state >= api.TaskState.REMOVE or should_restart(service, last):
        return []
    return [last]
