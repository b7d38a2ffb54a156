"""A raft group as its leader sees it, without raft: a ``rolemanager.Group`` that tests make fail."""

import asyncio
from collections.abc import Callable

from swarmkit.api import messages as api
from swarmkit.raft.errors import MembershipError, TransferError
from swarmkit.raft.quorum import survives_removal
from swarmkit.store import LeadershipLostError

#: Seconds after which a handover that does not come about is given up.
HANDOVER_SECONDS = 2.0


class FakeGroup:
    """Members by raft id, who of them can be reached, and who leads: always the one that asks.

    Every removal is checked: ``violations`` holds those that cost the group its quorum or removed the leader.
    """

    def __init__(self, *node_ids: str, seconds: float = 0.01) -> None:
        self.nodes: dict[int, str] = {}
        self.unreachable: set[int] = set()
        self.seconds = seconds
        self.failures: list[Exception] = []
        #: Whether nothing is decided.
        self.hang = False
        #: Told when the leadership has moved.
        self.on_moved: Callable[[], None] = lambda: None
        self.removed: list[str] = []
        self.handovers = 0
        self.looks = 0
        self.violations: list[str] = []
        self._watchers: list[Callable[[], None]] = []
        self._next = 1
        for node_id in node_ids:
            self.join(node_id)
        self.leader = 1

    @property
    def raft_id(self) -> int:
        return self.leader

    @property
    def watchers(self) -> int:
        """The number of those who watch the list."""
        return len(self._watchers)

    def member(self, node_id: str) -> int | None:
        """Return the raft id of a node."""
        return next((raft_id for raft_id, id in self.nodes.items() if id == node_id), None)

    def join(self, node_id: str) -> int:
        """Add a member."""
        self.nodes[self._next] = node_id
        self._next += 1
        self._tell()
        return self._next - 1

    def reach(self, node_id: str, reachable: bool) -> None:
        """Let a member be reached, or not; nobody is told, as nobody is by raft."""
        raft_id = self.member(node_id)
        assert raft_id is not None
        (self.unreachable.discard if reachable else self.unreachable.add)(raft_id)

    def members(self) -> list[api.RaftMember]:
        self.looks += 1
        status = api.RaftMemberStatus
        return [
            api.RaftMember(
                raft_id=raft_id,
                node_id=node_id,
                addr=f"{node_id}:4242",
                status=status(
                    leader=raft_id == self.leader,
                    reachability=status.REACHABLE if self._reachable(raft_id) else status.UNREACHABLE,
                ),
            )
            for raft_id, node_id in sorted(self.nodes.items())
        ]

    def watch_members(self, callback: Callable[[], None]) -> Callable[[], None]:
        self._watchers.append(callback)
        return lambda: self._watchers.remove(callback)

    def survives_removal(self, raft_id: int) -> bool:
        reachable = [each for each in self.nodes if self._reachable(each)]
        return survives_removal(self.nodes.keys(), reachable, raft_id)

    async def remove(self, raft_id: int) -> None:
        leader, safe = self.leader, self.survives_removal(raft_id)
        await self._take_time()
        if self.leader != leader:
            raise LeadershipLostError
        if raft_id not in self.nodes:
            raise MembershipError(f"member {raft_id:x} not found")
        if raft_id == self.leader:
            self.violations.append("the leader removed itself")
        if not safe:
            self.violations.append(f"the group lost its quorum with member {raft_id}")
        self.removed.append(self.nodes.pop(raft_id))
        self._tell()

    async def hand_over(self) -> int:
        self.handovers += 1
        if self.hang:
            await asyncio.sleep(HANDOVER_SECONDS)
            raise TransferError("member 2 did not campaign successfully in time")
        await self._take_time()
        heirs = [each for each in self.nodes if each != self.leader and self._reachable(each)]
        if not heirs:
            raise TransferError("no other manager is connected that could take over the leadership")
        self.leader = heirs[0]
        asyncio.get_running_loop().call_soon(self.on_moved)
        return self.leader

    def _reachable(self, raft_id: int) -> bool:
        return raft_id == self.leader or raft_id not in self.unreachable

    async def _take_time(self) -> None:
        await asyncio.sleep(3600 if self.hang else self.seconds)
        if self.failures:
            raise self.failures.pop(0)

    def _tell(self) -> None:
        for callback in list(self._watchers):
            callback()
