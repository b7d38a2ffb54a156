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
