"""What waits to be written, and how each item changes its object.

Contract: dispatcher-agent.md, 3.2 and 3.6 to 3.8.

Pure: functions from an object of the store and a report to the new object, or None where nothing changes.
"""

import datetime
from dataclasses import dataclass, field

from swarmkit.api import messages as api
from swarmkit.api.naming import ENGINE_ERROR_LABEL
from swarmkit.clock import timestamp

DOWN_MESSAGE = "heartbeat failure"
UNKNOWN_DOWN_MESSAGE = 'heartbeat failure for node in "unknown" state'
UNKNOWN_MESSAGE = 'Node moved to "unknown" state due to leadership change in cluster'


@dataclass(frozen=True)
class NodeUpdate:
    """A new state of a node.

    Attributes:
        state: the state.
        message: what the status says about it.
        addr: the node's address; empty: keep the stored one.
        description: what the node says of itself; None: keep the stored one.
    """

    state: api.NodeStatus.State.ValueType
    message: str = ""
    addr: str = ""
    description: api.NodeDescription | None = None

    @classmethod
    def registered(cls, addr: str, description: api.NodeDescription | None) -> "NodeUpdate":
        """Return the update of a node that opened a session: READY, unless its engine is away.

        PARITY: a node of ours that cannot reach its engine says so in its description. It is DISCONNECTED,
        with the reason: it gets no new tasks, and those it has stay, for they may well run.
        """
        error = description.engine.labels.get(ENGINE_ERROR_LABEL, "") if description is not None else ""
        state = api.NodeStatus.DISCONNECTED if error else api.NodeStatus.READY
        return cls(state, error, addr, description)

    def after(self, earlier: "NodeUpdate | None") -> "NodeUpdate":
        """Merge with an update that still waits: its description and address stay unless given anew."""
        if earlier is None:
            return self
        description = self.description if self.description is not None else earlier.description
        return NodeUpdate(self.state, self.message, self.addr or earlier.addr, description)


@dataclass
class PendingUpdates:
    """Reports that wait for the next write.

    Bounded by the number of tasks, nodes and volumes: there is one item per object, the last one wins.
    """

    tasks: dict[str, api.TaskStatus] = field(default_factory=dict)
    nodes: dict[str, NodeUpdate] = field(default_factory=dict)
    volumes: dict[tuple[str, str], None] = field(default_factory=dict)

    def largest(self) -> int:
        """Return the size of the larger of the two maps that cause an early write."""
        return max(len(self.tasks), len(self.nodes))

    def put_task(self, task_id: str, status: api.TaskStatus) -> None:
        """Keep ``status`` for the task, whatever waited before, even a higher state."""
        self.tasks.pop(task_id, None)
        self.tasks[task_id] = status

    def put_node(self, node_id: str, update: NodeUpdate) -> None:
        """Keep ``update`` for the node, merged with what waited before."""
        self.nodes[node_id] = update.after(self.nodes.get(node_id))

    def put_unpublished(self, volume_id: str, node_id: str) -> None:
        """Keep that the node no longer uses the volume."""
        self.volumes[(volume_id, node_id)] = None


def accept_status(
    task: api.Task, reported: api.TaskStatus, leader_id: str, now: datetime.datetime
) -> api.Task | None:
    """Return ``task`` with the reported status; None if that is older than the stored one or equal to it.

    The whole status is replaced, the node's own timestamp kept, and who accepted it when is stamped.
    PARITY: the original writes an equal status again.
    """
    if task.status.state > reported.state or _unstamped(task.status) == _unstamped(reported):
        return None
    accepted = api.Task()
    accepted.CopyFrom(task)
    accepted.status.CopyFrom(reported)
    accepted.status.applied_by = leader_id
    accepted.status.applied_at.CopyFrom(timestamp(now))
    return accepted


def _unstamped(status: api.TaskStatus) -> api.TaskStatus:
    bare = api.TaskStatus()
    bare.CopyFrom(status)
    bare.ClearField("applied_by")
    bare.ClearField("applied_at")
    return bare


def update_node(node: api.Node, update: NodeUpdate) -> api.Node | None:
    """Return ``node`` in its new state; None if nothing changes, address and description included.

    PARITY: the original writes an unchanged node too.
    """
    changed = api.Node()
    changed.CopyFrom(node)
    changed.status.state = update.state
    changed.status.message = update.message
    if update.addr:
        changed.status.addr = update.addr
    if update.description is not None:
        changed.description.CopyFrom(update.description)
    return None if changed == node else changed


def release_volume(volume: api.Volume, node_id: str) -> api.Volume | None:
    """Return ``volume`` waiting to be unpublished from the node; None if nothing changes."""
    changed = api.Volume()
    changed.CopyFrom(volume)
    for status in changed.publish_status:
        if status.node_id == node_id:
            status.state = api.VolumePublishStatus.PENDING_UNPUBLISH
    return None if changed == volume else changed


def orphan(task: api.Task) -> api.Task | None:
    """Return ``task`` as ORPHANED if its node had it; None if it never got that far or has ended.

    Only the state changes: time, message and who applied it stay what the node last said.
    """
    if not api.TaskState.ASSIGNED <= task.status.state <= api.TaskState.RUNNING:
        return None
    orphaned = api.Task()
    orphaned.CopyFrom(task)
    orphaned.status.state = api.TaskState.ORPHANED
    return orphaned
