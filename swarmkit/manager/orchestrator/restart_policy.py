"""Whether, with what and after how long a task is replaced (contract/orchestration.md, 8.1 to 8.3). Pure."""

import datetime
from collections import deque
from dataclasses import dataclass, field

from swarmkit.api import messages as api
from swarmkit.manager.orchestrator import settings
from swarmkit.manager.orchestrator.slots import SlotKey, slot_key
from swarmkit.manager.tasks import (
    NEVER,
    applied_time,
    created_time,
    ended,
    is_global,
    is_global_job,
    is_job,
    is_replicated,
    is_replicated_job,
    nanoseconds,
    new_task,
)


@dataclass(slots=True)
class _Entry:
    version: int | None
    total: int = 0
    times: deque[int] = field(default_factory=deque)


class RestartHistory:
    """Remembers the restarts of each slot whose policy limits them, in memory only.

    Bounded by the number of slots such services ever used until they are deleted; in a slot by max attempts,
    for a time outside the window is dropped when a newer one is recorded.
    """

    def __init__(self) -> None:
        self._services: dict[str, dict[SlotKey, _Entry]] = {}

    def record(self, key: SlotKey, replacement: api.Task, now: datetime.datetime) -> None:
        """Note that ``replacement`` was made in slot ``key``, if its policy limits restarts.

        It counts at its creation time, before it is stored ``now``.
        """
        policy = replacement.spec.restart
        if policy.max_attempts == 0:
            return
        version = replacement.spec_version.index if replacement.HasField("spec_version") else None
        entries = self._services.setdefault(key.service_id, {})
        entry = entries.get(key)
        if entry is None or entry.version != version:
            entry = entries[key] = _Entry(version)
        entry.total += 1
        window = nanoseconds(policy.window)
        if window > 0:
            created = created_time(replacement)
            if created == NEVER:
                created = _since_1970(now)
            entry.times.append(created)
            while entry.times[0] <= created - window:
                entry.times.popleft()

    def allows(self, key: SlotKey, task: api.Task) -> bool:
        """Tell whether the policy of ``task``, which ended in slot ``key``, allows one more restart."""
        policy = task.spec.restart
        if policy.max_attempts == 0:
            return True
        entry = self._services.get(key.service_id, {}).get(key)
        if entry is None:
            return True
        if task.HasField("spec_version") and entry.version != task.spec_version.index:
            return True
        window = nanoseconds(policy.window)
        moment = applied_time(task)
        if window <= 0 or moment == NEVER:
            return entry.total < policy.max_attempts
        while entry.times and entry.times[0] <= moment - window:
            entry.times.popleft()
        return sum(time < moment for time in entry.times) < policy.max_attempts

    def forget_service(self, service_id: str) -> None:
        """Drop what is known of a service that is gone."""
        self._services.pop(service_id, None)

    def forget_node(self, node_id: str) -> None:
        """Drop what is known of the places on a node that is gone."""
        for entries in self._services.values():
            for key in [key for key in entries if key.node_id == node_id]:
                del entries[key]

    def should_restart(self, service: api.Service, task: api.Task) -> bool:
        """Tell whether the policy of ``task`` asks for a replacement, now that it ended or must go."""
        condition = settings.restart_condition(task)
        completed = task.status.state == api.TaskState.COMPLETE
        if condition == api.RestartPolicy.NONE:
            return False
        if completed and (condition == api.RestartPolicy.ON_FAILURE or is_job(service)):
            return False
        # PARITY: attempts of global jobs are limited by node, too; the original looked them up without it
        # and so never limited them (contract, 16, O2).
        return self.allows(slot_key(service, task), task)


def _since_1970(moment: datetime.datetime) -> int:
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return (moment - epoch) // datetime.timedelta(microseconds=1) * 1000


@dataclass(frozen=True, slots=True)
class Replacement:
    """What follows a task that is given up.

    Attributes:
        task: its successor in the slot, waiting in READY.
        delay_seconds: how long the successor waits at least.
        wait_for_old: it also waits until the old task has ended.
    """

    task: api.Task
    delay_seconds: float
    wait_for_old: bool


def replacement_for(
    service: api.Service,
    old: api.Task,
    node: api.Node | None,
    *,
    task_id: str,
    now: datetime.datetime,
    cluster: api.Cluster | None,
) -> Replacement | None:
    """Build the successor of ``old``, whose node is ``node``; None where the mode has none."""
    if is_replicated(service) or is_replicated_job(service):
        task = new_task(task_id, service, now, slot=old.slot, cluster=cluster)
    elif is_global(service) or (is_global_job(service) and node is not None):
        # PARITY: none for a global job whose node is gone; the original makes one that can never be placed
        # (contract, 16, O11).
        task = new_task(task_id, service, now, node_id=old.node_id, cluster=cluster)
    else:
        return None
    task.desired_state = api.TaskState.READY
    drained = node is not None and node.spec.availability == api.NodeSpec.DRAIN
    down = node is not None and node.status.state == api.NodeStatus.DOWN
    return Replacement(
        task=task,
        delay_seconds=0.0 if drained else settings.restart_delay_seconds(old),
        wait_for_old=not down and not ended(old),
    )
