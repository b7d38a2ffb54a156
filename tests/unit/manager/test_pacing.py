import asyncio

from swarmkit.manager.pacing import SLICE_SECONDS, Pacer
from tests.fakes.loop import SteppingClock


async def turns_during(pauses: int, step: float) -> int:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    pacer = Pacer(SteppingClock(step))
    for _ in range(pauses):
        await pacer.pause()
    counting.cancel()
    await asyncio.wait([counting])
    return turns


async def test_the_loop_gets_its_turn_each_time_a_slice_is_used_up() -> None:
    assert await turns_during(10, SLICE_SECONDS) >= 5
    assert await turns_during(10, SLICE_SECONDS / 1000) == 0
