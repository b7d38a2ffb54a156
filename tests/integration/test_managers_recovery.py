"""Swarms brought back from one manager, and managers that lost their log."""

import re
import shutil

from swarmkit.api import messages as api
from tests.integration.harness import Daemon, eventually, run
from tests.integration.managers import Managers, managers

SLEEP = "--image local:1 --command sleep,1000 --restart-delay 200ms"


def test_a_swarm_is_brought_back_from_one_manager_of_three() -> None:
    with managers(3) as swarm:
        swarm.ok("cluster update --heartbeatperiod 1s")
        swarm.join_worker("node-4", through="node-3").wait_ready()
        swarm.ok(f"service create --name web {SLEEP} --replicas 4")
        swarm.at("node-1").wait_running("web", 4)
        swarm.daemons["node-2"].kill()  # what is acknowledged now is on the survivor's disk
        for number in range(20):
            swarm.ok(f"service create --name kept-{number} --image a:1 --replicas 0")
        ids = swarm.ok("service ls -q")
        for name in ("node-1", "node-3"):
            swarm.daemons[name].kill()
        survivor = forced(swarm, "node-3")
        swarm.wait_members(1, via="node-3")
        assert swarm.ok_at("node-3", "service ls -q") == ids
        control = swarm.at("node-3")
        for lost in ("node-1", "node-2"):
            control.wait_node(lost, api.NodeStatus.DOWN)
        control.wait_node("node-4", api.NodeStatus.READY)
        control.wait_running("web", 4)
        old_members_are_told(swarm)
        assert "Traceback" not in survivor.log


def forced(swarm: Managers, name: str) -> Daemon:
    """Start a manager once with --force-new-cluster."""
    old = swarm.daemons[name]
    old.log_path.rename(old.log_path.with_suffix(".before"))
    command = re.sub(r"--join-addr \S+", "--force-new-cluster", re.sub(r"--join-token \S+", "", old.command))
    return swarm._start(name, command).wait_ready()


def old_members_are_told(swarm: Managers) -> None:
    """A manager that was left behind erases its log when it comes back, and does no harm."""
    back = swarm.restart("node-2")
    back.wait_for_log("this manager was removed from the raft group")
    eventually(lambda: erased(swarm, "node-2"), 20, "what it had is erased")
    assert swarm.leader("node-3") == "node-3"
    swarm.ok_at("node-3", "service create --name after --image a:1 --replicas 0")


def erased(swarm: Managers, name: str) -> None:
    assert not [path for path in (swarm.folder / name / "raft").rglob("*") if path.is_file()]


def test_forcing_needs_a_managers_state() -> None:
    with managers(1) as swarm:
        state = swarm.folder / "nothing"
        result = run(f"swarmd -d {state} --executor process --force-new-cluster")
        assert result.code == 1
        assert "--force-new-cluster brings a swarm back from a manager's state" in result.err
        assert "Traceback" not in result.err


def test_a_manager_that_lost_its_log_returns_under_another_raft_id() -> None:
    with managers(3) as swarm:
        before = swarm.standing("node-1")["node-3"].raft_id
        swarm.daemons["node-3"].kill()
        shutil.rmtree(swarm.folder / "node-3" / "raft")
        swarm.restart("node-3").wait_ready()
        swarm.wait_members(3)
        assert swarm.standing("node-1")["node-3"].raft_id != before
        assert len(swarm.standing("node-1")) == 3
        swarm.ok_at("node-3", "service create --name after --image a:1 --replicas 0")
