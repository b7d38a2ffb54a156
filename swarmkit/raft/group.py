"""What a leader does to its group: one change at a time (contract/raft-store-manager.md, 11, 12 and 21)."""

import asyncio
import random as random_module

from swarmkit.aio import TaskOwner
from swarmkit.api import messages as api
from swarmkit.log import get_logger
from swarmkit.net.address import dialable
from swarmkit.raft.driver import Driver
from swarmkit.raft.entries import membership_command
from swarmkit.raft.errors import MembershipError, QuorumRiskError
from swarmkit.raft.log_pb2 import MembershipChange
from swarmkit.raft.membership import pick_raft_id
from swarmkit.raft.quorum import survives_removal
from swarmkit.store.proposer import LeadershipLostError, ProposalError

log = get_logger(__name__)


class GroupChanges:
    """Proposes changes of the group. At most one is in flight: quorums of two need not overlap."""

    def __init__(self, driver: Driver, owner: TaskOwner, random: random_module.Random, addr: str) -> None:
        self._driver = driver
        self._owner = owner
        self._random = random
        self._addr = addr
        self._in_flight = False

    async def commit(self, change: MembershipChange) -> int:
        """Commit a change; return the index of its entry once it is applied.

        Raises:
            MembershipError: not valid, or another change is in flight.
            LeadershipLostError: leadership is not announced here, or was lost meanwhile.
        """
        driver = self._driver
        if not driver.announced:
            raise LeadershipLostError
        if self._in_flight:
            raise MembershipError("another change of the group is under way; try again later")
        driver.replica.membership.check(change)
        future = driver.proposals.add(membership_command(change))
        driver.wake()
        # Whatever becomes of this caller, the entry is on its way: the next change waits for it.
        self._in_flight = True
        future.add_done_callback(self._decided)
        return await asyncio.shield(future)

    def _decided(self, future: "asyncio.Future[int]") -> None:
        self._in_flight = False
        if not future.cancelled():
            future.exception()  # looked at, should the caller have gone

    async def add(self, node_id: str, addr: str) -> int:
        """Make a node a member, or give a member its new address; return its raft id once that is applied.

        The change is decided by the members so far. The new one counts from then on: behind the second member
        nothing is decided until it takes part. Who calls this has checked that it answers at ``addr``.

        Raises:
            MembershipError, LeadershipLostError: as ``commit``.
        """
        membership = self._driver.replica.membership
        if not node_id or not addr:
            raise MembershipError("a member needs a node id and an address")
        for known in membership.members:
            if known.node_id == node_id:
                if known.addr != addr:
                    moved = api.RaftMember(raft_id=known.raft_id, node_id=node_id, addr=addr)
                    await self.commit(MembershipChange(kind=MembershipChange.UPDATE, member=moved))
                return known.raft_id
        raft_id = pick_raft_id(self._random, membership.ids | membership.removed)
        member = api.RaftMember(raft_id=raft_id, node_id=node_id, addr=addr)
        await self.commit(MembershipChange(kind=MembershipChange.ADD, member=member))
        return raft_id

    async def move(self, addr: str) -> None:
        """Commit this leader's own address, unless the group knows it already.

        Raises:
            MembershipError, LeadershipLostError: as ``commit``.
        """
        known = self._driver.replica.membership.get(self._driver.raft_id)
        if known is not None and known.addr != addr:
            self._addr = addr
            member = api.RaftMember(raft_id=known.raft_id, node_id=known.node_id, addr=addr)
            await self.commit(MembershipChange(kind=MembershipChange.UPDATE, member=member))

    def survives_removal(self, raft_id: int) -> bool:
        """Tell whether the members that can be reached now could go on without this one."""
        driver = self._driver
        members = driver.replica.membership.ids
        reachable = {peer for peer in members if driver.mailbox.is_connected(peer)} | {driver.raft_id}
        return survives_removal(members, reachable, raft_id)

    async def remove(self, raft_id: int) -> None:
        """Remove a member for ever; return once that is applied.

        Raises:
            QuorumRiskError: those left might not be able to decide; nothing was changed.
            MembershipError: it is this leader itself, or as ``commit``.
            LeadershipLostError: as ``commit``.
        """
        driver = self._driver
        member = api.RaftMember(raft_id=raft_id)
        change = MembershipChange(kind=MembershipChange.REMOVE, member=member)
        driver.replica.membership.check(change)
        if raft_id == driver.raft_id:
            raise MembershipError(
                "the leader does not remove itself: transfer the leadership, and let the successor do it"
            )
        if not self.survives_removal(raft_id):
            raise QuorumRiskError(
                f"removing member {raft_id:x} may result in loss of quorum: too few others are reachable"
            )
        await self.commit(change)

    async def hand_over(self, heir: int | None = None) -> int:
        """Hand the leadership to ``heir``, or to the best peer; return the raft id of the next leader.

        Proposals wait meanwhile, and fail only if leadership really moves.

        Raises:
            LeadershipLostError: this node does not lead.
            TransferError: nobody took over in time; this node may lead on.
        """
        return await self._driver.handover.run(heir)

    def set_address(self, addr: str) -> None:
        """Make ``addr`` this member's address: at once if leading, else when it next leads."""
        self._addr = addr
        self.advertise()

    def advertise(self) -> None:
        """Commit this member's address if this node leads and the group knows another one."""
        driver = self._driver
        known = driver.replica.membership.get(driver.raft_id)
        if not driver.announced or known is None or not self._addr:
            return
        # One with a wildcard host says less than the one by which this member was reached before.
        addr = dialable(self._addr, known.addr)
        if known.addr != addr:
            member = api.RaftMember(raft_id=driver.raft_id, node_id=known.node_id, addr=addr)
            self._owner.spawn(self._commit_address(member), "address")

    async def _commit_address(self, member: api.RaftMember) -> None:
        try:
            await self.commit(MembershipChange(kind=MembershipChange.UPDATE, member=member))
        except (MembershipError, ProposalError) as error:
            log.warning("cannot announce this manager's address", addr=member.addr, error=error)
