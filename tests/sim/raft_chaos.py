"""Random trouble for a simulated group: the story that soak runs repeat with ever new seeds."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from unittest import mock

from swarmkit.raft import RaftError, SnapshotPolicy, dialect
from swarmkit.store.proposer import ProposalError
from tests.fakes.network import Quality
from tests.sim.raft_machines import Member
from tests.sim.raft_without import Rule
from tests.sim.raft_world import World, simulate

#: How many times as long as it should, trouble lasts at most, until enough has happened.
PROLONGATION = 5

#: How long a client waits for a write: one that a stopped leader took would keep it from writing to the next.
PATIENCE_SECONDS = 0.5

#: How long a stopped leader waits for a successor, and then for what that one writes, at most.
OVERTAKING_SECONDS = 4.0

#: Room for two or three entries of these stories.
SMALL_PORTION = 40


@dataclass(frozen=True)
class Chaos:
    """What may happen, and for how long.

    Attributes:
        members: at first.
        seconds: of trouble, in virtual time.
        clients: writers.
        readers: who read through confirmations of leadership.
        duplicates: whether messages arrive twice.
        reordering: whether messages overtake each other.
        losses: whether single messages get lost.
        crashes: whether machines lose power and processes are killed.
        stalls: whether the leader's process is stopped for a while, or until another member has taken over.
        changes: whether members come, go and move, and leadership is handed over.
        rotations: whether data keys are rotated.
        snapshots: entries between two.
        delay: seconds on the way in good weather.
        sync: seconds that a healthy disk takes.
        calm: seconds between two troubles at most.
        pause: seconds between two writes of a client at most.
        portion: bytes of entries in one message: few make several of what a member lacks.
    """

    members: int = 3
    seconds: float = 12.0
    clients: int = 4
    readers: int = 2
    duplicates: bool = False
    reordering: bool = False
    losses: bool = False
    crashes: bool = True
    stalls: bool = True
    changes: bool = False
    rotations: bool = False
    snapshots: int = 60
    delay: float = 0.001
    sync: float = 0.0005
    calm: float = 0.8
    pause: float = 0.05
    portion: int = dialect.APPEND_BYTES


class Nemesis:
    """Does one random thing after the other to a world."""

    def __init__(self, world: World, chaos: Chaos) -> None:
        self.world = world
        self.chaos = chaos
        self.rng = random.Random(f"{world.seed} nemesis")
        self.acts: list[Callable[[], Awaitable[None]]] = [
            self._partition,
            self._isolate_leader,
            self._cut_one_way,
            self._slow_link,
            self._weather,
            self._slow_disk,
            self._pause,
            self._mend,
        ]
        if chaos.crashes:
            self.acts += [self._crash, self._crash, self._crash_leader, self._crash_all]
        if chaos.stalls:
            self.acts += [self._freeze, self._overtake]
        if chaos.rotations:
            self.acts += [self._rotate, self._rotate, self._break_keys]
        if chaos.changes:
            self.acts += [self._hand_over, self._add, self._remove, self._move]

    async def run(self, enough: Callable[[World], bool]) -> None:
        """Make trouble for as long as the chaos lasts, and then until it was enough."""
        loop = asyncio.get_running_loop()
        start, seconds = loop.time(), self.chaos.seconds
        end, limit = start + seconds, start + PROLONGATION * seconds
        while loop.time() < end or (loop.time() < limit and not enough(self.world)):
            if loop.time() >= end:
                await self._relieve()
            await asyncio.sleep(self.rng.random() * self.chaos.calm)
            await self.rng.choice(self.acts)()

    async def _relieve(self) -> None:
        # Troubles add up: a group that they leave without a leader may find none for minutes.
        await self._mend()
        for member in self.world.members.values():
            member.lane.latency = self.chaos.sync
            member.keys.broken = False

    def _some(self) -> Member | None:
        running = [member for member in self.world.members.values() if member.node is not None]
        return self.rng.choice(running) if running else None

    def _later(self, delay: float, what: Callable[[], Awaitable[None]]) -> None:
        async def wait() -> None:
            await asyncio.sleep(delay)
            await what()

        self.world.background(wait())

    # -- The network --------------------------------------------------------------------------------------

    def _ids(self) -> list[int]:
        return sorted(node.raft_id for node in self.world.nodes)

    async def _partition(self) -> None:
        ids = self._ids()
        inside = set(self.rng.sample(ids, self.rng.randint(0, len(ids) // 2)))
        self._notice()
        self.world.note(f"cut off: {[f'{raft_id:x}'[:4] for raft_id in sorted(inside)]}")
        self.world.network.cut_links((a, b) for a in ids for b in ids if (a in inside) != (b in inside))

    async def _isolate_leader(self) -> None:
        leader = self.world.leader()
        if leader is not None:
            self._notice()
            self.world.note(f"cut off: the leader {leader.raft_id:x}")
            ids = self._ids()
            self.world.network.cut_links((a, b) for a in ids for b in ids if leader.raft_id in (a, b))

    async def _cut_one_way(self) -> None:
        ids = self._ids()
        if len(ids) > 1:
            source, target = self.rng.sample(ids, 2)
            self.world.network.notice_seconds = 60.0
            self.world.note(f"cut: {source:x} to {target:x}")
            self.world.network.cut_links({*self.world.network.cut, (source, target)})

    def _notice(self) -> None:
        self.world.network.notice_seconds = self.rng.choice((0.0, 0.5, 60.0))

    async def _slow_link(self) -> None:
        ids = self._ids()
        if len(ids) > 1:
            source, target = self.rng.sample(ids, 2)
            quality = self._quality(self.rng.choice((0.005, 0.05, 0.3, 1.5)))
            quality.per_message = self.rng.choice((0.0, 0.03, 0.1))
            quality.bytes_per_second = self.rng.choice((0, 20_000, 200_000))
            self.world.note(f"link {source:x} to {target:x}: {quality}")
            self.world.network.links[source, target] = quality

    async def _weather(self) -> None:
        quality = self._quality(self.rng.choice((self.chaos.delay, self.chaos.delay, 0.02, 0.2)))
        self.world.note(f"all links: {quality}")
        self.world.network.quality = quality

    def _quality(self, delay: float) -> Quality:
        chaos, rng = self.chaos, self.rng
        return Quality(
            delay=delay,
            jitter=rng.choice((0.0, delay, 3 * delay)),
            duplicate=rng.choice((0.0, 0.05, 0.3)) if chaos.duplicates else 0.0,
            reorder=rng.choice((0.0, 0.05, 0.3)) if chaos.reordering else 0.0,
            lose=rng.choice((0.0, 0.02, 0.2)) if chaos.losses else 0.0,
            late=rng.choice((0.1, 1.0, 5.0)),
        )

    async def _mend(self) -> None:
        self.world.note("the network is mended")
        self.world.network.quality = self._quality(self.chaos.delay)
        self.world.network.links.clear()
        self.world.network.cut_links(())

    # -- Machines -----------------------------------------------------------------------------------------

    async def _slow_disk(self) -> None:
        member = self._some()
        if member is not None:
            member.lane.latency = self.rng.choice((self.chaos.sync, self.chaos.sync, 0.02, 0.3, 2.0))
            self.world.note(f"{member.name} syncs in {member.lane.latency} s")

    async def _pause(self) -> None:
        member = self._some()
        if member is not None:
            seconds = self.rng.choice((0.1, 0.9, 3.0))
            self.world.note(f"{member.name} stands still for {seconds} s")
            member.gate.clear()

            async def resume() -> None:
                member.gate.set()

            self._later(seconds, resume)

    async def _freeze(self) -> None:
        leader = self.world.leader()
        member = self._some() if leader is None else self.world.member_of(leader)
        if member is not None:
            seconds = self.rng.choice((0.5, 1.5, 4.0))
            self.world.note(f"{member.name} is stopped for {seconds} s")
            self.world.freeze(member)
            self._later(seconds, partial(self._go_on, member))

    async def _go_on(self, member: Member) -> None:
        # Its clients ask before its cycle hears of anything.
        if member.node is not None:
            self.world.background(self._try(partial(self.world.read, member.node), "reading"))
        await asyncio.sleep(0)
        self.world.thaw(member)

    async def _overtake(self) -> None:
        leader = self.world.leader()
        if leader is None:
            return
        member, checker = self.world.member_of(leader), self.world.checker
        self.world.note(f"{member.name} is stopped until another member leads and writes")
        self.world.freeze(member)
        # Not beside the story: a brief one would be over, and the leader go on, before anybody succeeds it.
        with contextlib.suppress(TimeoutError):
            await self.world.until_another_leads(leader, OVERTAKING_SECONDS)
            floor = checker.floor
            await self.world.until(lambda: checker.floor > floor, OVERTAKING_SECONDS)
        await self._go_on(member)

    async def _crash(self) -> None:
        member = self._some()
        if member is not None:
            self._down(member)

    async def _crash_leader(self) -> None:
        leader = self.world.leader()
        if leader is not None:
            self._down(self.world.member_of(leader))

    async def _crash_all(self) -> None:
        if self.rng.random() < 0.3:
            for member in list(self.world.members.values()):
                if member.node is not None:
                    self._down(member)

    def _down(self, member: Member) -> None:
        self.world.kill(member, power_cut=self.rng.random() < 0.7)

        async def up() -> None:
            if member.node is None and member.number in self.world.members:
                await self.world.start(member)

        self._later(self.rng.random() * 3, up)

    # -- The group ----------------------------------------------------------------------------------------

    async def _rotate(self) -> None:
        member = self._some()
        if member is not None and member.node is not None:
            self.world.note(f"{member.name} is to rotate its data key")
            if not member.keys.broken:
                member.keys.mark()
            member.node.rotate_data_key()

    async def _break_keys(self) -> None:
        member = self._some()
        if member is not None:
            member.keys.broken = not member.keys.broken
            self.world.note(f"{member.name} can{'not' if member.keys.broken else ''} store data keys")

    async def _hand_over(self) -> None:
        leader = self.world.leader()
        if leader is not None:
            self.world.note(f"{leader.raft_id:x} is to hand over")
            self.world.background(self._try(leader.group.hand_over, "handing over"))

    async def _add(self) -> None:
        if len(self.world.members) < 5:
            self.world.note("a member is to join")
            self.world.background(self._join())

    async def _join(self) -> None:
        leader = self.world.leader()
        number = max(self.world.members) + 1
        if leader is None or number in self.world.joining:
            return
        self.world.joining.add(number)
        try:
            await self.world.join(leader, number)
        except (RaftError, ProposalError) as error:
            self.world.note(f"joining failed: {error}")
            # It may still become a member: then it is one that never starts, until it is removed.
            self.world.ghosts.add(f"node-{number}")
        finally:
            self.world.joining.discard(number)

    async def _remove(self) -> None:
        leader = self.world.leader()
        if leader is None:
            return
        members = leader.members()
        others = [member for member in members if member.raft_id != leader.raft_id]
        ghosts = [member for member in others if member.node_id in self.world.ghosts]
        if ghosts or len(members) > 3:
            victim = self.rng.choice(ghosts or others)
            self.world.note(f"{victim.node_id} is to be removed")
            self.world.background(self._try(partial(leader.group.remove, victim.raft_id), "removing"))

    async def _move(self) -> None:
        leader = self.world.leader()
        if leader is not None:
            moved = self.rng.choice(leader.members())
            addr = f"10.0.1.{self.rng.randrange(250)}:{self.rng.randrange(1, 60000)}"
            self.world.note(f"{moved.node_id} moves to {addr}")
            self.world.background(self._try(partial(leader.group.add, moved.node_id, addr), "moving"))

    async def _try(self, change: Callable[[], Awaitable[object]], what: str) -> None:
        try:
            await change()
        except (RaftError, ProposalError) as error:
            self.world.note(f"{what} failed: {error}")


def run_chaos(
    seed: int,
    chaos: Chaos,
    *,
    without: Rule | None = None,
    enough: Callable[[World], bool] = lambda _: True,
) -> World:
    """Run one seed: trouble, then healing, then the final check.

    Args:
        seed: everything follows from it.
        chaos: what may happen.
        without: a rule that members do not keep.
        enough: trouble goes on beyond its time until this holds, up to ``PROLONGATION``; then look again.

    Raises:
        SafetyError: with the seed and the schedule.
    """

    async def story(world: World) -> None:
        world.sync_seconds = chaos.sync
        await world.found(chaos.members)
        world.network.quality = Quality(delay=chaos.delay)
        for _ in range(chaos.clients):
            world.background(world.client(chaos.pause, PATIENCE_SECONDS))
        for number in range(chaos.readers):
            world.background(world.reader(number))
        await Nemesis(world, chaos).run(enough)
        await world.end_background()
        await world.heal()
        world.checker.check_final(world.nodes)

    policy = SnapshotPolicy(interval=chaos.snapshots, keep_entries=chaos.snapshots // 6)
    with mock.patch.object(dialect, "APPEND_BYTES", chaos.portion):
        return simulate(seed, story, without=without, policy=policy)


def random_chaos(seed: int, brief: bool = False) -> Chaos:
    """Choose what may happen from a seed; a brief story has time for an act or two and their end."""
    rng = random.Random(f"{seed} chaos")
    return Chaos(
        members=3 if brief else rng.choice((3, 3, 5)),
        seconds=rng.choice((0.3, 0.5, 1.0)) if brief else rng.choice((3.0, 3.0, 8.0)),
        clients=1 if brief else rng.choice((1, 2, 4)),
        readers=1 if brief else rng.choice((1, 2)),
        duplicates=rng.random() < 0.4,
        reordering=rng.random() < 0.3,
        losses=rng.random() < 0.3,
        crashes=rng.random() < 0.8,
        stalls=rng.random() < 0.8,
        changes=rng.random() < 0.5,
        rotations=rng.random() < 0.3,
        snapshots=rng.choice((20, 60, 1000)),
        sync=rng.choice((0.0005, 0.0005, 0.05)),
        calm=rng.choice((0.2, 0.8, 0.8)),
        pause=rng.choice((0.02, 0.1, 0.1)),
        portion=rng.choice((SMALL_PORTION, dialect.APPEND_BYTES)),
    )
