"""Nodes as an operator handles them: they join, pause, drain, leave; their tasks are local processes."""

from swarmkit.api import messages as api
from tests.integration.control import Control, hosts, ids, runs
from tests.integration.harness import Swarm, eventually, table

SLEEP = "--image local --command sleep,1000 --restart-delay 200ms"
DOWN = api.NodeStatus.DOWN
ORPHANED = api.TaskState.ORPHANED


def row_of(swarm: Swarm, name: str) -> dict[str, str]:
    """Return a node's row of ``node ls``."""
    (row,) = [row for row in table(swarm.ok("node ls")) if row["Name"] == name]
    return row


def test_a_paused_node_keeps_its_tasks_and_gets_no_more(trio: Swarm, control: Control) -> None:
    trio.ok(f"service create --name web {SLEEP} --replicas 3")
    trio.ok(f"service create --name all --mode global {SLEEP}")
    before = control.wait_running("web", 3)
    everywhere = control.wait_running("all", 3)
    assert trio.ok("node pause node-2") == ""
    try:
        assert row_of(trio, "node-2")["Availability"] == "PAUSE"
        trio.ok("service update web --replicas 7")
        after = control.wait_running("web", 7)
        assert ids(before) < ids(after)
        assert hosts(after, control) == ["node-1"] * 3 + ["node-2"] + ["node-3"] * 3
        assert ids(control.wait_running("all", 3)) == ids(everywhere)
        again = trio.ctl("node pause node-2")
        assert (again.code, again.err.strip()) == (1, "Error: Node node-2 was already paused")
    finally:
        trio.ok("node activate node-2")
    trio.ok("service update web --replicas 9")
    assert hosts(control.wait_running("web", 9), control) == ["node-1"] * 3 + ["node-2"] * 3 + ["node-3"] * 3


def test_a_drained_node_loses_its_tasks_until_it_is_active_again(trio: Swarm, control: Control) -> None:
    trio.ok(f"service create --name web {SLEEP} --replicas 3")
    trio.ok(f"service create --name all --mode global {SLEEP}")
    before = {task.slot: task for task in control.wait_running("web", 3)}
    control.wait_running("all", 3)
    trio.ok("node drain node-3")
    try:
        after = control.wait_tasks(
            "web",
            "moved",
            lambda tasks: len(tasks) == 3 and all(map(runs, tasks)) and "node-3" not in hosts(tasks, control),
        )
        gone = control.node("node-3").id
        for task in after:
            assert (task.id == before[task.slot].id) == (before[task.slot].node_id != gone)
        control.wait_running("all", 2)
        assert table(trio.ok("node inspect node-3").split("\n\n")[1]) == []
    finally:
        trio.ok("node activate node-3")
    assert len(hosts(control.wait_running("all", 3), control)) == 3
    # Nothing moves back by itself.
    assert "node-3" not in hosts(control.tasks("web"), control)


def test_labels_are_replaced_as_a_whole(trio: Swarm, control: Control) -> None:
    trio.ok("node update node-2 --label a=1,b=2")
    assert "Node Labels               : a=1 b=2" in trio.ok("node inspect node-2").splitlines()
    same = trio.ctl("node update node-2 --label b=2 --label a=1")
    assert (same.code, same.err.strip()) == (1, "Error: No change for node node-2")
    trio.ok("node update node-2 --label c=3")
    assert dict(control.node("node-2").spec.annotations.labels) == {"c": "3"}
    wrong = trio.ctl("node update node-2 --label nothing")
    assert wrong.code == 2
    assert "malformed label for node: nothing" in wrong.err


def test_a_new_node_gets_the_tasks_of_global_services(local_swarm: Swarm) -> None:
    local_swarm.found()
    control = Control(local_swarm.socket)
    local_swarm.ok(f"service create --name all --mode global {SLEEP}")
    (first,) = control.wait_running("all", 1)
    token = local_swarm.json("cluster inspect")["root_ca"]["join_tokens"]["worker"]
    local_swarm.join("node-2", f"--join-token {token}").wait_ready()
    tasks = control.wait_running("all", 2)
    assert first.id in ids(tasks)
    assert hosts(tasks, control) == ["node-1", "node-2"]
    assert row_of(local_swarm, "node-2")["Membership"] == "ACCEPTED"


def test_a_node_is_removed_when_it_is_down_and_joins_anew(local_swarm: Swarm) -> None:
    local_swarm.found()
    worker = local_swarm.join("node-2").wait_ready()
    control = Control(local_swarm.socket)
    removed = control.wait_node("node-2", api.NodeStatus.READY).id
    refused = local_swarm.ctl("node rm node-2")
    assert (refused.code, refused.out) == (1, "")
    assert "is not down and can't be removed" in refused.err
    manager = local_swarm.ctl("node rm -f node-1")
    assert manager.code == 1
    assert "must be demoted to worker before removal" in manager.err
    local_swarm.ok("cluster update --heartbeatperiod 500ms")
    assert worker.stop() == 0
    control.wait_node("node-2", DOWN)
    assert row_of(local_swarm, "node-2")["Status"] == "DOWN"
    assert local_swarm.ok("node rm node-2") == ""
    assert [node.description.hostname for node in control.nodes()] == ["node-1"]
    # The same machine is a new node once its old identity is gone.
    local_swarm.join("node-2b", "--hostname node-2").wait_ready()
    assert control.wait_node("node-2", api.NodeStatus.READY).id != removed


def test_a_node_removed_by_force_is_locked_out(local_swarm: Swarm) -> None:
    local_swarm.found()
    worker = local_swarm.join("node-2").wait_ready()
    control = Control(local_swarm.socket)
    control.wait_node("node-2", api.NodeStatus.READY)
    local_swarm.ok(f"service create --name web {SLEEP} --replicas 2")
    before = control.wait_running("web", 2)
    removed = control.node("node-2").id
    assert local_swarm.ok("node rm --force node-2") == ""
    assert [row["Name"] for row in table(local_swarm.ok("node ls"))] == ["node-1"]
    tasks = control.wait_tasks(
        "web",
        "the lost task was replaced",
        lambda found: len(found) == 2 and all(map(runs, found)) and hosts(found, control) == ["node-1"] * 2,
    )
    assert len(ids(before) & ids(tasks)) == 1
    (lost,) = [task for task in control.tasks("web", every=True) if task.node_id == removed]
    assert lost.status.state == ORPHANED
    worker.wait_for_log("was removed from swarm")
    assert worker.running
    worker.kill()
    again = local_swarm.restart("node-2")
    again.wait_for_log("was removed from swarm")

    def still_alone() -> None:
        assert [node.description.hostname for node in control.nodes()] == ["node-1"]

    eventually(still_alone, 5, "the node is not let in again")
    assert again.stop() == 0
