"""What the tests of the certificate authority share."""

import pytest

from tests.fakes.loop import VirtualClock
from tests.unit.ca.authority import Swarm


@pytest.fixture
async def swarm(clock: VirtualClock) -> Swarm:
    swarm = Swarm(clock)
    await swarm.create_cluster()
    return swarm
