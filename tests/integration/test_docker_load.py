"""The Docker executor with many tasks at once: what they keep of threads, descriptors and the loop."""

import asyncio
import gc
import os
import subprocess
import sys
import time

import pytest

from swarmkit.executors.docker.controller import DockerController
from tests.engine import Engine
from tests.integration.containers import (
    OBEDIENT,
    Node,
    State,
    engine_threads,
    eventually,
    in_thread,
    node,
    traps_set,
)
from tests.scale import SCALE

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("tidied")]

#: Another process that has nothing to do but to wait: what it misses is the machine's doing, not ours.
IDLE_PROCESS = """
import select, sys, time
waited = []
while not select.select([sys.stdin], [], [], 0)[0]:
    before = time.monotonic()
    time.sleep(0.005)
    waited.append(time.monotonic() - before - 0.005)
print(sorted(waited)[len(waited) * 99 // 100])
"""


#: What a call of the engine takes at least that changes something; a reader's loop never works so long.
BLOCKING_SECONDS = 0.05 * SCALE


class Lag:
    """How long the loop kept a task waiting that wanted to run every few milliseconds."""

    def __init__(self) -> None:
        self._waited: list[float] = []
        self._worked: list[float] = []
        # A collection that goes through what all tests before have left takes as long as a blocking call.
        gc.collect()
        gc.freeze()
        self._task = asyncio.get_running_loop().create_task(self._sample())
        self._idle = subprocess.Popen(
            [sys.executable, "-c", IDLE_PROCESS], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    async def _sample(self) -> None:
        while True:
            wall, work = time.monotonic(), time.thread_time()
            await asyncio.sleep(0.005)
            self._waited.append(time.monotonic() - wall - 0.005)
            self._worked.append(time.thread_time() - work)

    async def stop(self) -> tuple[float, int]:
        """Return the loop's own lag (one in a hundred was longer), and how often it worked for too long."""
        self._task.cancel()
        await asyncio.wait([self._task])
        gc.unfreeze()
        told, _ = await in_thread(self._idle.communicate)
        lag = sorted(self._waited)[len(self._waited) * 99 // 100]
        return lag - float(told), sum(worked >= BLOCKING_SECONDS for worked in self._worked)


async def test_thirty_tasks_start_and_stop_at_once_without_a_stir(here: Node) -> None:
    lag = Lag()
    most = 0
    try:
        driven = [await here.drive(here.task(OBEDIENT)) for _ in range(30)]
        for one in driven:
            await one.until(State.RUNNING, 60)
            await traps_set(one)
            most = max(most, len(engine_threads()))
        for one in driven:
            one.order(State.SHUTDOWN)
            await asyncio.sleep(0)
        for one in driven:
            assert (await one.until(State.SHUTDOWN, 60)).container.exit_code == 7
            most = max(most, len(engine_threads()))
    finally:
        own, worked = await lag.stop()
    assert own < BLOCKING_SECONDS
    # Whatever blocks the loop for one task does so thirty times.
    assert worked < 5
    # Reads, changes, one stop for each task, pulls, and the reader of events.
    assert most <= 4 + 8 + 30 + 16 + 1


async def test_rounds_of_tasks_leave_no_descriptor_and_no_thread(engine: Engine) -> None:
    def descriptors() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    async def one_round() -> None:
        async with node(engine.url) as here:
            controllers = [await here.controller(here.task("exit 0")) for _ in range(3)]

            async def cycle(controller: DockerController) -> None:
                await controller.prepare()
                await controller.start()
                await controller.wait()
                await controller.remove()
                await controller.close()

            await asyncio.gather(*(cycle(controller) for controller in controllers))

    async def quiet() -> bool:
        return not engine_threads()

    async def left() -> int:
        await one_round()
        await eventually(quiet)
        return descriptors()

    before = await left()
    assert max([await left() for _ in range(3)]) <= before
