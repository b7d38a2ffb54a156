"""Daemons, containers and engines fail under a swarm whose tasks are containers."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from swarmkit.api import messages as api
from tests.engine import Engine, EngineUnavailableError, import_images
from tests.integration.control import Control, ids, runs
from tests.integration.harness import Swarm, table

pytestmark = pytest.mark.docker

REDIS = "--image redis:3.0.5 --restart-delay 200ms"
DISCONNECTED = api.NodeStatus.DISCONNECTED
FAILED = api.TaskState.FAILED
READY = api.NodeStatus.READY
RUNNING = api.TaskState.RUNNING


@contextlib.contextmanager
def client(url: str) -> Iterator[docker.DockerClient]:
    with contextlib.closing(docker.DockerClient(base_url=url, timeout=60)) as made:
        yield made


def containers(url: str, service: str) -> dict[str, str]:
    """Return the ids of a service's running containers and when each was started."""
    with client(url) as engine:
        found = engine.containers.list(filters={"label": f"com.docker.swarm.service.name={service}"})
        return {str(one.id): one.attrs["State"]["StartedAt"] for one in found}


def container_id(task: api.Task) -> str:
    assert task.status.container.container_id
    return task.status.container.container_id


def test_killed_daemons_find_their_containers_again(docker_swarm: Swarm, engine: Engine) -> None:
    docker_swarm.found()
    docker_swarm.join("node-2").wait_ready()
    control = Control(docker_swarm.socket)
    docker_swarm.ok(f"service create --name again {REDIS} --replicas 4")
    tasks = control.wait_running("again", 4, 30)
    before = containers(engine.url, "again")
    assert set(before) == {container_id(task) for task in tasks}
    for killed in (["node-1"], ["node-2"], ["node-1", "node-2"]):
        for name in killed:
            docker_swarm.daemons[name].kill()
        for name in killed:
            docker_swarm.restart(name)
        for name in killed:
            docker_swarm.daemons[name].wait_ready()
            control.wait_node(name, READY)
        after = control.wait_running("again", 4)
        assert {t.id: container_id(t) for t in after} == {t.id: container_id(t) for t in tasks}
        assert containers(engine.url, "again") == before
    docker_swarm.ok("service update again --replicas 1")
    (left,) = control.wait_running("again", 1)
    assert left.id in ids(tasks)


def test_containers_that_die_or_vanish_are_replaced(docker_swarm: Swarm, engine: Engine) -> None:
    docker_swarm.found()
    control = Control(docker_swarm.socket)
    docker_swarm.ok(f"service create --name killed {REDIS} --replicas 3")
    docker_swarm.ok(f"service create --name given-up {REDIS} --restart-condition none")
    first, second, third = control.wait_running("killed", 3, 30)
    (only,) = control.wait_running("given-up", 1, 30)
    with client(engine.url) as api_client:
        api_client.containers.get(container_id(first)).kill()
        api_client.containers.get(container_id(second)).remove(force=True)
        api_client.containers.get(container_id(only)).kill()
    tasks = control.wait_tasks(
        "killed",
        "both were replaced",
        lambda found: len(found) == 3 and all(map(runs, found)) and not ids(found) & {first.id, second.id},
        30,
    )
    assert [task.slot for task in tasks] == [1, 2, 3]
    assert container_id(tasks[2]) == container_id(third)
    assert set(containers(engine.url, "killed")) == {container_id(task) for task in tasks}
    ended = {task.id: task for task in control.tasks("killed", every=True)}
    assert ended[first.id].status.state == FAILED
    assert ended[first.id].status.container.exit_code == 137
    assert ended[second.id].status.state == FAILED
    assert containers(engine.url, "given-up") == {}
    (gone,) = control.wait_tasks("given-up", "given up", lambda t: t[0].desired_state > RUNNING, every=True)
    assert gone.status.state == FAILED


@pytest.fixture
def second_engine() -> Iterator[Engine]:
    """An engine of the test's own, which may be killed."""
    try:
        made = Engine.start()
    except EngineUnavailableError as error:
        if os.environ.get("SWARMKIT_REQUIRE_DOCKER"):
            pytest.fail(f"an engine of its own must start here: {error}")
        pytest.skip(f"tests with an engine of their own: {error}")
    yield made
    made.stop()


def test_a_node_without_its_engine_says_so_and_recovers(
    docker_swarm: Swarm, second_engine: Engine, short_folder: Path
) -> None:
    docker_swarm.found()
    control = Control(docker_swarm.socket)
    socket = short_folder / "engine.sock"
    worker = docker_swarm.join("node-2", f"--engine-addr unix://{socket}").wait_ready()
    node = control.wait_node("node-2", DISCONNECTED)
    assert node.status.message
    rows = {row["Name"]: row for row in table(docker_swarm.ok("node ls"))}
    assert rows["node-2"]["Status"] == "DISCONNECTED"
    assert rows["node-1"]["Status"] == "READY"
    (sentence,) = [line for line in docker_swarm.ok("node inspect node-2").splitlines() if "Message" in line]
    assert str(socket) in sentence
    assert "engine" in sentence.lower()
    assert "Traceback" not in worker.log
    assert sum("engine cannot be reached" in line for line in worker.log.splitlines()) == 1
    docker_swarm.ok(f"service create --name web {REDIS} --constraint node.hostname==node-2")
    control.wait_tasks(
        "web", "not placed", lambda tasks: bool(tasks and "not available" in tasks[0].status.err)
    )

    import_images(second_engine.url)
    socket.symlink_to(second_engine.url.removeprefix("unix://"))
    node = control.wait_node("node-2", READY, 20)
    assert not node.status.message
    assert node.description.engine.engine_version
    (task,) = control.wait_running("web", 1, 30)
    assert set(containers(second_engine.url, "web")) == {container_id(task)}
