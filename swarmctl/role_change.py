"""Has a node changed its role? Pure: a look at the node in, what is still missing or a verdict out."""

from dataclasses import dataclass

from swarmkit.api import messages as api


@dataclass(frozen=True)
class Look:
    """What one look at a node shows.

    Attributes:
        done: the node is what was wished, in every respect.
        failed: why it never will be; empty while it may.
        missing: what is still awaited, in a few words; empty when done.
    """

    done: bool
    failed: str = ""
    missing: str = ""


def look(node: api.Node, wished: api.NodeRole.ValueType) -> Look:
    """Judge a node that was promoted or demoted.

    A promotion is done when the node takes part in the raft group, a demotion when it has left it.
    """
    if node.spec.desired_role != wished:
        return Look(False, failed="somebody else has wished for another role meanwhile")
    member = node.HasField("manager_status")
    if wished == api.NodeRole.WORKER:
        if member:
            return Look(False, missing="waiting until it has left the managers")
        return Look(node.role == wished, missing="" if node.role == wished else "waiting for its new role")
    if not member:
        return Look(False, missing="waiting until it joins the managers")
    if node.manager_status.reachability != api.RaftMemberStatus.REACHABLE:
        return Look(False, missing="waiting until it can be reached as a manager")
    return Look(True)
