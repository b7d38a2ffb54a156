"""How one task advances: pure rules, from (state, desired state, what happened) to the next status.

Source: contract/dispatcher-agent.md, 9. ``taskmanager.py`` carries the steps out.
"""

import datetime
import enum
from collections.abc import Iterator
from dataclasses import dataclass

from swarmkit.agent.exec import AlreadyDoneError, TaskExitError, TemporaryError
from swarmkit.api import messages as api
from swarmkit.clock import timestamp

#: Longest error text put into a status, in characters: statuses travel often and are stored by every manager.
MAX_ERROR_LENGTH = 1024

_State = api.TaskState


class Operation(enum.Enum):
    """A call of the controller that a step needs."""

    PREPARE = "prepare"
    START = "start"
    WAIT = "wait"
    SHUTDOWN = "shutdown"


@dataclass(frozen=True)
class Step:
    """One step of a task.

    Attributes:
        operation: what the controller has to do first; None if nothing.
        state: the state after success.
        message: the status message after success.
    """

    operation: Operation | None
    state: api.TaskState.ValueType
    message: str


class Next(enum.Enum):
    """What the task manager does after a step."""

    AGAIN = "again"  # take the next step at once
    RETRY = "retry"  # take the same step again, after a pause
    IDLE = "idle"  # nothing to do until the task is updated


_STEPS_TOWARDS_DESIRED = {
    _State.NEW: Step(None, _State.ACCEPTED, "accepted"),
    _State.PENDING: Step(None, _State.ACCEPTED, "accepted"),
    _State.ASSIGNED: Step(None, _State.ACCEPTED, "accepted"),
    _State.ACCEPTED: Step(None, _State.PREPARING, "preparing"),
    _State.READY: Step(None, _State.STARTING, "starting"),
}
_STEPS_IN_PROGRESS = {
    _State.PREPARING: Step(Operation.PREPARE, _State.READY, "prepared"),
    _State.STARTING: Step(Operation.START, _State.RUNNING, "started"),
    _State.RUNNING: Step(Operation.WAIT, _State.COMPLETE, "finished"),
}
_SHUT_DOWN = Step(Operation.SHUTDOWN, _State.SHUTDOWN, "shutdown")


def next_step(state: api.TaskState.ValueType, desired: api.TaskState.ValueType) -> Step | None:
    """Return the step from ``state`` towards ``desired``; None if there is nothing to do.

    A desired state beyond SHUTDOWN (REMOVE) also ends in SHUTDOWN: the agent reports no later one. What is
    in progress (PREPARING, STARTING, RUNNING) is finished even if that goes one state past ``desired``.
    """
    if desired >= _State.SHUTDOWN:
        return None if state >= _State.COMPLETE else _SHUT_DOWN
    if state > desired:
        return None
    if state in _STEPS_IN_PROGRESS:
        return _STEPS_IN_PROGRESS[state]
    if state == desired:
        return None
    return _STEPS_TOWARDS_DESIRED.get(state)


def settle(
    status: api.TaskStatus, step: Step | None, error: BaseException | None
) -> tuple[api.TaskStatus, Next]:
    """Return the status after ``step`` ended with ``error`` (None: success), and what to do next.

    Success clears ``err``. A cancelled or overdue operation changes nothing and is retried; a temporary
    error, anywhere in the chain of causes, is shown in ``err`` and retried; any other error ends the task:
    REJECTED before STARTING, FAILED from there on. Timestamp and container status are left to ``observe``
    and ``stamp``.
    """
    new = copy_of(status)
    if step is None:
        return new, Next.IDLE
    if error is None or isinstance(error, AlreadyDoneError):
        new.state, new.message, new.err = step.state, step.message, ""
        return new, Next.AGAIN
    if is_interruption(error):
        return new, Next.RETRY
    new.err = error_text(error)
    if is_temporary(error):
        return new, Next.RETRY
    new.state = _State.REJECTED if status.state < _State.STARTING else _State.FAILED
    return new, Next.AGAIN


def resolve(status: api.TaskStatus, error: BaseException | None) -> api.TaskStatus:
    """Return the status of a task after its executor gave it a controller, or failed to (``error``)."""
    new = copy_of(status)
    if error is None:
        if status.state < _State.ACCEPTED:
            new.state, new.message, new.err = _State.ACCEPTED, "accepted", ""
        return new
    new.message, new.err = "resolving controller failed", error_text(error)
    if status.state < _State.STARTING:
        new.state = _State.REJECTED
    elif status.state <= _State.RUNNING:
        new.state = _State.FAILED
    return new


def observe(
    status: api.TaskStatus,
    error: BaseException | None,
    container: api.ContainerStatus | None,
    ports: api.PortStatus | None,
) -> api.TaskStatus:
    """Return ``status`` with what is known of the container; call it from STARTING on.

    The status carried by ``error`` goes before ``container``; where there is neither, the previous one stays,
    or an empty one is made. An exit code carried by ``error`` overrides.
    """
    new = copy_of(status)
    exited = error if isinstance(error, TaskExitError) else None
    if exited is not None and exited.status is not None:
        new.container.CopyFrom(exited.status)
    elif container is not None:
        new.container.CopyFrom(container)
    else:
        new.container.SetInParent()
    if exited is not None:
        new.container.exit_code = exited.exit_code
    if ports is None:
        new.ClearField("port_status")
    else:
        new.port_status.CopyFrom(ports)
    return new


def stamp(old: api.TaskStatus, new: api.TaskStatus, now: datetime.datetime) -> api.TaskStatus:
    """Return ``new`` with its timestamp moved to ``now`` if anything else differs from ``old``."""
    stamped = copy_of(new)
    stamped.ClearField("timestamp")
    previous = copy_of(old)
    previous.ClearField("timestamp")
    if stamped != previous:
        stamped.timestamp.CopyFrom(timestamp(now))
    elif old.HasField("timestamp"):
        stamped.timestamp.CopyFrom(old.timestamp)
    return stamped


def is_interruption(error: BaseException) -> bool:
    """Tell whether the operation was cancelled or ran into a deadline: its outcome is unknown."""
    # asyncio.CancelledError, named by its real home: this module knows nothing of the event loop.
    return type(error).__name__ == "CancelledError" or isinstance(error, TimeoutError)


def is_temporary(error: BaseException) -> bool:
    """Tell whether ``error``, or any error it was raised from, is a ``TemporaryError``."""
    return any(isinstance(cause, TemporaryError) for cause in _causes(error))


def error_text(error: BaseException) -> str:
    """Return what a status says of an error: one line of at most ``MAX_ERROR_LENGTH`` characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= MAX_ERROR_LENGTH else text[: MAX_ERROR_LENGTH - 1] + "…"


def state_name(state: api.TaskState.ValueType) -> str:
    """Return the name of a task state; its number if it is one this program does not know."""
    return api.TaskState.Name(state) if state in api.TaskState.values() else str(state)


def copy_of(status: api.TaskStatus) -> api.TaskStatus:
    """Return a copy that may be changed."""
    copy = api.TaskStatus()
    copy.CopyFrom(status)
    return copy


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__
