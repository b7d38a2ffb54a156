"""A raft group in one thread: real nodes, filter, log and snapshots; simulated network, disks and time.

Everything follows from one seed. After every step of the loop ``raft_checker`` looks at all members. What the
simulation did to them is kept as a schedule, which a failure prints together with the seed.
"""

import asyncio
import contextlib
import inspect
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swarmkit.raft import JoinReply, RaftConfig, RaftError, SnapshotPolicy
from swarmkit.raft.driver import Lanes
from swarmkit.store.proposer import ProposalError
from tests.fakes.disk import FakeDisk
from tests.fakes.keys import FakeKeys
from tests.fakes.lanes import InlineLane
from tests.fakes.loop import VirtualClock, VirtualLoop
from tests.fakes.machine import FakeMachine
from tests.fakes.network import FakeLinks, FakeNetwork
from tests.fakes.raft import TestNode
from tests.sim.raft_checker import Checker, SafetyError
from tests.sim.raft_without import Rule, leave_out

STATE = Path("/state")

#: What a healthy disk takes.
SYNC_SECONDS = 0.0005

#: A reader's pause between two reads at most.
READ_SECONDS = 0.05

#: Lines of the schedule that a failure prints.
SCHEDULE_LINES = 200


class StepLoop(VirtualLoop):
    """Virtual time, and a look after every step. What the look raises ends the run."""

    def __init__(self) -> None:
        super().__init__()
        self.look: Callable[[], None] | None = None

    def _run_once(self) -> None:
        super()._run_once()  # type: ignore[misc]  # every step of every asyncio loop is one call of it
        if self.look is not None:
            self.look()


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
        self._dying: set[asyncio.Task[None]] = set()
        self._background: list[asyncio.Task[None]] = []

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
        task = asyncio.get_running_loop().create_task(stopping)
        self._dying.add(task)
        task.add_done_callback(self._dying.discard)

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
        self._end(node.stop(erase=True))

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


