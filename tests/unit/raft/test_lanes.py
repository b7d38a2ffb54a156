"""The bridge to the disk's threads."""

import asyncio
import threading

import pytest

from swarmkit.raft.lanes import ThreadLane

pytestmark = pytest.mark.real_time


async def test_calls_run_in_one_thread_in_order_while_the_loop_goes_on() -> None:
    lane = ThreadLane("test-lane")
    gate = threading.Event()
    seen: list[int] = []
    names: set[str] = set()

    def call(number: int) -> int:
        gate.wait(5)
        seen.append(number)
        names.add(threading.current_thread().name)
        return number

    tasks = [asyncio.create_task(lane.run(lambda number=number: call(number))) for number in range(5)]  # type: ignore[misc]
    await asyncio.sleep(0)
    assert seen == []
    gate.set()

    assert await asyncio.gather(*tasks) == [0, 1, 2, 3, 4]
    assert seen == [0, 1, 2, 3, 4]
    assert len(names) == 1
    lane.close()


async def test_an_error_reaches_the_caller_and_the_lane_goes_on() -> None:
    lane = ThreadLane("test-lane")

    def fail() -> None:
        raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        await lane.run(fail)
    assert await lane.run(lambda: 7) == 7
    lane.close()


async def test_a_call_whose_caller_is_gone_is_finished_and_the_lane_goes_on() -> None:
    lane = ThreadLane("test-lane")
    begun, gate = threading.Event(), threading.Event()
    done: list[bool] = []

    def call() -> None:
        begun.set()
        gate.wait(5)
        done.append(True)

    task = asyncio.create_task(lane.run(call))
    await asyncio.sleep(0)
    assert begun.wait(5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.set()
    assert await lane.run(lambda: done) == [True]
    lane.close()


async def test_a_closed_lane_finishes_what_it_has_ends_its_thread_and_takes_no_more() -> None:
    lane = ThreadLane("test-closed-lane")
    last = asyncio.create_task(lane.run(threading.current_thread))
    await asyncio.sleep(0)
    lane.close()
    lane.close()
    thread = await last
    thread.join(5)
    assert not thread.is_alive()
    with pytest.raises(RuntimeError, match="the lane test-closed-lane is closed"):
        await lane.run(lambda: None)


def test_a_loop_that_is_closed_meanwhile_costs_the_lane_nothing() -> None:
    lane = ThreadLane("test-lane")
    begun, gate = threading.Event(), threading.Event()

    def call() -> None:
        begun.set()
        gate.wait(5)

    async def leave() -> None:
        task = asyncio.create_task(lane.run(call))
        await asyncio.sleep(0)
        assert begun.wait(5)
        task.cancel()

    asyncio.run(leave())
    gate.set()
    assert asyncio.run(lane.run(lambda: 7)) == 7
    lane.close()
