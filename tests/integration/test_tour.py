"""The tour of the README, its commands as written, on real containers."""

import contextlib
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.engine import Engine
from tests.integration.control import Control
from tests.integration.harness import Daemon, Result, eventually, run, table

pytestmark = pytest.mark.docker

FIRST = "swarmd -d /tmp/node-1 --listen-control-api /tmp/manager1/swarm.sock --hostname node-1"
SECOND = "swarmd -d /tmp/node-2 --hostname node-2 --join-addr 127.0.0.1:4242"
THIRD = "swarmd -d /tmp/node-3 --hostname node-3 --join-addr 127.0.0.1:4242"
ENV = {"SWARM_SOCKET": "/tmp/manager1/swarm.sock"}
FOLDERS = [Path(f"/tmp/node-{n}") for n in (1, 2, 3)]
ID = re.compile(r"^[0-9a-z]{25}$")
TASK_COLUMNS = ["Task ID", "Service", "Instance", "Image", "Desired State", "Last State", "Node"]


def ctl(command: str) -> Result:
    result = run(command, ENV)
    assert result.code == 0, result.err
    assert result.err == ""
    return result


def tasks(service: str = "redis") -> list[dict[str, str]]:
    _, found, rows = ctl(f"swarmctl service inspect {service}").out.partition("\n\n")
    assert found, f"{service} has no task yet"
    return table(rows)


def all_running(count: int, image: str, timeout: float = 60) -> list[dict[str, str]]:
    def check() -> list[dict[str, str]]:
        rows = tasks()
        assert len(rows) == count
        assert [row["Instance"] for row in rows] == [str(n) for n in range(1, count + 1)]
        assert all(row["Last State"].startswith("RUNNING ") for row in rows), rows
        assert all(row["Image"] == image and row["Desired State"] == "RUNNING" for row in rows), rows
        return rows

    return eventually(check, timeout, f"{count} tasks of {image} run")


@pytest.fixture(scope="module")
def nodes(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Daemon]]:
    for folder in FOLDERS:
        assert not folder.exists(), f"{folder} exists: the tour wants to start without it"
    logs = tmp_path_factory.mktemp("logs")
    env = {"DOCKER_HOST": engine.url}
    daemons = [Daemon(c, logs / f"{n}.log", env) for n, c in enumerate((FIRST, SECOND, THIRD), 1)]
    try:
        for daemon in daemons:
            daemon.start().wait_ready()
        yield daemons
        with contextlib.suppress(AssertionError):
            ctl("swarmctl service rm redis")
        codes = [daemon.stop() for daemon in reversed(daemons)]
        assert codes == [0, 0, 0]
    finally:
        for daemon in daemons:
            daemon.kill()
        for folder in FOLDERS:
            shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree("/tmp/manager1", ignore_errors=True)


def test_1_node_ls_shows_three_nodes_and_the_leader(nodes: list[Daemon]) -> None:
    def check() -> list[dict[str, str]]:
        rows = table(ctl("swarmctl node ls").out)
        assert sorted(row["Name"] for row in rows) == ["node-1", "node-2", "node-3"]
        assert all(row["Status"] == "READY" for row in rows), rows
        return rows

    rows = eventually(check, 10, "three nodes are ready")
    assert list(rows[0]) == ["ID", "Name", "Membership", "Status", "Availability", "Manager status"]
    assert all(ID.match(row["ID"]) for row in rows)
    assert [row["ID"] for row in rows] == sorted(row["ID"] for row in rows)
    assert {row["Membership"] for row in rows} == {"ACCEPTED"}
    assert {row["Availability"] for row in rows} == {"ACTIVE"}
    assert {row["Name"]: row["Manager status"] for row in rows} == {
        "node-1": "REACHABLE *",
        "node-2": "",
        "node-3": "",
    }


def test_2_create_prints_the_id_alone_and_ls_shows_it(nodes: list[Daemon]) -> None:
    created = ctl("swarmctl service create --name redis --image redis:3.0.5")
    assert created.out.endswith("\n")
    service_id = created.out.strip()
    assert ID.match(service_id)
    listed = ctl("swarmctl service ls").lines
    assert listed == [
        f"{'ID':<25}  Name   Image        Instances",
        f"{'--':<25}  ----   -----        ---------",
        f"{service_id}  redis  redis:3.0.5  1",
    ]


