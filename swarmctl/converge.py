"""Has a service converged? Pure: looks at its tasks in, progress or a verdict out."""

import enum
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from swarmkit.api import messages as api

#: Tasks of one instance that ended by themselves, none running, after which waiting longer is not worth it.
MAX_ENDED = 3
#: How long a service must look converged to count, in seconds: tasks that die at once should not.
STEADY_SECONDS = 1.0
#: The same for a global service without a task: no node may qualify, or the manager is slow.
STEADY_EMPTY_SECONDS = 3.0
_PAUSED = (api.UpdateStatus.PAUSED, api.UpdateStatus.ROLLBACK_PAUSED)
_ROLLED_BACK = (api.UpdateStatus.ROLLBACK_STARTED, api.UpdateStatus.ROLLBACK_COMPLETED)
#: Ends that nobody asked for.
_ENDED = (api.TaskState.COMPLETE, api.TaskState.FAILED, api.TaskState.REJECTED)


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
        reasons: sentences on what is in the way, each once, the most telling first.
        steady_seconds: how long CONVERGED must hold.
    """

    verdict: Verdict
    running: int
    wanted: int
    reasons: tuple[str, ...] = ()
    steady_seconds: float = STEADY_SECONDS


def _key(task: api.Task) -> str:
    return str(task.slot) if task.slot else task.node_id


def _reason(task: api.Task) -> str:
    """Return what is wrong with a task; empty if nothing."""
    text = task.status.err
    if not text and task.status.state == api.TaskState.COMPLETE:
        text = "the task ended by itself, with exit code 0"
    return f"{task.service_annotations.name}.{_key(task)}: {text}" if text else ""


class Course:
    """Judges one service by looks that follow each other.

    Ended tasks of an instance are counted across looks: the swarm may keep fewer of them than it takes to see
    that there is no use in waiting.
    """

    def __init__(self) -> None:
        self._version: api.Version | None = None
        self._ended: dict[str, set[str]] = {}  # by instance; at most MAX_ENDED ids each

    def look(self, service: api.Service, tasks: Sequence[api.Task], current: Collection[str]) -> Look:
        """Judge a service.

        Args:
            service: as stored now.
            tasks: all its tasks.
            current: ids of those that fit its spec, as the manager says.
        """
        if self._version != service.spec_version:
            self._version, self._ended = service.spec_version, {}
        alive = [task for task in tasks if task.desired_state <= api.TaskState.RUNNING]
        running = [t for t in alive if t.id in current and t.status.state == api.TaskState.RUNNING]
        given_up = _given_up(tasks, current)
        if service.spec.HasField("global"):
            wanted = len({task.node_id for task in alive} | given_up.keys())
            steady = STEADY_SECONDS if wanted else STEADY_EMPTY_SECONDS
        else:
            wanted, steady = service.spec.replicated.replicas, STEADY_SECONDS
        hopeless = self._hopeless(tasks, {_key(task) for task in running})
        if len(alive) < wanted:
            hopeless |= given_up
        reasons = _reasons([*hopeless.values(), *(task for task in tasks if task.id in current)])
        verdict = Verdict.CONVERGING
        state = service.update_status.state if service.HasField("update_status") else None
        if state in _PAUSED or state in _ROLLED_BACK:
            verdict, reasons = Verdict.FAILED, (service.update_status.message, *reasons)
        elif state == api.UpdateStatus.UPDATING:
            pass
        elif hopeless:
            verdict = Verdict.FAILED
        elif len(running) == wanted == len(alive):
            verdict, reasons = Verdict.CONVERGED, ()
        return Look(verdict, len(running), wanted, reasons, steady)

    def _hopeless(self, tasks: Iterable[api.Task], fine: set[str]) -> dict[str, api.Task]:
        """Return the last end of each instance that keeps ending and does not run at the moment.

        Tasks that are older than the spec's version ended before there was anything to wait for.
        """
        last: dict[str, api.Task] = {}
        for task in _by_age(tasks):
            if task.status.state in _ENDED and task.spec_version == self._version:
                key = _key(task)
                last[key] = task
                ended = self._ended.setdefault(key, set())
                if len(ended) < MAX_ENDED:
                    ended.add(task.id)
        return {
            key: task for key, task in last.items() if len(self._ended[key]) >= MAX_ENDED and key not in fine
        }


def _given_up(tasks: Iterable[api.Task], current: Collection[str]) -> dict[str, api.Task]:
    """Return the newest task of each instance that has ended and that the restart policy does not replace."""
    newest = {_key(task): task for task in _by_age(tasks)}
    return {
        key: task
        for key, task in newest.items()
        if task.desired_state == api.TaskState.SHUTDOWN and task.status.state in _ENDED and task.id in current
    }


def _by_age(tasks: Iterable[api.Task]) -> list[api.Task]:
    return sorted(tasks, key=lambda task: task.meta.created_at.ToNanoseconds())


def _reasons(tasks: Iterable[api.Task]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, map(_reason, tasks))))


def line(seen: Look) -> str:
    """Return the progress as one line."""
    return f"{seen.running}/{seen.wanted} running"