class World(Machines):
    """A group, its surroundings and its clients; see ``Machines``."""

    # -- Clients ------------------------------------------------------------------------------------------

    async def until_another_leads(self, old: TestNode, limit: float = 60) -> TestNode:
        """Wait until some other member has announced its leadership."""
        others = [node for node in self.nodes if node is not old]
        await self.until(lambda: any(node.may_propose for node in others), limit)
        return next(node for node in others if node.may_propose)

    async def write(self, node: TestNode, size: int = 0, exactly: int = 0) -> bool:
        """Propose a value of its own, so long at least, or exactly; tell whether it was acknowledged."""
        self.written += 1
        value = (b"%d" % self.written + b" " * size).ljust(exactly)
        try:
            index = await node.propose(value)
        except (ProposalError, RaftError):
            return False
        self.checker.acknowledge(value, index)
        return True

    async def write_many(self, node: TestNode, count: int, size: int = 0) -> None:
        """Have ``count`` writes acknowledged, many at a time."""
        for start in range(0, count, 200):
            batch = [self.write(node, size) for _ in range(min(200, count - start))]
            assert all(await asyncio.gather(*batch))

    async def client(self, pause: float) -> None:
        """Write for ever, each value once, at whoever takes it."""
        while True:
            takers = [node for node in self.nodes if node.may_propose]
            if takers:
                await self.write(self.rng.choice(takers), self.rng.choice((0, 0, 20, 300)))
            await asyncio.sleep(self.rng.random() * pause)

    async def read(self, node: TestNode) -> bool:
        """Read behind a confirmation; tell whether there was one. The checker demands the newest state."""
        floor = self.checker.floor
        try:
            await node.confirm_leadership()
        except ProposalError:
            return False
        self.checker.read(node, floor)
        return True

    async def reader(self, number: int) -> None:
        """Read for ever at whoever believes to lead, some old leader perhaps."""
        rng = random.Random(f"{self.seed} reader {number}")
        while True:
            believers = [node for node in self.nodes if node.may_propose]
            awake = [node for node in believers if node.raft_id not in self.network.frozen]
            if awake:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(rng.choice((0.1, 2.0))):
                        await self.read(rng.choice(awake))
            await asyncio.sleep(rng.random() * READ_SECONDS)

    def background(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside the story, until it ends or ``end_background`` is called."""
        self._background.append(asyncio.get_running_loop().create_task(work))

    async def end_background(self) -> None:
        """End what runs beside the story; what failed there fails here."""
        for task in self._background:
            task.cancel()
        for outcome in await asyncio.gather(*self._background, return_exceptions=True):
            if isinstance(outcome, BaseException) and not isinstance(outcome, asyncio.CancelledError):
                raise outcome
        self._background.clear()

    def part_with(self, *others: Member) -> None:
        """Look at these as at the group that was; everybody else begins a new history."""
        for member in others:
            member.checker = self.checker
        self.checker = Checker()

    # -- The end ------------------------------------------------------------------------------------------

    async def heal(self) -> None:
        """Repair everything and start everybody; return when all have come to rest with equal states."""
        self.note("everything is healed")
        self.network.quality = type(self.network.quality)()
        self.network.links.clear()
        self.network.notice_seconds = 0.0
        self.network.cut_links(())
        self.network.isolate()
        while self._dying:
            await asyncio.wait(self._dying)
        for member in list(self.members.values()):
            member.lane.latency = SYNC_SECONDS
            self.thaw(member)
            if member.node is None:
                await self.start(member)
        await self.settled()

    async def settled(self, limit: float = 60) -> None:
        """Wait until a write succeeds and all members have applied it."""
        async with asyncio.timeout(limit):
            while True:
                leader = self.leader()
                if leader is not None and await self.write(leader):
                    break
                await asyncio.sleep(0.05)
            while True:
                await asyncio.sleep(0.05)
                if len({node.status().applied_index for node in self.nodes}) == 1:
                    return

    def report(self) -> list[str]:
        """Return one line about each running member."""
        lines = []
        for node in self.nodes:
            with contextlib.suppress(ProposalError):
                lines.append(f"{self.member_of(node).name} {node.status()}")
        return lines

    async def settled_without(self, *absent: TestNode) -> None:
        """Wait until the others have a leader that can write."""
        others = [node for node in self.nodes if node not in absent]
        async with asyncio.timeout(60):
            while True:
                takers = [node for node in others if node.may_propose]
                if takers and await self.write(takers[0]):
                    return
                await asyncio.sleep(0.05)

    async def close(self) -> None:
        """Stop everybody."""
        await self.end_background()
        for member in self.members.values():
            if member.node is not None:
                self.network.forget(member.node)
                await member.node.stop()
        while self._dying:
            await asyncio.wait(self._dying)


def in_world(
    seed: int = 1,
    *,
    members: int = 3,
    without: Rule | None = None,
    policy: SnapshotPolicy | None = None,
) -> Callable[[Callable[..., Awaitable[None]]], Callable[..., None]]:
    """Make a test of a story in a world with a group; the story takes the world and the test's parameters."""

    def make(story: Callable[..., Awaitable[None]]) -> Callable[..., None]:
        def test(**arguments: Any) -> None:
            async def told(world: World) -> None:
                await world.found(members)
                await story(world, **arguments)

            simulate(seed, told, without=without, policy=policy)

        test.__name__, test.__module__, test.__doc__ = story.__name__, story.__module__, story.__doc__
        parameters = list(inspect.signature(story).parameters.values())[1:]
        test.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return test

    return make


def simulate(
    seed: int,
    story: Callable[[World], Awaitable[None]],
    *,
    without: Rule | None = None,
    policy: SnapshotPolicy | None = None,
) -> World:
    """Run a story in a world of its own and check it to the end.

    Raises:
        SafetyError: with the seed and the schedule.
    """
    loop = StepLoop()
    world = World(seed, without, policy)
    loop.look = world.look

    async def run() -> None:
        try:
            await story(world)
        except Exception:
            world.schedule += world.report()
            raise
        finally:
            loop.look = None
            await world.close()

    try:
        _run(loop, run())
    except Exception as error:
        lines = "\n".join(world.schedule[-SCHEDULE_LINES:])
        kind = SafetyError if isinstance(error, SafetyError) else RuntimeError
        raise kind(f"{error!r}\nseed {seed}; the schedule:\n{lines}") from error
    return world


def _run(loop: StepLoop, main: Coroutine[Any, Any, None]) -> None:
    # What ``look`` raises leaves ``run_until_complete`` in the middle: the rest must be cancelled by hand.
    try:
        loop.run_until_complete(main)
    finally:
        loop.look = None
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