def test_3_inspect_shows_the_block_and_the_task(nodes: list[Daemon]) -> None:
    (row,) = all_running(1, "redis:3.0.5")
    assert list(row) == TASK_COLUMNS
    assert ID.match(row["Task ID"])
    assert row["Service"] == "redis"
    assert row["Node"] in {"node-1", "node-2", "node-3"}
    assert re.match(r"RUNNING (now|\d+ seconds? ago)$", row["Last State"])
    service_id = table(ctl("swarmctl service ls").out)[0]["ID"]
    assert ctl("swarmctl service inspect redis").lines[:7] == [
        f"ID                : {service_id}",
        "Name              : redis",
        "Instances         : 1",
        "Template",
        " Container",
        "  Image           : redis:3.0.5",
        "",
    ]


def test_4_scaling_keeps_the_first_task_and_spreads_the_others(nodes: list[Daemon]) -> None:
    (before,) = tasks()
    assert ID.match(ctl("swarmctl service update redis --instances 6").out.strip())
    rows = all_running(6, "redis:3.0.5")
    assert rows[0]["Task ID"] == before["Task ID"]
    assert Counter(row["Node"] for row in rows) == {"node-1": 2, "node-2": 2, "node-3": 2}


def test_5_every_task_has_its_container(nodes: list[Daemon], engine: Engine) -> None:
    rows = {row["Task ID"]: row for row in tasks()}
    with contextlib.closing(docker.DockerClient(base_url=engine.url)) as client:
        found = client.containers.list(filters={"label": "com.docker.swarm.service.name=redis"})
        by_task = {c.labels["com.docker.swarm.task.id"]: c for c in found}
        assert set(by_task) == set(rows)
        for task_id, container in by_task.items():
            assert container.name == f"redis.{rows[task_id]['Instance']}.{task_id}"
            assert container.image is not None
            assert container.image.tags == ["redis:3.0.5"]


def test_6_a_new_image_replaces_all_tasks_at_once(nodes: list[Daemon]) -> None:
    before = {row["Task ID"] for row in tasks()}
    ctl("swarmctl service update redis --image redis:3.0.6")
    rows = all_running(6, "redis:3.0.6")
    assert not before & {row["Task ID"] for row in rows}
    assert ctl("swarmctl service inspect redis").lines[5] == "  Image           : redis:3.0.6"


def test_7_update_options_pace_the_update(nodes: list[Daemon]) -> None:
    ctl("swarmctl service update redis --image redis:3.0.7 --update-parallelism 2 --update-delay 10s")

    def count() -> int:
        return sum(
            row["Image"] == "redis:3.0.7" and row["Last State"].startswith("RUNNING") for row in tasks()
        )

    def two_and_no_more() -> None:
        assert count() == 2

    eventually(two_and_no_more, 15, "the first two tasks run the new image")
    all_running(6, "redis:3.0.7", 60)
    # By the nodes' own times: how long it takes to ask for them says nothing about the pace.
    states = [task.status for task in Control(Path(ENV["SWARM_SOCKET"])).tasks("redis")]
    began = sorted(status.timestamp.ToNanoseconds() / 1e9 for status in states)
    assert len(began) == 6
    assert all(later - earlier >= 10 for earlier, later in zip(began, began[2:], strict=False)), began


def test_8_drain_moves_the_tasks_and_slots_keep_their_numbers(nodes: list[Daemon]) -> None:
    before = {row["Instance"]: row for row in tasks()}
    drained = ctl("swarmctl node drain node-1")
    assert drained.out == ""

    def moved() -> None:
        rows = all_running(6, "redis:3.0.7")
        assert {row["Node"] for row in rows} == {"node-2", "node-3"}

    eventually(moved, 60, "all tasks run elsewhere")
    listed = {row["Name"]: row for row in table(ctl("swarmctl node ls").out)}
    assert listed["node-1"]["Availability"] == "DRAIN"
    for row in tasks():
        was = before[row["Instance"]]
        assert (row["Task ID"] == was["Task ID"]) == (was["Node"] != "node-1")
    ctl("swarmctl node activate node-1")
