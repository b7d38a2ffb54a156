"""Who leads, as the raft group tells it; implements ``swarmkit.net.leaders.Leaders``."""

import asyncio
from typing import Protocol

from swarmkit.api import messages as api
from swarmkit.clock import Clock
from swarmkit.manager.leader import Leadership
from swarmkit.net.leaders import NotLeadingError
from swarmkit.net.remotes import Remote
from swarmkit.store import ProposalError


class Group(Protocol):
    """What is asked of the raft node."""

    @property
    def is_leader(self) -> bool:
        """Whether raft itself says that this node leads, announced or not."""
        ...

    @property
    def may_propose(self) -> bool:
        """Whether this node has announced its leadership."""
        ...

    @property
    def leader_id(self) -> int | None:
        """The raft id of the last known leader."""
        ...

    @property
    def raft_id(self) -> int:
        """This node's."""
        ...

    def members(self) -> list[api.RaftMember]:
        """The members with their reachability."""
        ...

    async def confirm_leadership(self) -> None:
        """Return once it is certain that this node led after the call began."""
        ...


class RaftLeaders:
    """Answers the API's questions; ``changed`` is to be called whenever an answer may be another one.

    Args:
        group: the raft node.
        leadership: says whether the leader's parts run.
        clock: time.
    """

    def __init__(self, group: Group, leadership: Leadership, clock: Clock) -> None:
        self._group = group
        self._leadership = leadership
        self._clock = clock
        self._leaderless_since: float | None = None
        self._change = asyncio.Event()

    def changed(self) -> None:
        """Look at the group again and wake who waits."""
        group = self._group
        if group.is_leader or group.leader_id is not None:
            self._leaderless_since = None
        elif self._leaderless_since is None:
            self._leaderless_since = self._clock.monotonic()
        # Who waits has the old one; who comes next waits for the next change.
        self._change.set()
        self._change = asyncio.Event()

    @property
    def leading(self) -> bool:
        """Whether this manager leads and its leader parts run."""
        return self._group.may_propose and self._leadership.active.is_set()

    @property
    def taking_over(self) -> bool:
        """Whether this manager was elected and its leader parts are starting."""
        return self._group.is_leader and not self.leading

    @property
    def leader(self) -> Remote | None:
        """The manager that leads, if it is another one and connected."""
        group = self._group
        leader = group.leader_id
        if leader is None or leader == group.raft_id:
            return None
        for member in group.members():
            if member.raft_id == leader:
                connected = member.status.reachability == api.RaftMemberStatus.REACHABLE
                return Remote(member.node_id, member.addr) if connected else None
        return None

    @property
    def leaderless_since(self) -> float | None:
        """Since when nobody is known to lead, on the clock's monotonic time."""
        return self._leaderless_since

    async def wait_change(self) -> None:
        """Return after the next change."""
        await self._change.wait()

    async def confirm(self) -> None:
        """Return once it is certain that this manager leads.

        Raises:
            NotLeadingError: it does not.
        """
        try:
            await self._group.confirm_leadership()
        except ProposalError as error:
            raise NotLeadingError(str(error)) from error
