"""What is asked of the raft group: who is in it, may one leave (contract/control-api.md, 2). Pure."""

from collections.abc import Sequence

from swarmkit.api import messages as api
from swarmkit.raft.quorum import survives_removal


def find_member(members: Sequence[api.RaftMember], node_id: str) -> api.RaftMember | None:
    """Return the node's member of the raft group, or None."""
    return next((member for member in members if member.node_id == node_id), None)


def manager_status(member: api.RaftMember) -> api.ManagerStatus:
    """Return what is shown of a node that is a member."""
    return api.ManagerStatus(
        raft_id=member.raft_id,
        addr=member.addr,
        leader=member.status.leader,
        reachability=member.status.reachability,
    )


def can_leave(members: Sequence[api.RaftMember], leaving: api.RaftMember) -> bool:
    """Tell whether the members that can be reached could go on without ``leaving``."""
    reachable = [
        member.raft_id for member in members if member.status.reachability == api.RaftMemberStatus.REACHABLE
    ]
    return survives_removal([member.raft_id for member in members], reachable, leaving.raft_id)
