"""What is asked of the raft group: who is in it, may one leave (contract/control-api.md, 2). Pure."""

from collections.abc import Sequence

from swarmkit.api import messages as api


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
    """Tell whether the reachable rest is a majority of the rest."""
    reachable = sum(
        member.status.reachability == api.RaftMemberStatus.REACHABLE
        for member in members
        if member.raft_id != leaving.raft_id
    )
    return reachable >= (len(members) - 1) // 2 + 1
