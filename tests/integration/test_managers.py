"""Managers come and go, are promoted and demoted, and every one of them answers."""

from collections.abc import Iterator

import pytest

from swarmkit.api import messages as api
from tests.integration.control import ids, runs
from tests.integration.harness import eventually, table
from tests.integration.managers import UNREACHABLE, Managers, managers

SLEEP = "--image local:1 --command sleep,1000 --restart-delay 200ms"
READY = api.NodeStatus.READY


@pytest.fixture
def trio_of_managers() -> Iterator[Managers]:
    with managers(3) as made:
        yield made


def manager_status(swarm: Managers, via: str) -> dict[str, str]:
    """Return the last column of ``node ls`` by name."""
    return {row["Name"]: row["Manager status"] for row in table(swarm.ok_at(via, "node ls"))}


def test_managers_of_a_swarm(trio_of_managers: Managers) -> None:
    swarm = trio_of_managers
    every_manager_answers_with_the_same(swarm)
    roles_change_while_the_daemons_run(swarm)
    a_demotion_that_would_lose_the_quorum_is_refused(swarm)


def every_manager_answers_with_the_same(swarm: Managers) -> None:
    """Joined with the manager token, all are REACHABLE, one has the star, and all forward."""
    names = ("node-1", "node-2", "node-3")

    def shown(via: str) -> None:
        leader = swarm.leader(via)
        star = {name: "REACHABLE *" if name == leader else "REACHABLE" for name in names}
        assert manager_status(swarm, via) == star

    for name in names:
        eventually(lambda name=name: shown(name), 10, f"{name} shows who leads")  # type: ignore[misc]
        swarm.ok_at(name, f"service create --name at-{name} {SLEEP}")
    for name in names:
        swarm.at(name).wait_running("at-node-3", 1)
        assert swarm.ok_at(name, "service ls -q") == swarm.ok_at("node-1", "service ls -q")
    refused = swarm.ctl_at("node-2", f"service create --name at-node-1 {SLEEP}")
    assert (refused.code, "name conflicts" in refused.err) == (1, True)


def roles_change_while_the_daemons_run(swarm: Managers) -> None:
    """Promote a worker, demote the leader, promote it back; the tasks notice nothing."""
    worker = swarm.join_worker("node-4").wait_ready()
    swarm.ok(f"service create --name everywhere {SLEEP} --mode global")
    before = swarm.at("node-1").wait_running("everywhere", 4)
    pid = worker.pid
    swarm.ok("node promote node-4 --wait")
    swarm.wait_members(4)
    assert swarm.ctl("node promote node-4").err == "Error: Node node-4 is already a manager\n"
    eventually(lambda: swarm.ok_at("node-4", "node ls -q"), 10, "the promoted node serves its socket")
    old = swarm.leader("node-4")
    swarm.ok_at("node-4", f"node demote {old}")
    swarm.wait_members(3, via="node-4")
    assert swarm.leader("node-4") != old
    eventually(lambda: is_worker(swarm, old), 10, f"{old} is a worker by its certificate")
    assert swarm.ctl_at("node-4", f"node demote {old}").err == f"Error: Node {old} is already a worker\n"
    assert manager_status(swarm, "node-4")[old] == ""
    refused = swarm.ctl_at(old, "node ls")
    assert (refused.code, "there is no such socket" in refused.err) == (1, True)
    swarm.ok_at("node-4", f"node promote {old}")
    swarm.wait_members(4, via="node-4")
    assert swarm.daemons["node-4"].pid == pid
    assert all(daemon.running for daemon in swarm.daemons.values())
    after = swarm.at("node-4").wait_running("everywhere", 4)
    assert {task.id: task.status.container.pid for task in after} == {
        task.id: task.status.container.pid for task in before
    }


def is_worker(swarm: Managers, name: str) -> None:
    assert "this node is no longer a manager" in swarm.daemons[name].log
    raft = swarm.folder / name / "raft"
    left = [path for path in raft.rglob("*") if path.is_file()]
    assert not left, left
    assert b"raft-dek" not in (swarm.folder / name / "certificates" / "swarm-node.key").read_bytes()


def a_demotion_that_would_lose_the_quorum_is_refused(swarm: Managers) -> None:
    """Of four managers two are down: none of the others may go, one that is down may."""
    leader = swarm.leader("node-4")
    lost = [name for name in ("node-2", "node-3", "node-1", "node-4") if name != leader][:1]
    for name in lost:
        swarm.daemons[name].kill()
        swarm.wait_reachability(name, UNREACHABLE, leader)
    assert manager_status(swarm, leader)[lost[0]] == "UNREACHABLE"
    swarm.ok_at(leader, f"node demote {lost[0]} --wait")
    swarm.wait_members(3, via=leader)
    down = next(name for name in swarm.followers(leader))
    swarm.daemons[down].kill()
    swarm.wait_reachability(down, UNREACHABLE, leader)
    other = next(name for name in swarm.followers(leader) if name != down)
    for name in (other, leader):
        refused = swarm.ctl_at(leader, f"node demote {name}")
        assert refused.code == 1
        assert "can't remove member from the raft: this would result in a loss of quorum" in refused.err
    refused = swarm.ctl_at(leader, f"node remove --force {down}")
    assert "It must be demoted to worker before removal" in refused.err
    swarm.ok_at(leader, f"node demote {down} --wait")
    swarm.wait_members(2, via=leader)
    swarm.ok_at(leader, f"node remove --force {down}")
    assert down not in manager_status(swarm, leader)
    comes_back_and_does_no_harm(swarm, down, leader)


def comes_back_and_does_no_harm(swarm: Managers, removed: str, leader: str) -> None:
    """A manager that was demoted and removed while it was down is refused wherever it knocks."""
    daemon = swarm.restart(removed)
    daemon.wait_for_log("this manager was removed from the raft group")
    daemon.wait_for_log("was removed from swarm")
    eventually(lambda: is_worker(swarm, removed), 10, f"{removed} has erased its data")
    assert removed not in manager_status(swarm, leader)
    assert "campaigning" not in daemon.log
    assert "Traceback" not in daemon.log


def test_tasks_run_on_when_the_leader_is_killed_and_workers_find_another_manager() -> None:
    with managers(3) as swarm:
        swarm.ok("cluster update --heartbeatperiod 2s")
        for name in ("node-4", "node-5"):
            swarm.join_worker(name).wait_ready()
        swarm.ok(f"service create --name web {SLEEP} --replicas 10")
        before = swarm.at("node-1").wait_running("web", 10)
        killed, (other, _) = swarm.leader(), swarm.followers()
        swarm.daemons[killed].kill()
        leader = swarm.leader(other)
        assert leader != killed
        control = swarm.at(leader)
        control.wait_node(killed, api.NodeStatus.DOWN)
        for name in swarm.daemons.keys() - {killed}:
            control.wait_node(name, READY)
        dead = control.node(killed).id
        kept = [task for task in before if task.node_id != dead]
        after = control.wait_tasks(
            "web", "all run elsewhere", lambda tasks: len([t for t in tasks if runs(t)]) == 10
        )
        assert ids(kept) <= ids(after)
        pids = {task.id: task.status.container.pid for task in after}
        assert all(pids[task.id] == task.status.container.pid for task in kept)
        swarm.restart(killed).wait_ready()
        swarm.wait_members(3, via=leader)

        def agreed() -> None:
            assert swarm.leader(killed) == swarm.leader(leader) == swarm.leader(other)

        eventually(agreed, 10, "all know the same leader")
