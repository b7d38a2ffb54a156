"""The course of one rolling update: lanes, monitoring, failures (contract/orchestration.md, 9.2 to 9.4).

Pure. Times are seconds of one monotonic clock.
"""

import enum
import struct
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from swarmkit.api import messages as api
from swarmkit.manager.orchestrator import settings
from swarmkit.manager.orchestrator.dirty import is_slot_dirty, is_task_dirty
from swarmkit.manager.orchestrator.slots import SlotKey
from swarmkit.manager.tasks import ended, wanted


@dataclass(frozen=True, slots=True)
class SlotChange:
    """What brings one slot up to date.

    Attributes:
        create: a new task is needed.
        keep: otherwise, the up-to-date task that stays; it is to be released if it waits in READY.
        stop: wanted tasks that are to be shut down.
    """

    create: bool
    keep: api.Task | None
    stop: tuple[api.Task, ...]


def change_of_slot(
    service: api.Service, tasks: Sequence[api.Task], node_of: Callable[[api.Task], api.Node | None]
) -> SlotChange | None:
    """Decide what to do about the updatable ``tasks`` of a slot; None if it is up to date or empty."""
    nodes = [node_of(task) for task in tasks]
    if not is_slot_dirty(service, tasks, nodes):
        return None
    clean = [
        task
        for task, node in zip(tasks, nodes, strict=True)
        if wanted(task) and not is_task_dirty(service, task, node)
    ]
    released = [task for task in clean if task.desired_state == api.TaskState.RUNNING]
    keep = clean[-1] if clean else None
    if released:
        # Of several, the one that is furthest on and has not ended.
        keep = max(released, key=lambda task: -1 if ended(task) else task.status.state)
    stop = tuple(task for task in tasks if wanted(task) and task is not keep)
    return SlotChange(create=keep is None, keep=keep, stop=stop)


class Verdict(enum.Enum):
    """What too many failures lead to."""

    PAUSE = enum.auto()
    ROLL_BACK = enum.auto()


@dataclass(slots=True)
class _Made:
    """A task that this update created; ``started_at`` is when it was first seen to run or to have ended."""

    key: SlotKey
    started_at: float | None = None
    failed: bool = False


@dataclass(slots=True)
class _Lanes:
    """``cooling``: when each lane that sleeps wakes; ascending, as the delay is always the same."""

    count: int
    starting: int = 0
    cooling: deque[float] = field(default_factory=deque)

    def free(self, now: float) -> int:
        while self.cooling and self.cooling[0] <= now:
            self.cooling.popleft()
        return self.count - self.starting - len(self.cooling)


class Rollout:
    """Which slot is next, and whether the update goes on. Bounded by the number of its slots.

    Invariants (``check_invariants``): never more lanes in use than there are, and none for a task that has
    started.
    """

    def __init__(self, slots: Sequence[SlotKey], config: api.UpdateConfig, *, rolling_back: bool) -> None:
        self._pending = deque(slots)
        self._total = len(slots)
        self._lanes = _Lanes(config.parallelism or self._total)
        self._delay = settings.seconds(config.delay)
        self._config = config
        self._rolling_back = rolling_back
        self._made: dict[str, _Made] = {}
        self._failures = 0
        self.verdict: Verdict | None = None
        monitor = settings.monitor_seconds(config)
        #: How long the update is watched after its last slot, and how old a failure may be that counts.
        self.watch_seconds = monitor if self._delay < monitor else self._delay + 1

    def take(self, now: float, most: int) -> list[SlotKey]:
        """Return the next slots for the lanes that are free, at most ``most``.

        Each is answered by ``slot_done`` or ``slot_starting``.
        """
        if self.verdict is not None:
            return []
        count = min(self._lanes.free(now), most, len(self._pending))
        self._lanes.starting += count
        return [self._pending.popleft() for _ in range(count)]

    def slot_done(self, now: float) -> None:
        """Note that a slot needs no waiting: its lane sleeps, then is free."""
        self._lanes.starting -= 1
        self._lanes.cooling.append(now + self._delay)

    def slot_starting(self, key: SlotKey, task_id: str) -> None:
        """Note that a slot got a new task, which its lane waits for."""
        self._made[task_id] = _Made(key)

    def observe(self, task: api.Task, now: float) -> SlotKey | None:
        """Take note of a task's state; return its slot if it is a new task now seen to run, once."""
        made = self._made.get(task.id)
        if made is None or task.status.state < api.TaskState.RUNNING:
            return None
        if ended(task):
            self._count_failure(made, now)
        if made.started_at is not None:
            return None
        made.started_at = now
        self.slot_done(now)
        return None if ended(task) else made.key

    def awaited(self, task_id: str) -> SlotKey | None:
        """Return the slot of a new task that has not started yet."""
        made = self._made.get(task_id)
        return made.key if made is not None and made.started_at is None else None

    def replaced(self, task_id: str, successor_id: str) -> None:
        """Note that a new task that had not started was replaced: its lane waits for the other now."""
        self._made[successor_id] = self._made.pop(task_id)

    def forget(self, task_id: str, now: float) -> None:
        """Note that a task is deleted or not to run any more: a lane that waits for it waits in vain."""
        made = self._made.pop(task_id, None)
        if made is not None and made.started_at is None:
            self.slot_done(now)

    def _count_failure(self, made: _Made, now: float) -> None:
        # PARITY: a failure is as old as the moment it is handled, like its start (contract, 16, O8).
        action = self._config.failure_action
        recent = made.started_at is None or now - made.started_at <= self.watch_seconds
        if action == api.UpdateConfig.CONTINUE or made.failed or not recent:
            return
        made.failed = True
        self._failures += 1
        if (
            self.verdict is not None
            or _float32(self._failures / self._total) <= self._config.max_failure_ratio
        ):
            return
        # A rollback is not itself rolled back.
        # PARITY: it pauses at once; the original went on and reported it as completed (contract, 16, O1).
        roll_back = action == api.UpdateConfig.ROLLBACK and not self._rolling_back
        self.verdict = Verdict.ROLL_BACK if roll_back else Verdict.PAUSE

    def deadline(self) -> float | None:
        """Return when the next lane wakes, or None if none sleeps."""
        return self._lanes.cooling[0] if self._lanes.cooling else None

    def lanes_done(self, now: float) -> bool:
        """Tell whether no slot is to be offered any more and every lane has finished its last one."""
        nothing_left = self.verdict is not None or not self._pending
        return nothing_left and self._lanes.free(now) == self._lanes.count

    def check_invariants(self) -> None:
        """Assert the invariants of the class."""
        waiting = sum(made.started_at is None for made in self._made.values())
        assert waiting == self._lanes.starting
        assert self._lanes.starting + len(self._lanes.cooling) <= self._lanes.count


def _float32(value: float) -> float:
    # The ratio is compared in the precision of the wire: 7 of 10 is not more than 0.7.
    rounded: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return rounded
