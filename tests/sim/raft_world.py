"""A raft group in one thread: real nodes, filter, log and snapshots; simulated network, disks and time.

Everything follows from one seed. After every step of the loop ``raft_checker`` looks at all members. What the
simulation did to them is kept as a schedule, which a failure prints together with the seed.
"""

import asyncio
import contextlib
import inspect
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from swarmkit.raft import RaftError, SnapshotPolicy
from swarmkit.store.proposer import ProposalError
from tests.fakes.loop import VirtualLoop
from tests.fakes.raft import TestNode
from tests.sim.raft_checker import Checker, SafetyError
from tests.sim.raft_machines import SYNC_SECONDS, Machines, Member
from tests.sim.raft_without import Rule

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

    def takers(self) -> list[TestNode]:
        """Return who would take a proposal, some old leader perhaps; a stopped process takes none."""
        frozen = self.network.frozen
        return [node for node in self.nodes if node.may_propose and node.raft_id not in frozen]

    async def client(self, pause: float, patience: float | None = None) -> None:
        """Write for ever, each value once, at whoever takes it.

        Args:
            pause: seconds between two writes at most.
            patience: seconds after which it goes on, though a write is not decided; a late acknowledgement
                must hold as well. None: it has one write under way at most.
        """
        while True:
            takers = self.takers()
            if takers:
                write = self.write(self.rng.choice(takers), self.rng.choice((0, 0, 20, 300)))
                await asyncio.wait([self.background(write)], timeout=patience)
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
            takers = self.takers()
            if takers:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(rng.choice((0.1, 2.0))):
                        await self.read(rng.choice(takers))
            await asyncio.sleep(rng.random() * READ_SECONDS)

    def background(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Do something beside the story, until it ends or ``end_background`` is called."""
        task = asyncio.get_running_loop().create_task(work)
        self._background.append(task)
        return task

    async def end_background(self) -> None:
        """End what runs beside the story; what failed there fails here."""
        ending, self._background = self._background, []
        for task in ending:
            task.cancel()
        for outcome in await asyncio.gather(*ending, return_exceptions=True):
            if isinstance(outcome, BaseException) and not isinstance(outcome, asyncio.CancelledError):
                raise outcome

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
        await self.buried()
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
                member.gate.set()  # one that stands still would never finish its cycle
                await member.node.stop()
        await self.buried()


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
        except BaseException:
            loop.look = None
            await _close_after_failure(world)
            raise
        loop.look = None
        await world.close()

    try:
        _run(loop, run())
    except Exception as error:
        lines = "\n".join(world.schedule[-SCHEDULE_LINES:])
        kind = SafetyError if isinstance(error, SafetyError) else RuntimeError
        raise kind(f"{error!r}\nseed {seed}; the schedule:\n{lines}") from error
    return world


async def _close_after_failure(world: World) -> None:
    try:
        world.schedule += world.report()
        await world.close()
    except Exception as error:  # what the story failed with tells more than what that led to
        world.note(f"then closing failed: {error!r}")


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
