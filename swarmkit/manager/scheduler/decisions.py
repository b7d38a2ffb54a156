"""What the scheduler wants written about a task, and how it is written (contract/scheduler.md, 13 to 15)."""

import enum
from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp

from swarmkit.api import messages as api
from swarmkit.store import Tx

ASSIGNED_TEXT = "scheduler assigned task to node"
CONFIRMED_TEXT = "scheduler confirmed task can run on preassigned node"


@dataclass(frozen=True, slots=True)
class Assignment:
    """Run the task on a node.

    Attributes:
        task: the copy of the task that was looked at.
        node: the node as it was looked at.
        generic: the generic resources it gets.
        status: the status it gets; shared by the assignments of a pass.
    """

    task: api.Task
    node: api.Node
    generic: tuple[api.GenericResource, ...]
    status: api.TaskStatus

    def apply(self, task: api.Task) -> None:
        """Write the decision into a copy of the task."""
        task.node_id = self.node.id
        del task.assigned_generic_resources[:]
        task.assigned_generic_resources.extend(self.generic)
        task.status.CopyFrom(self.status)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Leave the task pending and say why.

    Attributes:
        task: the copy of the task that was looked at.
        text: the reason.
        moment: when it was found.
    """

    task: api.Task
    text: str
    moment: Timestamp

    def apply(self, task: api.Task) -> None:
        """Write the decision into a copy of the task; the message stays."""
        task.status.err = self.text
        task.status.timestamp.CopyFrom(self.moment)


@dataclass(frozen=True, slots=True)
class Retirement:
    """Shut a task down that never ran and shall not run: it is of an old version of its service.

    Attributes:
        task: the copy of the task that was looked at.
        moment: when it was found.
    """

    task: api.Task
    moment: Timestamp

    def apply(self, task: api.Task) -> None:
        """Write the decision into a copy of the task; the message stays."""
        task.status.state = api.TaskState.SHUTDOWN
        task.status.err = ""
        task.status.timestamp.CopyFrom(self.moment)


Decision = Assignment | Explanation | Retirement


class Outcome(enum.Enum):
    """What became of a decision."""

    WRITTEN = enum.auto()
    UNCHANGED = enum.auto()  # the store says so already
    GONE = enum.auto()  # the task does not exist any more
    CONFLICT = enum.auto()  # the task, or the node it shall run on, changed since it was looked at


def write(decision: Decision, tx: Tx) -> tuple[Outcome, api.Task | None]:
    """Write one decision, unless what it was based on has changed.

    Returns what became of it, and the task as it was stored before.
    """
    seen = decision.task
    stored = tx.get(api.Task, seen.id)
    if stored is None:
        return Outcome.GONE, stored
    wanted = api.Task()
    wanted.CopyFrom(seen)
    decision.apply(wanted)
    if _same(stored.status, wanted.status):
        return Outcome.UNCHANGED, stored
    if stored.meta.version.index != seen.meta.version.index:
        return Outcome.CONFLICT, stored
    if isinstance(decision, Assignment):
        # PARITY: the original looks at the node only if the task is already assigned. Transactions are
        # pipelined here, and nobody would notice a task put on a node whose deletion is in flight.
        node = tx.get(api.Node, decision.node.id)
        if node is None or node.meta.version.index != decision.node.meta.version.index:
            return Outcome.CONFLICT, stored
    tx.update(wanted)
    return Outcome.WRITTEN, stored


def _same(stored: api.TaskStatus, wanted: api.TaskStatus) -> bool:
    # A later timestamp alone is no change.
    return stored.state == wanted.state and stored.message == wanted.message and stored.err == wanted.err
