"""One raft node on a disk that loses power: after every single call, and at random times for many lives."""

import asyncio
import random
from pathlib import Path

import pytest

from swarmkit.raft import SnapshotPolicy, StorageError
from swarmkit.store.proposer import ProposalError
from tests.fakes.disk import FakeDisk
from tests.fakes.raft import Bench, TestNode

STATE = Path("/state")
POLICY = SnapshotPolicy(interval=7, keep_entries=3, keep_old=0)


class Story:
    """Everything that happened to one disk over several lives, and the rules that must hold."""

    def __init__(self, rng: random.Random, latency: float = 0.0) -> None:
        self.rng = rng
        self.latency = latency
        #: Writes after which a rotation of the data key is asked for.
        self.rotations: tuple[int, ...] = ()
        self.bench = Bench(rng, STATE)
        self.proposed: list[bytes] = []
        self.acknowledged: list[bytes] = []
        self.applied: list[bytes] = []
        self.term = 0

    async def live(self, cut_at: int | None, writes: int) -> bool:
        """Start a node, write, and lose power during disk call ``cut_at``; tell whether it was lost."""
        self.bench.disk.cut_at = cut_at
        node = self.bench.node(policy=lambda: POLICY, latency=self.latency)
        work = asyncio.create_task(self._work(node, writes))
        dark = asyncio.create_task(self.bench.disk.dark.wait())
        await asyncio.wait([work, dark], return_when=asyncio.FIRST_COMPLETED)
        was_cut = self.bench.disk.dark.is_set()
        for task in (work, dark):
            task.cancel()
            await asyncio.wait([task])
        if not was_cut:
            work.result()
        self.applied = node.machine.values
        await node.stop()
        self.bench.nodes.clear()
        self.bench.disk = self.bench.disk.after_power_cut(self.rng)
        return was_cut

    async def _work(self, node: TestNode, writes: int) -> None:
        await node.start()
        await node.lead()
        self.check(node)
        for number in range(writes):
            if number in self.rotations:
                self.bench.keys.mark()
                node.rotate_data_key()
            count = 1 if number % 3 else 4
            values = [b"%d" % (len(self.proposed) + i) for i in range(count)]
            self.proposed += values
            await asyncio.gather(*(self._write(node, value) for value in values))

    async def _write(self, node: TestNode, value: bytes) -> None:
        try:
            await node.propose(value)
        except ProposalError:
            return
        self.acknowledged.append(value)

    def check(self, node: TestNode) -> None:
        """Check what a restarted node has against all that was ever promised."""
        values = node.machine.values
        assert set(self.acknowledged) <= set(values)
        assert len(set(values)) == len(values)
        assert values == [value for value in self.proposed if value in set(values)]
        assert values[: len(self.applied)] == self.applied
        assert node.status().term > self.term  # no term is ever led twice
        self.term = node.status().term

    async def final_check(self) -> None:
        """Start once more on a healthy disk."""
        node = await self.bench.started(policy=lambda: POLICY)
        self.check(node)
        await self.bench.close()


@pytest.mark.slow
async def test_power_cut_after_every_single_call() -> None:
    """Founding, writing, snapshots, compaction and new segments all happen in these writes."""
    rehearsal = Story(random.Random(0))
    disk = rehearsal.bench.disk
    assert not await rehearsal.live(None, writes=20)
    for step in ("create", "rename", "sync_folder", "write", "sync", "remove"):
        assert step in disk.log
    calls = disk.calls
    assert calls > 80
    for cut in range(1, calls + 1):
        for seed in range(3):
            story = Story(random.Random(1000 * cut + seed))
            await story.live(cut, writes=20)
            await story.final_check()


@pytest.mark.slow
async def test_power_cut_after_every_single_call_of_rotations_of_the_data_key() -> None:
    rehearsal = Story(random.Random(0))
    rehearsal.rotations = (3, 4, 12)
    disk, keys = rehearsal.bench.disk, rehearsal.bench.keys
    assert not await rehearsal.live(None, writes=20)
    assert len({headers.data_key for headers in keys.writes}) >= 3
    for cut in range(1, disk.calls + 1):
        story = Story(random.Random(cut))
        story.rotations = rehearsal.rotations
        await story.live(cut, writes=20)
        await story.final_check()


@pytest.mark.parametrize("seed", range(40))
async def test_random_power_cuts_over_many_lives(seed: int) -> None:
    rng = random.Random(seed)
    story = Story(rng, latency=rng.choice([0.0, 0.001, 0.5]))
    story.rotations = tuple(rng.sample(range(25), rng.choice((0, 1, 3))))
    for _ in range(8):
        await story.live(rng.randint(1, 120), writes=rng.randint(1, 25))
    await story.final_check()


async def test_a_disk_that_lies_about_syncing_is_noticed_by_these_rules() -> None:
    """The rules can fail: without syncs, acknowledged writes are lost."""

    class LyingDisk(FakeDisk):
        def sync(self, inode: object) -> None:
            self._step("sync")

    async def lives(seed: int) -> None:
        story = Story(random.Random(seed))
        await story.live(None, writes=3)
        lying = LyingDisk()
        lying.__dict__.update(story.bench.disk.__dict__)
        story.bench.disk = lying
        await story.live(None, writes=5)
        await story.final_check()

    noticed = 0
    for seed in range(20):
        try:
            await lives(seed)
        except (AssertionError, StorageError):
            noticed += 1
    assert noticed > 5
