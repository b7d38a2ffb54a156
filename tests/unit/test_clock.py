import asyncio
import datetime
import time

import pytest

from swarmkit.clock import SystemClock, timestamp
from tests.fakes.loop import EPOCH, VirtualClock


async def test_an_hour_of_virtual_time_passes_at_once(clock: VirtualClock) -> None:
    started = time.monotonic()
    await asyncio.wait_for(clock.sleep(3600), 7200)
    assert clock.monotonic() == 3600
    assert (clock.now() - EPOCH).total_seconds() == 3600
    assert time.monotonic() - started < 1


@pytest.mark.real_time
async def test_system_clock_measures_as_the_loop_does() -> None:
    system = SystemClock()
    before = asyncio.get_running_loop().time()
    await system.sleep(0.01)
    assert before + 0.01 <= system.monotonic() <= asyncio.get_running_loop().time()
    assert abs(system.now().timestamp() - time.time()) < 1


async def test_threads_do_not_let_virtual_time_run_away(clock: VirtualClock) -> None:
    assert await asyncio.wait_for(asyncio.to_thread(lambda: 7), 0.001) == 7


def test_timestamp_keeps_microseconds() -> None:
    moment = EPOCH.replace(microsecond=123456)
    assert timestamp(moment).nanos == 123456000


def test_timestamps_before_1970_count_backwards() -> None:
    moment = datetime.datetime(1969, 12, 31, 23, 59, 59, 500_000, tzinfo=datetime.UTC)
    assert (timestamp(moment).seconds, timestamp(moment).nanos) == (-1, 500_000_000)
