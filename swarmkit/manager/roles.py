"""What must be done so that nodes have the roles they should have (contract/raft-store-manager.md, 21). Pure.

A node's ``spec.desired_role`` is the wish, its ``role`` the fact. Certificates are signed for the fact: a
node that is promoted gets a manager's at once, and joins the raft group by itself; one that is demoted gets a
worker's only when it has left the group.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from swarmkit.api import messages as api


@dataclass(frozen=True)
class SetRole:
    """The observed role of a node is to become what is wished.

    Attributes:
        node_id: the node.
        role: its new role, which is the wish.
    """

    node_id: str
    role: api.NodeRole.ValueType


@dataclass(frozen=True)
class Evict:
    """A member is to leave the raft group.

    Attributes:
        raft_id: the member.
        node_id: the node it belongs to, which may be deleted.
    """

    raft_id: int
    node_id: str


RoleAction = SetRole | Evict


def decide(
    nodes: Mapping[str, api.Node], members: Collection[api.RaftMember], own_raft_id: int
) -> list[RoleAction]:
    """Return what is to be done, in this order; nothing once every wish is met.

    Promotions come first, as they only add. Of the members to evict, those that cannot be reached go first:
    every one of them makes the next removal safer. The deciding leader comes last, as it then leads no more.
    The safety of a removal is not judged here: it depends on the moment at which it is made.

    PARITY: a member whose node should be a worker is evicted even if its role says worker already, which
    happens when it is demoted while it joins; the original leaves such a member in the group.

    Args:
        nodes: by id; at least those whose role is not the wished one, and those of all members that exist.
        members: the raft group with its status.
        own_raft_id: of the deciding leader.
    """
    evictions = [
        member
        for member in members
        if member.node_id not in nodes or nodes[member.node_id].spec.desired_role == api.NodeRole.WORKER
    ]
    evictions.sort(
        key=lambda member: (
            member.raft_id == own_raft_id,
            member.status.reachability == api.RaftMemberStatus.REACHABLE,
            member.raft_id,
        )
    )
    joined = {member.node_id for member in members}
    changes = [
        SetRole(node.id, node.spec.desired_role)
        for _, node in sorted(nodes.items())
        if may_become(node, node.spec.desired_role, joined)
    ]
    changes.sort(key=lambda change: change.role != api.NodeRole.MANAGER)
    return [*changes, *(Evict(member.raft_id, member.node_id) for member in evictions)]


def may_become(node: api.Node, role: api.NodeRole.ValueType, joined: Collection[str]) -> bool:
    """Tell whether a node's role may be set to ``role`` now: it is wished, new, and makes no worker a member.

    Args:
        node: as stored now.
        role: the new role.
        joined: ids of the nodes in the raft group.
    """
    if node.spec.desired_role != role or node.role == role:
        return False
    return role == api.NodeRole.MANAGER or (role == api.NodeRole.WORKER and node.id not in joined)
