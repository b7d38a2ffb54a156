"""Who belongs to the group: a small state machine fed by log entries (contract/pysyncobj-hazards.md, 11).

Pure and deterministic: an invalid change raises and changes nothing, on all members alike
(contract/raft-store-manager.md, D18, D19, D24).
"""

import random as random_module
from collections.abc import Iterable

from swarmkit.api import messages as api
from swarmkit.raft.errors import MembershipError
from swarmkit.raft.log_pb2 import MembershipChange

#: Raft ids are random in 1 .. 2^63 and never used twice.
MAX_RAFT_ID = 1 << 63


class Membership:
    """Present members by raft id, and the raft ids that were removed and must never return."""

    def __init__(self) -> None:
        self._members: dict[int, api.RaftMember] = {}
        self._removed: frozenset[int] = frozenset()
        #: The raft ids of the present members.
        self.ids: frozenset[int] = frozenset()

    @property
    def members(self) -> list[api.RaftMember]:
        """The present members without status, ascending by raft id; not to be changed."""
        return [self._members[raft_id] for raft_id in sorted(self._members)]

    @property
    def removed(self) -> frozenset[int]:
        """The raft ids that were removed."""
        return self._removed

    def get(self, raft_id: int) -> api.RaftMember | None:
        """Return a present member."""
        return self._members.get(raft_id)

    def check(self, change: MembershipChange) -> None:
        """Refuse a change that ``apply`` would refuse.

        Raises:
            MembershipError: says why.
        """
        member = change.member
        known = self._members.get(member.raft_id)
        if not 0 < member.raft_id <= MAX_RAFT_ID:
            raise MembershipError(f"raft id {member.raft_id:x} is out of range")
        if member.raft_id in self._removed:
            raise MembershipError(
                f"member {member.raft_id:x} was removed and cannot return under its old raft id"
            )
        if change.kind == MembershipChange.ADD:
            if known is not None:
                raise MembershipError(f"member {member.raft_id:x} is present already")
            self._check_unused(member)
        elif change.kind == MembershipChange.REMOVE:
            if known is None:
                raise MembershipError(f"member {member.raft_id:x} not found")
            if len(self._members) == 1:
                raise MembershipError(f"member {member.raft_id:x} is the last one and cannot be removed")
        elif change.kind == MembershipChange.UPDATE:
            if known is None:
                raise MembershipError(f"member {member.raft_id:x} not found")
            if known.node_id != member.node_id:
                raise MembershipError(f"member {member.raft_id:x} belongs to node {known.node_id}")
            self._check_unused(member)
        elif change.kind != MembershipChange.RESET:
            raise MembershipError(f"unknown kind of membership change ({change.kind})")

    def _check_unused(self, member: api.RaftMember) -> None:
        for other in self._members.values():
            if other.raft_id == member.raft_id:
                continue
            if member.node_id and other.node_id == member.node_id:
                raise MembershipError(f"node {member.node_id} is a member already, as {other.raft_id:x}")
            if member.addr and other.addr == member.addr:
                raise MembershipError(f"address {member.addr} belongs to member {other.raft_id:x}")

    def apply(self, change: MembershipChange) -> None:
        """Perform a committed change.

        Raises:
            MembershipError: it is not valid; nothing was changed.
        """
        self.check(change)
        member = api.RaftMember(
            raft_id=change.member.raft_id, node_id=change.member.node_id, addr=change.member.addr
        )
        if change.kind == MembershipChange.REMOVE:
            del self._members[member.raft_id]
            self._removed |= {member.raft_id}
        else:
            if change.kind == MembershipChange.RESET:
                self._removed |= self.ids - {member.raft_id}
                self._members.clear()
            self._members[member.raft_id] = member
        self.ids = frozenset(self._members)

    def snapshot(self) -> api.ClusterSnapshot:
        """Return the state as a snapshot carries it."""
        return api.ClusterSnapshot(members=self.members, removed=sorted(self._removed))

    def restore(self, snapshot: api.ClusterSnapshot) -> None:
        """Take over a snapshot's state. Removed ids are never forgotten."""
        self._members = {member.raft_id: member for member in snapshot.members}
        self.ids = frozenset(self._members)
        self._removed |= frozenset(snapshot.removed)


def pick_raft_id(random: random_module.Random, taken: Iterable[int]) -> int:
    """Pick a raft id that differs from all in ``taken``."""
    used = set(taken)
    while True:
        raft_id = random.randint(1, MAX_RAFT_ID)
        if raft_id not in used:
            return raft_id
