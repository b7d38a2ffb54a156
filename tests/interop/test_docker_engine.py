"""A Docker Engine in swarm mode as a worker of our manager: the proof that the wire is right.

Source: contract/dispatcher-agent.md and contract/security.md, what a foreign peer depends on.
"""

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator

import docker
import pytest

from swarmkit.api import messages as api
from tests.engine import Engine, EngineUnavailableError, import_images
from tests.integration.conftest import REQUIRE_DOCKER
from tests.integration.harness import Swarm, eventually, table
from tests.integration.managers import managers

pytestmark = pytest.mark.docker


@pytest.fixture
def peer() -> Iterator[Engine]:
    """An engine of its own: joining a swarm changes it."""
    try:
        started = Engine.start()
    except EngineUnavailableError as error:
        if os.environ.get(REQUIRE_DOCKER):
            pytest.fail(f"Docker-backed tests must run here: {error}")
        pytest.skip(f"Docker-backed tests: {error}")
    import_images(started.url)
    yield started
    started.stop()


def docker_cli(peer: Engine, *words: str) -> str:
    done = subprocess.run(
        ["docker", *words],
        env={**os.environ, "DOCKER_HOST": peer.url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def worker_token(swarm: Swarm) -> str:
    found = re.search(r"Worker: (SWMTKN-1-\S+)", swarm.ok("cluster inspect default"))
    assert found
    return found[1]


def running_containers(peer: Engine) -> list[str]:
    with contextlib.closing(docker.DockerClient(base_url=peer.url)) as client:
        return sorted(str(c.name) for c in client.containers.list(filters={"label": "com.docker.swarm.task"}))


def foreign_node(swarm: Swarm) -> dict[str, str]:
    rows = [row for row in table(swarm.ok("node ls")) if row["Name"] != "node-1"]
    assert len(rows) == 1, rows
    return rows[0]


def test_an_engine_joins_runs_tasks_is_drained_and_leaves(local_swarm: Swarm, peer: Engine) -> None:
    swarm = local_swarm
    swarm.found()
    swarm.ok("cluster update --heartbeatperiod 1s")
    joined = docker_cli(
        peer, "swarm", "join", "--token", worker_token(swarm),
        "--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1:2399", f"127.0.0.1:{swarm.port}",
    )  # fmt: skip
    assert joined == "This node joined a swarm as a worker."

    row = foreign_node(swarm)
    assert (row["Membership"], row["Status"], row["Manager status"]) == ("ACCEPTED", "READY", "")
    block = swarm.ok(f"node inspect {row['ID']}")
    with contextlib.closing(docker.DockerClient(base_url=peer.url)) as client:
        info = client.info()
    assert re.search(rf"Hostname +: {info['Name']}\n", block)
    assert re.search(rf"Operating System +: {info['OSType']}\n", block)
    assert re.search(rf"Architecture +: {info['Architecture']}\n", block)
    assert re.search(rf"Engine Version +: {re.escape(info['ServerVersion'])}", block)

    here = f"--constraint node.id=={row['ID']}"
    swarm.ok(f"service create --name web --image redis:3.0.5 --instances 2 {here} --wait", timeout=60)
    tasks = table(swarm.ok("service inspect web").split("\n\n", 1)[1])
    assert [task["Last State"].split()[0] for task in tasks] == ["RUNNING", "RUNNING"]
    assert running_containers(peer) == sorted(f"web.{t['Instance']}.{t['Task ID']}" for t in tasks)

    # A command that fails is reported with its exit code and its error, and not restarted if so asked.
    failing = "--command sh,-c,'exit 3' --restart-condition none"
    swarm.ok(f"service create --name failing --image busybox:test {failing} {here}")

    def failed() -> None:
        tasks = swarm.json("service inspect failing --all")["tasks"]
        assert len(tasks) == 1
        (task,) = tasks
        assert task["status"]["state"] == "FAILED", task["status"]
        assert task["status"]["container"]["exit_code"] == 3
        assert "non-zero exit (3)" in task["status"]["err"]

    eventually(failed, 20, "the failed task is reported")

    swarm.ok(f"node drain {row['ID']}")

    def drained() -> None:
        assert running_containers(peer) == []
        assert foreign_node(swarm)["Availability"] == "DRAIN"

    eventually(drained, 40, "the drained engine runs nothing")

    assert docker_cli(peer, "swarm", "leave") == "Node left the swarm."

    def gone() -> None:
        assert foreign_node(swarm)["Status"] == "DOWN"

    eventually(gone, 20, "the engine that left is down")
    swarm.ok(f"node rm {row['ID']}")
    assert [r["Name"] for r in table(swarm.ok("node ls"))] == ["node-1"]
    assert "Traceback" not in swarm.daemons["node-1"].log


def test_an_engine_comes_back_after_our_manager_was_killed(local_swarm: Swarm, peer: Engine) -> None:
    swarm = local_swarm
    swarm.found()
    docker_cli(
        peer, "swarm", "join", "--token", worker_token(swarm),
        "--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1:2399", f"127.0.0.1:{swarm.port}",
    )  # fmt: skip
    node_id = foreign_node(swarm)["ID"]
    create = f"--name web --image redis:3.0.5 --instances 2 --constraint node.id=={node_id}"
    swarm.ok(f"service create {create} --wait", timeout=60)
    before = running_containers(peer)
    swarm.daemons["node-1"].kill()
    swarm.restart("node-1").wait_ready()

    def back() -> None:
        assert foreign_node(swarm)["Status"] == "READY"

    eventually(back, 30, "the engine found the manager again")
    swarm.ok("service update web --instances 3 --wait", timeout=60)
    assert set(before) < set(running_containers(peer))


def test_an_engine_that_joined_through_a_follower_finds_the_next_leader(peer: Engine) -> None:
    with managers(3) as swarm:
        leader, (through, other) = swarm.leader(), swarm.followers()
        address = f"127.0.0.1:{swarm.ports[through]}"
        docker_cli(
            peer, "swarm", "join", "--token", worker_token(swarm),
            "--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1:2399", address,
        )  # fmt: skip
        (node_id,) = {
            node.id for node in swarm.at(through).nodes() if "node-" not in node.description.hostname
        }
        refused = swarm.ctl_at(other, f"node promote {node_id}")
        assert (refused.code, "can be managers" in refused.err) == (1, True)
        create = f"--name web --image redis:3.0.5 --instances 2 --constraint node.id=={node_id}"
        swarm.ok_at(other, f"service create {create}")
        swarm.at(through).wait_running("web", 2, timeout=60)
        before = running_containers(peer)
        swarm.daemons[leader].kill()
        successor = swarm.leader(through)
        assert successor != leader

        def back() -> None:
            states = {node.id: node.status.state for node in swarm.at(successor).nodes()}
            assert states[node_id] == api.NodeStatus.READY

        eventually(back, 30, "the engine found the new leader")
        swarm.ok_at(successor, "service update web --instances 3")
        swarm.at(successor).wait_running("web", 3, timeout=60)
        assert set(before) < set(running_containers(peer))
