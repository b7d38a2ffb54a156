"""A raft node on a fake disk, with virtual time."""

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.raft import Bench


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """Makes nodes on one fake disk and stops what still runs."""
    bench = Bench(random.Random(1), Path("/state"))
    yield bench
    await bench.close()
