"""May a node's wished role change? (contract/control-api.md, 2; contract/security.md, 8). Pure.

The role itself changes later, by the role manager.
"""

from collections.abc import Collection, Sequence

from swarmkit.api import messages as api
from swarmkit.api.naming import IMPLEMENTATION_LABEL
from swarmkit.manager.controlapi.errors import MissingError, PreconditionError
from swarmkit.manager.controlapi.membership import can_leave, find_member

_LAST_MANAGER = "attempting to demote the last manager of the swarm"


def check_promotion(node: api.Node, spec: api.NodeSpec) -> None:
    """Refuse to promote a node that could never take part in raft.

    PARITY: the original checks nothing. Its own nodes and Docker Engines do not speak this project's raft,
    and one that is promoted ends its process again and again (contract/security.md, What a foreign peer
    depends on).

    Args:
        node: as stored.
        spec: what its spec is to become.

    Raises:
        PreconditionError: it is not accepted, not known well enough yet, or foreign.
    """
    if spec.membership != api.NodeSpec.ACCEPTED:
        raise PreconditionError(
            f"node {node.id} has not been accepted into the swarm: accept it before it is promoted"
        )
    if not node.HasField("description"):
        raise PreconditionError(
            f"node {node.id} has not described itself yet: promote it when its status is READY"
        )
    if IMPLEMENTATION_LABEL not in node.description.engine.labels:
        raise PreconditionError(
            f"node {node.id} runs other software, such as a Docker Engine: only nodes of this project can be"
            " managers"
        )


def check_demotion(node: api.Node, managers: Collection[api.Node], members: Sequence[api.RaftMember]) -> None:
    """Refuse to demote a manager the swarm cannot do without.

    PARITY: the original lets managers be demoted one right after the other until none is wished; the last one
    would then wait for ever to leave the group.

    Args:
        node: as stored.
        managers: the nodes whose observed role is manager.
        members: the raft group with its status.

    Raises:
        PreconditionError: it is the last manager, or needed for the quorum.
        MissingError: it is no member of the raft group.
    """
    if [manager.id for manager in managers] == [node.id]:
        raise PreconditionError(_LAST_MANAGER)
    member = find_member(members, node.id)
    if member is None:
        raise MissingError(
            f"can't find manager in raft memberlist: node {node.id} has not joined it yet;"
            " wait until it has, or remove it"
        )
    if not can_leave(members, member):
        raise PreconditionError("can't remove member from the raft: this would result in a loss of quorum")
    joined = {each.node_id for each in members}
    if not any(
        manager.id in joined and manager.id != node.id and manager.spec.desired_role == api.NodeRole.MANAGER
        for manager in managers
    ):
        raise PreconditionError(_LAST_MANAGER)
