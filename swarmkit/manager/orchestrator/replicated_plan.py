"""What to do about the slots of a replicated service (contract/orchestration.md, 6). Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from swarmkit.api import messages as api
from swarmkit.manager.orchestrator.slots import ShouldRestart, Slot, SlotKey, group, updatable
from swarmkit.manager.orchestrator.steps import Steps

#: Most tasks created by one pass over one service: the others come with the next pass, after the services
#: that wait. It also bounds what a mistyped replica count can do before it is put right.
MAX_CREATED = 10_000


@dataclass(slots=True)
class ReplicatedPlan:
    """The decisions of one pass over one service.

    Attributes:
        update: running slots to keep, for the updater.
        create: slots to put a new task into, by ascending number.
        forget: dead slots whose records are deleted.
        remove: surplus slots whose tasks are to be removed.
        incomplete: more slots are missing than one pass may create.
    """

    update: list[Slot] = field(default_factory=list)
    create: list[SlotKey] = field(default_factory=list)
    forget: list[SlotKey] = field(default_factory=list)
    remove: list[SlotKey] = field(default_factory=list)
    incomplete: bool = False


def plan_replicated(
    service: api.Service,
    tasks: Iterable[api.Task],
    should_restart: ShouldRestart,
    max_created: int = MAX_CREATED,
) -> Steps[ReplicatedPlan]:
    """Compare the slots of a service with its replica count; ``tasks`` are all its tasks."""
    slots: dict[SlotKey, list[api.Task]] = {}
    yield from group(service, tasks, slots)
    running: dict[SlotKey, Slot] = {}
    dead: set[SlotKey] = set()
    for key, members in slots.items():
        counted = updatable(service, members, should_restart)
        if counted:
            running[key] = Slot(key, tuple(counted))
        else:
            dead.add(key)
        yield
    plan = ReplicatedPlan(update=list(running.values()))
    replicas = service.spec.replicated.replicas
    missing = replicas - len(running)
    if missing > 0:
        plan.incomplete = missing > max_created
        plan.create = yield from _free_slots(service.id, min(missing, max_created), running)
        dead.difference_update(plan.create)
    elif missing < 0:
        order = yield from keep_order(plan.update)
        plan.update = order[:replicas]
        plan.remove = [slot.key for slot in order[replicas:]]
    plan.forget = sorted(dead)
    return plan


def _free_slots(service_id: str, count: int, running: dict[SlotKey, Slot]) -> Steps[list[SlotKey]]:
    # A dead slot met on the way is used again; what is in it stays as history.
    free: list[SlotKey] = []
    number = 0
    while len(free) < count:
        number += 1
        key = SlotKey(service_id, number)
        if key not in running:
            free.append(key)
        yield
    return free


def keep_order(slots: Sequence[Slot]) -> Steps[list[Slot]]:
    """Order running slots by how much they deserve to stay when the service shrinks, best first.

    Slots without one certain node go first, then the surplus of the nodes that hold most, then slots that do
    not run yet, then high numbers.
    """
    unstarted: list[Slot] = []
    started: list[Slot] = []
    for slot in slots:
        runs = any(task.status.state == api.TaskState.RUNNING for task in slot.tasks)
        (started if runs else unstarted).append(slot)
        yield
    by_number = [*sorted(started, key=_number), *sorted(unstarted, key=_number)]
    on_node: dict[str, int] = {}
    rounds: list[list[Slot]] = []
    placeless: list[Slot] = []
    for slot in by_number:
        node_id = slot.tasks[0].node_id if len(slot.tasks) == 1 else ""
        if node_id:
            nth = on_node[node_id] = on_node.get(node_id, 0) + 1
            if nth > len(rounds):
                rounds.append([])
            rounds[nth - 1].append(slot)
        else:
            placeless.append(slot)
        yield
    return [slot for slots_of_round in rounds for slot in slots_of_round] + placeless


def _number(slot: Slot) -> int:
    return slot.key.slot
