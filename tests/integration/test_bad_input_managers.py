"""Managers that cannot join, be promoted or start: a clear sentence each, and nothing is changed."""

import shutil
import socket
from collections.abc import Iterator

import pytest

from swarmkit.api import messages as api
from tests.integration.harness import Result, eventually, run
from tests.integration.managers import Managers, managers
from tests.ports import free_port


@pytest.fixture(scope="module")
def pair() -> Iterator[Managers]:
    with managers(2) as made:
        yield made


def swarmd(swarm: Managers, name: str, flags: str, timeout: float = 60) -> Result:
    """Run a daemon that is expected to end by itself."""
    return run(
        f"swarmd -d {swarm.folder}/{name} --hostname {name} --executor process"
        f" --listen-control-api {swarm.folder}/{name}.sock --listen-remote-api 127.0.0.1:{free_port()}"
        f" {flags}",
        timeout=timeout,
    )


def refused(result: Result, *texts: str) -> None:
    """Check that a daemon ended with one sentence and exit code 1."""
    assert result.code == 1, result.err
    last = result.err.strip().splitlines()[-1]
    for text in texts:
        assert text in last, last
    assert "level=error" in last
    assert "Traceback" not in result.err


def has_identity(swarm: Managers, name: str) -> bool:
    certificates = swarm.folder / name / "certificates"
    return any((certificates / file).exists() for file in ("swarm-node.crt", "swarm-node.key"))


def members(swarm: Managers) -> dict[str, int]:
    return {name: status.raft_id for name, status in swarm.standing("node-1").items()}


def test_two_managers_on_one_address(pair: Managers) -> None:
    before = members(pair)
    taken = f"127.0.0.1:{pair.ports['node-2']}"
    flags = f"--join-addr 127.0.0.1:{pair.ports['node-1']} --join-token {pair.token('manager')}"
    result = swarmd(pair, "twin", f"{flags} --advertise-remote-api {taken}")
    refused(result, f"the address {taken} belongs to the manager", "advertise another one")
    assert members(pair) == before
    nobody = f"127.0.0.1:{free_port()}"
    result = swarmd(pair, "nowhere", f"{flags} --advertise-remote-api {nobody}")
    refused(result, f"using its advertised address {nobody}", "nobody listens there")
    assert members(pair) == before


def test_a_join_through_a_manager_that_is_down(pair: Managers) -> None:
    before = members(pair)
    result = swarmd(pair, "late", f"--join-addr 127.0.0.1:{free_port()} --join-token {pair.token('manager')}")
    refused(result, "nobody listens there")
    assert not has_identity(pair, "late")
    assert members(pair) == before


def test_a_join_through_a_manager_that_does_not_lead(pair: Managers) -> None:
    follower = next(name for name in ("node-1", "node-2") if name != pair.leader())
    pair.join_manager("node-3", through=follower).wait_ready()
    pair.wait_members(3)
    pair.ok("node demote node-3 --wait")
    pair.wait_members(2)


def test_a_manager_token_after_its_rotation(pair: Managers) -> None:
    token = pair.token("manager")
    pair.ok("cluster update --rotate-join-token manager")
    result = swarmd(pair, "stale", f"--join-addr 127.0.0.1:{pair.ports['node-2']} --join-token {token}")
    refused(result, "A valid join token is necessary to join this cluster", "shows the tokens")
    assert not has_identity(pair, "stale")
    pair.forget_tokens()


def test_a_node_that_joins_twice(pair: Managers) -> None:
    """While it runs it is refused; once it has ended, the same command is no second joining."""
    running, before = pair.daemons["node-2"], members(pair)
    assert "--join-token" in running.command
    refused(run(running.command), "is in use by another swarmd")
    assert running.running
    running.kill()
    pair.restart("node-2").wait_ready()
    pair.wait_members(2)
    assert members(pair) == before
    names = [node.description.hostname for node in pair.at("node-1").nodes()]
    assert names.count("node-2") == 1


def test_a_promoted_node_whose_port_is_in_use_goes_on_as_a_worker_and_tries_again(pair: Managers) -> None:
    worker = pair.join_worker("node-5").wait_ready()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", pair.ports["node-5"]))
        taken.listen()
        pair.ok("node promote node-5")
        worker.wait_for_log("this node cannot be a manager yet")
        assert "is in use" in worker.log
        pair.at("node-1").wait_node("node-5", api.NodeStatus.READY)
        shown = [line for line in pair.ok("node ls").splitlines() if "node-5" in line]
        assert shown[0].split()[-1] == "UNKNOWN"
    pair.wait_members(3)
    pair.ok("node demote node-5 --wait")
    pair.wait_members(2)


def test_the_only_manager_without_its_log_does_not_begin_another_swarm(pair: Managers) -> None:
    with managers(1) as swarm:
        state = swarm.folder / "node-1"

        def remembers() -> None:
            assert (state / "state.json").exists()

        eventually(remembers, 10, "the node remembers its manager: itself")
        swarm.daemons["node-1"].kill()
        shutil.rmtree(state / "raft")
        kept = {path: path.read_bytes() for path in (state / "certificates").iterdir()}
        result = run(swarm.daemons["node-1"].command)
        refused(result, "its raft log is gone", "restore it from a backup")
        assert {path: path.read_bytes() for path in (state / "certificates").iterdir()} == kept
