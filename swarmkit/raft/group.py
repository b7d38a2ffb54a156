"""Changing the group from its leader: one change at a time, and this member's own address."""

import asyncio

from swarmkit.aio import TaskOwner
from swarmkit.api import messages as api
from swarmkit.log import get_logger
from swarmkit.raft.driver import Driver
from swarmkit.raft.entries import membership_command
from swarmkit.raft.errors import MembershipError
from swarmkit.raft.log_pb2 import MembershipChange
from swarmkit.store.proposer import LeadershipLostError, ProposalError

log = get_logger(__name__)


class GroupChanges:
    """Proposes changes of the group. At most one is in flight: quorums of two need not overlap."""

    def __init__(self, driver: Driver, owner: TaskOwner, addr: str) -> None:
        self._driver = driver
        self._owner = owner
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

    def set_address(self, addr: str) -> None:
        """Make ``addr`` this member's address: at once if leading, else when it next leads."""
        self._addr = addr
        self.advertise()

    def advertise(self) -> None:
        """Commit this member's address if this node leads and the group knows another one."""
        driver = self._driver
        known = driver.replica.membership.get(driver.raft_id)
        if driver.announced and known is not None and self._addr and known.addr != self._addr:
            member = api.RaftMember(raft_id=driver.raft_id, node_id=known.node_id, addr=self._addr)
            self._owner.spawn(self._commit_address(member), "address")

    async def _commit_address(self, member: api.RaftMember) -> None:
        try:
            await self.commit(MembershipChange(kind=MembershipChange.UPDATE, member=member))
        except (MembershipError, ProposalError) as error:
            log.warning("cannot announce this manager's address", addr=member.addr, error=error)
