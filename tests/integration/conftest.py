"""The engine behind the Docker-backed tests; what was left out without one is said in one line."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.engine import Engine, EngineUnavailableError
from tests.integration.containers import Node, node, remove_all
from tests.integration.control import Control
from tests.integration.harness import Swarm, swarm

REQUIRE_DOCKER = "SWARMKIT_REQUIRE_DOCKER"


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """A Docker engine with the test images: a running one, or one of our own for this run."""
    try:
        found = Engine.find_or_start()
    except EngineUnavailableError as error:
        if os.environ.get(REQUIRE_DOCKER):
            pytest.fail(f"Docker-backed tests must run here: {error}")
        pytest.skip(f"Docker-backed tests: {error}")
    yield found
    found.stop()


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path is short enough for unix sockets (107 bytes)."""
    folder = Path(tempfile.mkdtemp(prefix="swk-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def local_swarm(short_folder: Path) -> Iterator[Swarm]:
    """A swarm whose tasks are local processes."""
    with swarm(short_folder) as made:
        yield made


@pytest.fixture
def docker_swarm(short_folder: Path, engine: Engine) -> Iterator[Swarm]:
    """A swarm whose tasks are containers."""
    with swarm(short_folder, "docker", engine.url) as made:
        yield made


@pytest.fixture(scope="module")
def trio() -> Iterator[Swarm]:
    """Three nodes that the tests of a module share, whose tasks are local processes."""
    folder = Path(tempfile.mkdtemp(prefix="swk-", dir="/tmp"))
    with swarm(folder) as made:
        made.found()
        workers = [made.join("node-2"), made.join("node-3")]
        for worker in workers:
            worker.wait_ready()
        yield made
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def control(trio: Swarm) -> Iterator[Control]:
    """The control API of the shared swarm; what services a test leaves are removed after it."""
    control = Control(trio.socket)
    yield control
    control.remove_services()


@pytest.fixture(scope="module")
def tidied(engine: Engine) -> Iterator[None]:
    """Nothing of a module's containers is left on the engine all tests share."""
    yield
    remove_all(engine.url)


@pytest.fixture
async def here(engine: Engine) -> AsyncIterator[Node]:
    """A node on the engine all tests share, without a daemon."""
    async with node(engine.url) as made:
        yield made
