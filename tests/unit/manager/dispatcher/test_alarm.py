"""The alarm."""

import asyncio

import pytest

from swarmkit.manager.dispatcher.alarm import Alarm


async def test_a_ring_is_kept_for_the_next_wait_and_rings_add_up_to_one() -> None:
    alarm = Alarm()
    alarm.ring()
    alarm.ring()
    assert await alarm.wait(1.0)
    assert not await alarm.wait(1.0)
    assert asyncio.get_running_loop().time() == 1.0


async def test_a_ring_wakes_the_waiter_at_once() -> None:
    alarm = Alarm()
    waiting = asyncio.get_running_loop().create_task(alarm.wait(10.0))
    await asyncio.sleep(2)
    alarm.ring()
    assert await waiting
    assert asyncio.get_running_loop().time() == 2.0


async def test_a_cancelled_wait_loses_no_ring() -> None:
    alarm = Alarm()
    waiting = asyncio.get_running_loop().create_task(alarm.wait())
    await asyncio.sleep(0)
    alarm.ring()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await alarm.wait(0)


async def test_no_time_left_means_no_wait() -> None:
    assert not await Alarm().wait(-5.0)
    assert asyncio.get_running_loop().time() == 0.0
