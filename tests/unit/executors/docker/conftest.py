"""What the tests of the Docker executor share."""

import asyncio
import gc
import os
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from swarmkit.executors.docker.controller import DockerController
from tests.fakes.engine import FakeEngine
from tests.fakes.engine_socket import EngineSocket, engine_socket
from tests.fakes.loop import VirtualClock
from tests.scale import SCALE
from tests.unit.executors.docker.controllers import make


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path is short enough for a unix socket."""
    folder = Path(tempfile.mkdtemp(prefix="swk-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
async def socket(short_folder: Path) -> AsyncIterator[EngineSocket]:
    """An engine's socket with scripted answers; for tests marked real_time."""
    async with engine_socket(short_folder) as made:
        yield made


@pytest.fixture
async def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def controller(engine: FakeEngine, clock: VirtualClock) -> DockerController:
    return make(engine, clock)


async def eventually(check: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait until ``check`` holds, which a thread is about to bring about."""
    async with asyncio.timeout(seconds * SCALE):
        while not check():  # noqa: ASYNC110 - a thread cannot set an event of the loop's
            await asyncio.sleep(0.005)


def engine_threads() -> list[str]:
    """Return the names of the threads that work for an engine."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("engine-")]


def open_descriptors() -> int:
    """Count this process's open file descriptors, garbage collected first."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))
