"""Fault tests use the swarms of the integration tests, or a group of managers that a module shares."""

from collections.abc import Iterator

import pytest

from tests.fault.groups import Logs
from tests.fault.sharing import SharedGroup
from tests.integration.conftest import docker_swarm, engine, local_swarm, short_folder
from tests.integration.managers import Managers

__all__ = ["docker_swarm", "engine", "local_swarm", "logs", "short_folder", "swarm"]


@pytest.fixture
def swarm(group: SharedGroup[Managers], request: pytest.FixtureRequest) -> Iterator[Managers]:
    """The group of the module, whose fixture ``group`` has it."""
    failures = request.session.testsfailed
    yield group.get()
    if request.session.testsfailed > failures:  # the outcome of the test itself counts by now
        group.close()


@pytest.fixture
def logs(swarm: Managers) -> Logs:
    """What the managers of the group log during the test."""
    return Logs(swarm)
