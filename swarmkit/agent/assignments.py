"""Reading assignment messages: what they change, and whether they follow the ones before. Pure.

Source: contract/dispatcher-agent.md, 3.10, 6 and 8.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from swarmkit.api import messages as api

_COMPLETE = api.AssignmentsMessage.COMPLETE
_REMOVE = api.AssignmentChange.REMOVE


@dataclass
class Changes:
    """The changes of one message, by kind, in the order sent: objects to take and ids to remove."""

    secrets: list[api.Secret] = field(default_factory=list)
    removed_secrets: list[str] = field(default_factory=list)
    configs: list[api.Config] = field(default_factory=list)
    removed_configs: list[str] = field(default_factory=list)
    tasks: list[api.Task] = field(default_factory=list)
    removed_tasks: list[str] = field(default_factory=list)
    volumes: int = 0  # number of volume changes, which no executor of ours takes


def read(changes: Iterable[api.AssignmentChange]) -> Changes:
    """Sort the changes of a message by kind; one without an object, or of an unknown kind, is nothing."""
    result = Changes()
    for change in changes:
        assignment, remove = change.assignment, change.action == _REMOVE
        match assignment.WhichOneof("item"):
            case "task" if remove:
                result.removed_tasks.append(assignment.task.id)
            case "task":
                result.tasks.append(assignment.task)
            case "secret" if remove:
                result.removed_secrets.append(assignment.secret.id)
            case "secret":
                result.secrets.append(assignment.secret)
            case "config" if remove:
                result.removed_configs.append(assignment.config.id)
            case "config":
                result.configs.append(assignment.config)
            case "volume":
                result.volumes += 1
    return result


def from_tasks(message: api.TasksMessage) -> api.AssignmentsMessage:
    """Return a message of the older Tasks stream as what it amounts to: a complete set with tasks only."""
    complete = api.AssignmentsMessage(type=_COMPLETE)
    for task in message.tasks:
        complete.changes.add().assignment.task.CopyFrom(task)
    return complete


class Chain:
    """Follows ``applies_to`` and ``results_in`` of one stream.

    A stream begins with a COMPLETE message, which stands for itself; each INCREMENTAL one must apply to the
    result of the message before it. After a gap nothing more of the stream may be applied.
    """

    def __init__(self) -> None:
        self._reference: str | None = None

    def accepts(self, message: api.AssignmentsMessage) -> bool:
        """Tell whether the message may be applied, and if so move on behind it."""
        if message.type != _COMPLETE and message.applies_to != self._reference:
            return False
        self._reference = message.results_in
        return True
