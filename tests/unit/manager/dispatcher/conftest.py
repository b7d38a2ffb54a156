"""The dispatcher bench as fixtures."""

from collections.abc import AsyncIterator

import pytest

from swarmkit.manager.dispatcher import DispatcherConfig
from tests.fakes.loop import VirtualClock
from tests.unit.manager.dispatcher.bench import Bench, cluster


@pytest.fixture
def config() -> DispatcherConfig:
    # Windows wide enough to put several things into one; the daemon's are in test_config.py.
    return DispatcherConfig(quiet_seconds=0.1, gather_seconds=0.1)


@pytest.fixture
async def idle_bench(clock: VirtualClock, config: DispatcherConfig) -> AsyncIterator[Bench]:
    """A bench with a cluster object whose dispatcher has not been started."""
    made = Bench(clock, config)
    await made.create(cluster())
    yield made
    await made.close()


@pytest.fixture
async def bench(idle_bench: Bench) -> Bench:
    """A bench whose dispatcher serves."""
    await idle_bench.start()
    return idle_bench
