"""Which tasks a node may no longer run (contract/orchestration.md, 11.1). Pure."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from swarmkit.api import messages as api
from swarmkit.manager import constraint


class Eviction(NamedTuple):
    """A task that must go, and what it violates in a few words."""

    task_id: str
    reason: str


class _Resources:
    """What is left of a node while its tasks are counted. No description: nothing."""

    def __init__(self, resources: api.Resources) -> None:
        self.memory = resources.memory_bytes
        self.cpus = resources.nano_cpus
        self._amounts: Counter[str] = Counter()
        self._names: Counter[tuple[str, str]] = Counter()
        for item in resources.generic:
            if item.HasField("named_resource_spec"):
                named = item.named_resource_spec
                self._names[named.kind, named.value] += 1
            elif item.HasField("discrete_resource_spec"):
                amount = item.discrete_resource_spec
                self._amounts[amount.kind] += amount.value

    def take(self, item: api.GenericResource) -> bool:
        """Take an assigned generic resource out, if it is there with the same kind and type."""
        if item.HasField("named_resource_spec"):
            key = (item.named_resource_spec.kind, item.named_resource_spec.value)
            if not self._names[key]:
                return False
            self._names[key] -= 1
            return True
        amount = item.discrete_resource_spec
        if amount.kind not in self._amounts or self._amounts[amount.kind] < amount.value:
            return False
        self._amounts[amount.kind] -= amount.value
        return True


def is_subject(task: api.Task) -> bool:
    """Tell whether the enforcer looks at a task: it may run on its node, now or later."""
    meant_to_run = api.TaskState.ASSIGNED <= task.desired_state <= api.TaskState.COMPLETE
    return meant_to_run and task.status.state < api.TaskState.COMPLETE


def evictions(
    node: api.Node, tasks: Iterable[api.Task], service_of: Callable[[str], api.Service | None]
) -> Iterator[Eviction]:
    """Yield the tasks, of all those bound to ``node``, that violate its constraints or do not fit any more.

    The constraints are those of the service as it is now, if it exists. What an evicted task reserves is left
    to the others. After a task whose generic resource is gone no further task is looked at.
    """
    if node.spec.availability != api.NodeSpec.ACTIVE:
        return
    left = _Resources(node.description.resources)
    for task in tasks:
        if not is_subject(task):
            continue
        service = service_of(task.service_id) if task.service_id else None
        spec = service.spec.task if service is not None else task.spec
        reserved = task.spec.resources.reservations
        if not constraint.matches(constraint.parse_or_empty(spec.placement.constraints), node):
            yield Eviction(task.id, "placement constraints")
        elif reserved.memory_bytes > left.memory:
            yield Eviction(task.id, "memory reservation")
        elif reserved.nano_cpus > left.cpus:
            yield Eviction(task.id, "CPU reservation")
        else:
            left.memory -= reserved.memory_bytes
            left.cpus -= reserved.nano_cpus
            if not all(left.take(item) for item in task.assigned_generic_resources):
                yield Eviction(task.id, "generic resources")
                return
