"""The members of a simulated raft group: real nodes on simulated disks, network and time.

``raft_world`` adds clients and stories.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swarmkit.ca.errors import StateDirError
from swarmkit.raft import JoinReply, RaftConfig, RaftError, SnapshotPolicy
from swarmkit.raft.driver import Lanes
from swarmkit.store.proposer import ProposalError
from tests.fakes.disk import FakeDisk
from tests.fakes.keys import FakeKeys
from tests.fakes.lanes import InlineLane
from tests.fakes.loop import VirtualClock
from tests.fakes.machine import FakeMachine
from tests.fakes.network import FakeLinks, FakeNetwork
from tests.fakes.raft import TestNode
from tests.sim.raft_checker import Checker
from tests.sim.raft_without import Rule, leave_out

STATE = Path("/state")

#: What a healthy disk takes.
SYNC_SECONDS = 0.0005


@dataclass
class Member:
    """One machine: its disk outlives its processes."""

    number: int
    disk: FakeDisk
    lane: InlineLane
    keys: FakeKeys = field(default_factory=lambda: FakeKeys(bytes(range(32))))
    joined: JoinReply | None = None
    node: TestNode | None = None
    links: FakeLinks | None = None
    #: Who looks at it, if not the world's: a group that is forced anew has a history of its own.
    checker: Checker | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def name(self) -> str:
        return f"node-{self.number}"


class Machines:
    """The members of a group, their disks and their network.

    Args:
        seed: everything that happens follows from it.
        without: a rule that members do not keep.
        policy: when members take snapshots.
    """

    def __init__(self, seed: int, without: Rule | None = None, policy: SnapshotPolicy | None = None) -> None:
        self.seed = seed
        self.rng = random.Random(f"{seed} world")
        self.network = FakeNetwork(rng=random.Random(f"{seed} network"))
        self.network.queue_limit = 64 << 10
        self.checker = Checker()
        self.checker.watches_leases = without is None
        self.network.observe = self.checker.sent
        self.members: dict[int, Member] = {}
        self.schedule: list[str] = []
        self.policy = policy or SnapshotPolicy()
        self.config = RaftConfig(segment_bytes=4096)
        self.sync_seconds = SYNC_SECONDS
        self.written = 0
        #: Entries that members cut off their logs.
        self.truncated = 0
        self._without = without
        self._disk_rng = random.Random(f"{seed} disks")
        #: Numbers of machines that are joining, and names of those that may be members and never start.
        self.joining: set[int] = set()
        self.ghosts: set[str] = set()
        self._dying: list[asyncio.Task[None]] = []
        self._background: list[asyncio.Task[Any]] = []

    # -- Members ------------------------------------------------------------------------------------------

    @property
    def nodes(self) -> list[TestNode]:
        """The running nodes in order."""
        return [member.node for _, member in sorted(self.members.items()) if member.node is not None]

    def note(self, what: str) -> None:
        """Add a line to the schedule."""
        self.schedule.append(f"{asyncio.get_running_loop().time():10.4f}  {what}")

    def look(self) -> None:
        """Check all running members."""
        for member in self.members.values():
            if member.node is not None:
                (member.checker or self.checker).look(member.node)

    async def found(self, count: int) -> None:
        """Found a group and let it grow to ``count``."""
        await self.start(self.machine(1))
        for _ in range(count - 1):
            await self.grow()
        await self.until(lambda: all(len(node.members()) == count for node in self.nodes))

    def machine(self, number: int) -> Member:
        member = self.members[number] = Member(number, FakeDisk(), InlineLane(self.sync_seconds))
        return member

    async def start(self, member: Member, force_new_cluster: bool = False) -> TestNode:
        """Start a member's process on what its disk holds."""
        member.links = FakeLinks(self.network)
        member.lane = InlineLane(member.lane.latency)
        member.gate = asyncio.Event()
        member.gate.set()
        node = TestNode(
            FakeMachine(),
            state_dir=STATE,
            node_id=member.name,
            addr=f"10.0.0.{member.number}:4242",
            keys=member.keys,
            clock=VirtualClock(),
            config=self.config,
            policy=lambda: self.policy,
            random=random.Random(f"{self.seed} {member.number} {self.rng.random()}"),
            files=member.disk,
            lanes=Lanes(member.lane, InlineLane(0.002)),
            links=member.links,
            joined=member.joined,
            force_new_cluster=force_new_cluster,
            on_removed=lambda: self._removed(member),
        )
        await node.start()
        assert node._driver is not None
        driver = node._driver
        if self._without is not None:
            leave_out(self._without, driver, self.config)
        deliver = driver.receiver.deliver

        async def deliver_unless_paused() -> None:
            await member.gate.wait()
            await deliver()

        driver.receiver.deliver = deliver_unless_paused  # type: ignore[method-assign]
        delete = driver.log.deleteEntriesFrom

        def delete_and_count(offset: int) -> None:
            self.truncated += len(driver.log) - offset
            delete(offset)

        driver.log.deleteEntriesFrom = delete_and_count  # type: ignore[method-assign]
        member.links.raft_id = node.raft_id
        member.node = node
        self.network.register(node)
        self.note(f"{member.name} ({node.raft_id:x}) starts")
        return node

    async def grow(self) -> TestNode:
        """Add a machine to the group through whoever leads, and start it."""
        number = max(self.members) + 1
        async with asyncio.timeout(60):
            while True:
                leader = self.leader()
                try:
                    if leader is not None:
                        return await self.join(leader, number)
                except (RaftError, ProposalError) as error:
                    self.note(f"adding node-{number} failed: {error}")
                await asyncio.sleep(0.1)

    async def join(self, leader: TestNode, number: int) -> TestNode:
        """Have ``leader`` add a new machine, and start it."""
        raft_id = await leader.group.add(f"node-{number}", f"10.0.0.{number}:4242")
        member = self.machine(number)
        member.joined = JoinReply(raft_id, leader.members())
        return await self.start(member)

    def freeze(self, member: Member) -> None:
        """Stop a member's process as SIGSTOP does: its cycle, its messages and its clients stand still."""
        if member.node is not None:
            member.gate.clear()
            self.network.freeze(member.node.raft_id)

    def thaw(self, member: Member) -> None:
        """Let a frozen member go on."""
        member.gate.set()
        if member.node is not None:
            self.network.thaw(member.node.raft_id)

    def kill(self, member: Member, power_cut: bool = True) -> None:
        """End a member's process at once; with a power cut its disk loses or tears what was not synced."""
        node = member.node
        if node is None:
            return
        self.note(f"{member.name} {'loses power' if power_cut else 'is killed'}")
        disk = member.disk
        member.disk = disk.after_power_cut(self._disk_rng) if power_cut else disk.after_kill()
        member.keys = member.keys.after_kill()
        disk.cut_at = 0  # whatever the dying process still does reaches no disk
        member.node = None
        (member.checker or self.checker).forget(node)
        self.network.forget(node)
        assert node._task is not None
        node._task.cancel()
        self._end(node.stop())

    def _end(self, stopping: Coroutine[Any, Any, None]) -> None:
        self._dying.append(asyncio.get_running_loop().create_task(stopping))

    async def buried(self) -> None:
        """Wait until all that were killed or removed have stopped; what failed there fails here."""
        while self._dying:
            dying, self._dying = self._dying, []
            await asyncio.wait(dying)
            for task in dying:
                task.result()

    def _removed(self, member: Member) -> None:
        asyncio.get_running_loop().call_soon(self.retire, member)

    def retire(self, member: Member) -> None:
        node = member.node
        if node is None or not node.removed:
            return
        self.note(f"{member.name} is removed, and erases its state")
        member.node = None
        del self.members[member.number]
        self.network.forget(node)
        (member.checker or self.checker).forget(node)
        member.gate.set()  # nobody lets it go on once it is no member
        self._end(self._erase(member, node))

    async def _erase(self, member: Member, node: TestNode) -> None:
        try:
            await node.stop(erase=True)
        except StateDirError as error:
            # Nor can its data keys be forgotten then, which it must say.
            if not member.keys.broken:
                raise
            self.note(f"{member.name} keeps its data key: {error}")

    async def until(self, condition: Callable[[], bool], limit: float = 60) -> float:
        """Wait until something holds; return how long it took."""
        start = asyncio.get_running_loop().time()
        async with asyncio.timeout(limit):
            while not condition():  # noqa: ASYNC110  # conditions on many nodes: no event tells of them
                await asyncio.sleep(0.005)
        return asyncio.get_running_loop().time() - start

    def leader(self) -> TestNode | None:
        """Return who takes proposals; of several the one of the highest term."""
        leaders = [node for node in self.nodes if node.may_propose]
        return max(leaders, key=lambda node: node.status().term, default=None)

    def followers(self) -> list[TestNode]:
        """Return the running members that do not lead, in order."""
        leader = self.leader()
        return [node for node in self.nodes if node is not leader]

    def member_of(self, node: TestNode) -> Member:
        """Return the machine a node runs on."""
        return next(member for member in self.members.values() if member.node is node)

    async def elected(self, limit: float = 60) -> TestNode:
        """Wait for a leader whom all reachable members follow."""
        async with asyncio.timeout(limit):
            while True:
                leader = self.leader()
                if leader is not None:
                    return leader
                await asyncio.sleep(0.01)
