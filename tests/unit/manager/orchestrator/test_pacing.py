"""Passes that give way, and waits that end: docs/architecture.md, One process, one event loop."""

import asyncio
import datetime

import pytest

from swarmkit.aio import cancel_and_wait
from swarmkit.api import messages as api
from swarmkit.manager.orchestrator.pacing import Pacer, next_commit, wait_for_event
from swarmkit.manager.orchestrator.steps import Steps, finish
from swarmkit.store import StoppedError, Watch
from tests.fakes.loop import EPOCH, VirtualClock
from tests.unit.manager.orchestrator.support import Swarm, make_node


class WorkClock:
    """A clock on which time passes with work alone."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> datetime.datetime:
        return EPOCH

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing waits here")


async def turns_of_others(clock: WorkClock, turns: list[float]) -> None:
    """Note when the event loop is free for others."""
    while True:
        turns.append(clock.time)
        await asyncio.sleep(0)


async def test_a_long_computation_gives_way_at_least_every_twenty_milliseconds() -> None:
    clock = WorkClock()
    turns: list[float] = []

    def work() -> Steps[str]:
        for _ in range(100):
            clock.time += 0.003
            yield
        return "done"

    others = asyncio.get_running_loop().create_task(turns_of_others(clock, turns))
    assert await Pacer(clock).drive(work()) == "done"
    await cancel_and_wait(others)
    gaps = [b - a for a, b in zip([0.0, *turns], [*turns, clock.time], strict=True)]
    assert len(turns) >= 15
    assert max(gaps) <= 0.02


async def test_a_short_computation_does_not_pause() -> None:
    clock = WorkClock()
    turns: list[float] = []

    def work() -> Steps[int]:
        yield
        return 7

    others = asyncio.get_running_loop().create_task(turns_of_others(clock, turns))
    assert await Pacer(clock).drive(work()) == 7
    assert turns == []
    await cancel_and_wait(others)
    assert finish(work()) == 7


async def test_a_wait_ends_with_the_event_or_the_deadline(clock: VirtualClock) -> None:
    event = asyncio.Event()
    await wait_for_event(event, clock, 5)
    assert clock.monotonic() == 5
    asyncio.get_running_loop().call_later(1, event.set)
    await wait_for_event(event, clock, 100)
    assert clock.monotonic() == 6
    assert not event.is_set()
    await wait_for_event(event, clock, 3)
    asyncio.get_running_loop().call_later(1, event.set)
    await wait_for_event(event, clock, None)
    assert clock.monotonic() == 7
    event.set()
    await wait_for_event(event, clock, 100)
    assert clock.monotonic() == 7


async def test_a_commit_is_waited_for_until_the_deadline_and_none_is_lost() -> None:
    swarm = Swarm()
    with swarm.store.watch(Watch(api.Node)) as watcher:
        assert await next_commit(watcher, swarm.clock, 5) is None
        assert swarm.clock.monotonic() == 5
        await swarm.create(make_node("n1"))
        assert await next_commit(watcher, swarm.clock, 5) is not None
        assert await next_commit(watcher, swarm.clock, 5) is None
        waiting = asyncio.get_running_loop().create_task(next_commit(watcher, swarm.clock, 50))
        await swarm.settle(1)
        await swarm.create(make_node("n2"))
        commit = await waiting
        assert commit is not None
        assert commit.events[0].object.id == "n2"
        assert swarm.clock.monotonic() < 7
        waiting = asyncio.get_running_loop().create_task(next_commit(watcher, swarm.clock, 50))
        await swarm.settle(1)
        waiting.cancel()
        await swarm.create(make_node("n3"))
        assert await next_commit(watcher, swarm.clock, None) is not None


@pytest.mark.parametrize("deadline", [None, 100.0])
async def test_a_store_that_closes_ends_the_wait(deadline: float | None) -> None:
    swarm = Swarm()
    with swarm.store.watch(Watch(api.Node)) as watcher:
        waiting = asyncio.get_running_loop().create_task(next_commit(watcher, swarm.clock, deadline))
        await swarm.settle()
        swarm.store.close()
        with pytest.raises(StoppedError):
            await waiting
