import asyncio
from collections.abc import Callable

import pytest

from swarmkit.api import messages as api
from swarmkit.manager.leader import RESTART_PAUSE, Leadership, SeedError
from swarmkit.store import LeadershipLostError, Store, Tx
from tests.fakes.loop import VirtualClock
from tests.fakes.proposer import FakeProposer


class FakeLoop:
    """Counts its runs; fails if told to."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure
        self.started = 0
        self.running = 0

    async def run(self) -> None:
        self.started += 1
        self.running += 1
        try:
            if self.failure is not None:
                raise self.failure
            await asyncio.get_running_loop().create_future()
        finally:
            self.running -= 1


def seed(tx: Tx) -> None:
    if tx.get(api.Node, "own") is None:
        tx.create(api.Node(id="own"))


class Setting:
    def __init__(self, clock: VirtualClock) -> None:
        self.store = Store(clock)
        self.unfounded = False
        self.proposer = FakeProposer(self.store)
        self.store.attach(self.proposer)
        self.loops: dict[str, FakeLoop] = {"a": FakeLoop(), "b": FakeLoop()}
        self.fatal: list[BaseException] = []
        self.leadership = Leadership(self.store, self.seed, lambda: self.loops, clock, self.fatal.append)
        self.task = asyncio.create_task(self.leadership.run())

    def seed(self, tx: Tx) -> None:
        if self.unfounded:
            raise SeedError("remove the state directory")
        seed(tx)

    async def settle(self) -> None:
        await asyncio.sleep(0.01)

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


@pytest.fixture
async def setting(clock: VirtualClock):  # type: ignore[no-untyped-def]
    made = Setting(clock)
    yield made
    await made.close()


async def test_leading_seeds_the_store_and_runs_every_loop(setting: Setting) -> None:
    setting.leadership.announce(True)
    await asyncio.wait_for(setting.leadership.active.wait(), 5)
    await setting.settle()
    assert setting.store.view().get(api.Node, "own") is not None
    assert [loop.running for loop in setting.loops.values()] == [1, 1]


async def test_losing_leadership_ends_every_loop(setting: Setting) -> None:
    setting.leadership.announce(True)
    await setting.settle()
    setting.leadership.announce(False)
    await setting.settle()
    assert [loop.running for loop in setting.loops.values()] == [0, 0]
    assert not setting.leadership.active.is_set()


async def test_leadership_won_and_lost_ten_times_leaves_one_instance_of_each_loop(setting: Setting) -> None:
    for _ in range(10):
        setting.leadership.announce(True)
        await setting.settle()
        setting.leadership.announce(False)
        await setting.settle()
    setting.leadership.announce(True)
    await setting.settle()
    assert [loop.running for loop in setting.loops.values()] == [1, 1]
    assert len(setting.store.view().find(api.Node)) == 1


async def test_seeding_that_fails_is_tried_again_before_any_loop_runs(setting: Setting) -> None:
    setting.proposer.lose_leadership()
    setting.leadership.announce(True)
    await setting.settle()
    assert [loop.started for loop in setting.loops.values()] == [0, 0]
    setting.proposer.gain_leadership()
    await asyncio.sleep(2 * RESTART_PAUSE)
    assert [loop.running for loop in setting.loops.values()] == [1, 1]


async def test_a_swarm_that_cannot_be_seeded_is_told_once_and_no_loop_runs(setting: Setting) -> None:
    setting.unfounded = True
    setting.leadership.announce(True)
    await asyncio.sleep(3 * RESTART_PAUSE)
    assert [str(error) for error in setting.fatal] == ["remove the state directory"]
    assert [loop.started for loop in setting.loops.values()] == [0, 0]
    assert not setting.leadership.active.is_set()


@pytest.mark.parametrize("failure", [lambda: ValueError("defect"), LeadershipLostError])
async def test_a_loop_that_fails_starts_again_and_does_not_end_the_others(
    setting: Setting, failure: Callable[[], Exception]
) -> None:
    setting.loops["a"].failure = failure()
    setting.leadership.announce(True)
    await asyncio.sleep(3.5 * RESTART_PAUSE)
    assert setting.loops["a"].started == 4
    assert setting.loops["b"].started == 1
    setting.loops["a"].failure = None
    await asyncio.sleep(RESTART_PAUSE)
    assert setting.loops["a"].running == 1


async def test_stopping_ends_every_loop(setting: Setting) -> None:
    setting.leadership.announce(True)
    await setting.settle()
    await setting.close()
    assert [loop.running for loop in setting.loops.values()] == [0, 0]
