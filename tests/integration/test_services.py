"""Services as an operator handles them, on three nodes whose tasks are local processes."""

import os
import signal
from pathlib import Path

import pytest

from swarmkit.api import messages as api
from tests.integration.control import Control, hosts, ids, runs
from tests.integration.harness import Swarm, eventually, table
from tests.processes import alive, wait_gone
from tests.scale import SCALE

SLEEP = "--image local --command sleep,1000"
FAILED = api.TaskState.FAILED
COMPLETE = api.TaskState.COMPLETE
PENDING = api.TaskState.PENDING
READY = api.TaskState.READY
SHUTDOWN = api.TaskState.SHUTDOWN


def pid(task: api.Task) -> int:
    assert task.status.container.pid
    return task.status.container.pid


def directories(swarm: Swarm, task_id: str) -> list[Path]:
    """Return what the nodes keep of a task's process."""
    return list(swarm.folder.glob(f"*/worker/processes/{task_id}"))


# Create, look, remove


def test_a_service_runs_until_it_is_removed(trio: Swarm, control: Control) -> None:
    created = trio.ok(f"service create --name web {SLEEP} --instances 3 --label a=1 --env X=1,Y=2")
    tasks = control.wait_running("web", 3)
    assert {task.slot for task in tasks} == {1, 2, 3}
    assert hosts(tasks, control) == ["node-1", "node-2", "node-3"]
    (row,) = table(trio.ok("service ls"))
    assert row == {"ID": created, "Name": "web", "Image": "local", "Instances": "3"}
    block = trio.ok("service inspect web").split("\n\n")[0].splitlines()
    assert [" ".join(line.split()) for line in block] == [
        f"ID : {created}", "Name : web", "Labels", "a : 1", "Instances : 3",
        "Template", "Container", "Image : local", 'Command : "sleep 1000"', "Env : [X=1, Y=2]",
    ]  # fmt: skip
    pids = [pid(task) for task in tasks]
    assert all(map(alive, pids))
    assert trio.ok("service rm web") == "web"
    assert trio.ok("service ls -q") == ""
    wait_gone(pids)

    def nothing_left() -> None:
        assert control.tasks_of(created) == []
        assert [directory for task in tasks for directory in directories(trio, task.id)] == []

    eventually(nothing_left, 10, "tasks and their directories are gone")
    missing = trio.ctl("service inspect web")
    assert (missing.code, missing.out, missing.err.strip()) == (1, "", "Error: service web not found")


def test_several_services_are_removed_by_name_id_and_prefix(trio: Swarm, control: Control) -> None:
    numbers = [trio.ok(f"service create --name s{n} {SLEEP}") for n in range(3)]
    arguments = ["s0", numbers[1], numbers[2][:12]]
    assert trio.ok(f"service rm {' '.join(arguments)}").split() == arguments
    assert trio.ok("service ls -q") == ""


def test_scaling_keeps_the_tasks_that_stay(trio: Swarm, control: Control) -> None:
    trio.ok(f"service create --name web {SLEEP} --replicas 2")
    two = control.wait_running("web", 2)
    trio.ok("service update web --instances 5")
    five = control.wait_running("web", 5)
    assert ids(two) < ids(five)
    assert [task.slot for task in five] == [1, 2, 3, 4, 5]
    trio.ok("service update web --replicas 2")
    left = control.wait_running("web", 2)
    assert ids(left) < ids(five)
    # No node has two tasks while another has none.
    assert len(set(hosts(left, control))) == 2
    wait_gone([pid(task) for task in five if task.id not in ids(left)])
    assert not control.service("web").HasField("update_status")


def test_scaled_to_zero_a_service_stays_and_comes_back(trio: Swarm, control: Control) -> None:
    created = trio.ok(f"service create --name web {SLEEP} --replicas 2")
    pids = [pid(task) for task in control.wait_running("web", 2)]
    trio.ok("service update web --replicas 0")
    wait_gone(pids)

    def no_tasks() -> None:
        assert control.tasks_of(created) == []

    eventually(no_tasks, 10, "the tasks are reaped")
    assert table(trio.ok("service ls"))[0]["Instances"] == "0"
    assert "Task ID" not in trio.ok("service inspect web")
    trio.ok("service update web --replicas 1")
    assert [task.slot for task in control.wait_running("web", 1)] == [1]


def test_instances_and_replicas_are_the_same_flag(trio: Swarm, control: Control) -> None:
    both = trio.ctl(f"service create --name web {SLEEP} --instances 2 --replicas 3")
    assert both.code == 2
    assert "--instances and --replicas mean the same" in both.err
    wrong = trio.ctl(f"service create --name web {SLEEP} --mode global --instances 2")
    assert wrong.code == 2
    assert "--instances can only be specified in --mode replicated" in wrong.err
    assert trio.ok("service ls -q") == ""


# Failing tasks


def test_a_task_whose_process_dies_is_replaced_in_its_slot(trio: Swarm, control: Control) -> None:
    trio.ok(f"service create --name web {SLEEP} --replicas 2 --restart-delay 200ms")
    first, second = control.wait_running("web", 2)
    os.kill(pid(first), signal.SIGKILL)
    control.wait_tasks("web", "the first was replaced", lambda tasks: first.id not in ids(tasks))
    replacement, same = control.wait_running("web", 2)
    assert same.id == second.id
    assert replacement.slot == first.slot
    (history,) = [task for task in control.tasks("web", every=True) if task.id == first.id]
    assert history.status.state == FAILED
    assert history.status.container.exit_code == 137
    assert history.status.err == "task: non-zero exit (137)"
    shown = trio.ok(f"task inspect {first.id}")
    assert "ExitCode" in shown
    assert "task: non-zero exit (137)" in shown
    assert len(table(shown.split("===>")[1])) == 2


@pytest.mark.parametrize(
    ("condition", "command", "replaced"),
    [
        ("none", "false", False),
        ("failure", "true", False),
        ("failure", "false", True),
        ("any", "true", True),
    ],
)
def test_the_restart_condition_decides_on_a_replacement(
    trio: Swarm, control: Control, condition: str, command: str, replaced: bool
) -> None:
    trio.ok(
        f"service create --name web --image local --command {command}"
        f" --restart-condition {condition} --restart-delay 100ms"
    )
    state = FAILED if command == "false" else COMPLETE
    control.wait_tasks(
        "web",
        "the task ended",
        lambda tasks: any((t.status.state, t.desired_state) == (state, SHUTDOWN) for t in tasks),
        every=True,
    )
    if replaced:
        control.wait_tasks("web", "it ran again", lambda tasks: len(tasks) >= 3, every=True)
        return
    # The decision is made with the task's end in one transaction: there is nothing to wait for.
    assert len(control.tasks("web", every=True)) == 1


def test_restarts_end_after_the_attempts(trio: Swarm, control: Control) -> None:
    trio.ok(
        "service create --name web --image local --command false"
        " --restart-max-attempts 2 --restart-delay 100ms"
    )
    tasks = control.wait_tasks(
        "web",
        "three tasks, given up",
        lambda tasks: len(tasks) == 3 and all(task.desired_state == SHUTDOWN for task in tasks),
        every=True,
    )
    assert {task.slot for task in tasks} == {1}
    # A new spec version starts the count again.
    trio.ok("service update web --env A=1 --update-on-failure continue")
    control.wait_tasks(
        "web",
        "three tasks of the new spec",
        lambda tasks: (
            sum(bool(task.spec.container.env) for task in tasks) == 3
            and all(task.desired_state == SHUTDOWN for task in tasks)
        ),
        every=True,
    )


def test_attempts_older_than_the_window_do_not_count(trio: Swarm, control: Control) -> None:
    trio.ok(
        "service create --name slow --image local --command sleep,1.2"
        " --restart-max-attempts 1 --restart-window 1s --restart-delay 0s"
    )
    trio.ok(
        "service create --name quick --image local --command false"
        " --restart-max-attempts 1 --restart-window 1h --restart-delay 0s"
    )
    seen: set[str] = set()

    def restarted_beyond_the_attempts() -> None:
        seen.update(ids(control.tasks("slow", every=True)))
        assert len(seen) >= 4

    eventually(restarted_beyond_the_attempts, 30, "a task that outlives the window is always restarted")
    control.wait_tasks(
        "quick",
        "given up",
        lambda tasks: len(tasks) == 2 and all(task.desired_state == SHUTDOWN for task in tasks),
        every=True,
    )


def test_a_replacement_waits_out_the_restart_delay(trio: Swarm, control: Control) -> None:
    delay = 3 * SCALE
    trio.ok(f"service create --name web {SLEEP} --restart-delay {delay}s")
    (task,) = control.wait_running("web", 1)
    os.kill(pid(task), signal.SIGKILL)
    control.wait_tasks(
        "web",
        "the replacement is ready and waits",
        lambda tasks: len(tasks) == 1 and tasks[0].desired_state == tasks[0].status.state == READY,
    )
    (old,) = [t for t in control.tasks("web", every=True) if t.id == task.id]
    (new,) = control.wait_running("web", 1)
    waited = new.status.timestamp.ToNanoseconds() - old.status.timestamp.ToNanoseconds()
    assert waited >= delay * 1e9


def test_a_removed_task_is_replaced(trio: Swarm, control: Control) -> None:
    trio.ok(f"service create --name web {SLEEP} --replicas 2")
    first, second = control.wait_running("web", 2)
    assert trio.ok(f"task rm {first.id}") == first.id
    tasks = control.wait_tasks(
        "web", "a new first task", lambda found: len(found) == 2 and first.id not in ids(found)
    )
    assert second.id in ids(tasks)
    assert {task.slot for task in control.wait_running("web", 2)} == {1, 2}
    wait_gone([pid(first)])
    gone = trio.ctl(f"task inspect {first.id}")
    assert (gone.code, gone.err.strip()) == (1, f"Error: task {first.id} not found")


def test_the_history_of_a_slot_is_trimmed(trio: Swarm, control: Control) -> None:
    trio.ok("cluster update --taskhistory 2")
    trio.ok(f"service create --name web {SLEEP} --restart-delay 0s")
    pids: list[int] = []
    seen: list[str] = []
    for _ in range(4):
        (task,) = control.wait_tasks(
            "web",
            "a new task runs",
            lambda found: len(found) == 1 and runs(found[0]) and found[0].id not in seen,
        )
        seen.append(task.id)
        pids.append(pid(task))
        os.kill(pid(task), signal.SIGKILL)
    tasks = control.wait_tasks(
        "web",
        "two are kept, and the newest runs",
        lambda found: len(found) == 2 and runs(found[1]) and found[1].id not in seen,
        every=True,
    )
    assert tasks[0].id == seen[-1]
    assert len(table(trio.ok("task ls -a"))) == 2
    assert len(table(trio.ok("task ls"))) == 1

    def directories_gone() -> None:
        assert [d for task_id in seen[:3] for d in directories(trio, task_id)] == []

    eventually(directories_gone, 10, "the nodes forget trimmed tasks")
    trio.ok("cluster update --taskhistory 5")


# Placement


def test_constraints_choose_the_nodes(trio: Swarm, control: Control) -> None:
    trio.ok(f"service create --name on {SLEEP} --replicas 3 --constraint 'node.hostname == node-2'")
    trio.ok(f"service create --name off {SLEEP} --replicas 4 --constraint 'node.hostname!=node-2'")
    assert hosts(control.wait_running("on", 3), control) == ["node-2"] * 3
    assert hosts(control.wait_running("off", 4), control) == ["node-1", "node-1", "node-3", "node-3"]
    for wrong, why in (("node.hostname = a", "expected one operator"), ("1ab==a", "is invalid")):
        refused = trio.ctl(f"service create --name bad {SLEEP} --constraint '{wrong}'")
        assert refused.code == 1
        assert why in refused.err


def test_labels_of_nodes_place_and_displace_tasks(trio: Swarm, control: Control) -> None:
    trio.ok(
        f"service create --name web {SLEEP} --replicas 2 --constraint node.labels.disk==ssd"
        " --restart-delay 200ms"
    )
    control.wait_tasks(
        "web",
        "explained",
        lambda tasks: len(tasks) == 2 and all("constraints" in task.status.err for task in tasks),
    )
    assert trio.ok("node update node-3 --label disk=ssd,zone=a") == ""
    assert hosts(control.wait_running("web", 2), control) == ["node-3", "node-3"]
    trio.ok("node update node-2 --label disk=ssd")
    trio.ok("node update node-3 --label zone=a")
    moved = control.wait_tasks(
        "web",
        "the tasks moved",
        lambda tasks: len(tasks) == 2 and all(map(runs, tasks)) and hosts(tasks, control) == ["node-2"] * 2,
    )
    assert [task.slot for task in moved] == [1, 2]
    trio.ok("node update node-2 --label zone=b")


def test_a_reservation_that_fits_nowhere_is_explained(trio: Swarm, control: Control) -> None:
    trio.ok(f"service create --name big {SLEEP} --memory-reservation 1000g")
    trio.ok(f"service create --name wide {SLEEP} --cpu-reservation 100")
    words = "insufficient resources on 3 nodes"
    for name in ("big", "wide"):
        (task,) = control.wait_tasks(name, "explained", lambda tasks: bool(tasks and tasks[0].status.err))
        assert task.status.state == PENDING
        assert task.status.err == f"no suitable node ({words})"
    assert words in trio.ok("service inspect -v big")
    assert words in trio.ok(f"task inspect {task.id}")
    rows = table(trio.ok("task ls"))
    assert [row["Last State"].split()[0] for row in rows] == ["PENDING", "PENDING"]
    assert [row["Node"] for row in rows] == ["", ""]
    trio.ok("service update big --memory-reservation 4m")
    control.wait_running("big", 1)


def test_the_limit_per_node_is_kept(trio: Swarm, control: Control) -> None:
    trio.ok(f"service create --name web {SLEEP} --replicas 4 --replicas-max-per-node 1")
    tasks = control.wait_tasks(
        "web", "three run", lambda found: sum(map(runs, found)) == 3 and any(t.status.err for t in found)
    )
    assert hosts([task for task in tasks if runs(task)], control) == ["node-1", "node-2", "node-3"]
    (left,) = [task for task in tasks if not runs(task)]
    assert "max replicas per node" in left.status.err


# Waiting


def test_wait_returns_when_the_service_has_converged(trio: Swarm, control: Control) -> None:
    created = trio.ctl(f"service create --name web {SLEEP} --replicas 3 --wait", timeout=30)
    assert created.code == 0
    assert created.out.strip() == control.service("web").id
    assert created.err.splitlines()[-1] == "3/3 running"
    tasks = control.tasks("web")
    assert all(map(runs, tasks))
    # The tasks fit the new placement where they are, and stay.
    placed = trio.ctl("service update web --constraint node.hostname!=x --wait", timeout=30)
    assert (placed.code, placed.err.splitlines()[-1]) == (0, "3/3 running")
    assert ids(control.tasks("web")) == ids(tasks)


def test_wait_counts_the_nodes_of_a_global_service(trio: Swarm, control: Control) -> None:
    everywhere = trio.ctl(f"service create --name all {SLEEP} --mode global --wait", timeout=30)
    assert (everywhere.code, everywhere.err.splitlines()[-1]) == (0, "3/3 running")
    nowhere = trio.ctl(
        f"service create --name none {SLEEP} --mode global --constraint node.labels.x==y --wait", timeout=30
    )
    assert (nowhere.code, nowhere.err.splitlines()[-1]) == (0, "0/0 running")


def test_wait_says_why_a_service_cannot_converge(trio: Swarm, control: Control) -> None:
    failing = trio.ctl(
        "service create --name bad --image local --command no-such-program --restart-delay 100ms --wait",
        timeout=30,
    )
    assert failing.code == 1
    assert failing.out.strip() == control.service("bad").id
    last = failing.err.strip().splitlines()[-1]
    assert last.startswith("Error: the service does not converge: bad.1: ")
    assert "no-such-program: No such file or directory" in last
    assert "Usage" not in failing.err
    given_up = trio.ctl(
        "service create --name once --image local --command true --restart-condition none --wait", timeout=30
    )
    assert given_up.code == 1
    assert given_up.err.strip().splitlines()[-1] == (
        "Error: the service does not converge: once.1: the task ended by itself, with exit code 0"
    )


def test_wait_ends_at_its_time_limit(trio: Swarm, control: Control) -> None:
    trio.ok(f"service create --name big {SLEEP} --memory-reservation 1000g")
    control.wait_tasks("big", "explained", lambda tasks: any(task.status.err for task in tasks))
    late = trio.ctl("service update big --label a=1 --wait --wait-timeout 1s", timeout=15)
    assert late.code == 1
    assert late.out.strip() == control.service("big").id
    lines = late.err.strip().splitlines()
    assert lines[-1] == "Error: the service has not converged in time: 0/1 running"
    assert "big.1: no suitable node (insufficient resources on 3 nodes)" in lines


# Forms of output


def test_quiet_prints_ids_and_json_the_objects(trio: Swarm, control: Control) -> None:
    created = trio.ok(f"service create --name web {SLEEP} --replicas 2")
    tasks = control.wait_running("web", 2)
    nodes = control.nodes()
    cluster = trio.ok("cluster ls -q")
    assert trio.ok("service ls -q") == created
    assert set(trio.ok("task ls -q").split()) == ids(tasks)
    assert set(trio.ok("node ls -q").split()) == {node.id for node in nodes}
    assert [service["id"] for service in trio.json("service ls")] == [created]
    listed = {task["id"]: task for task in trio.json("task ls")}
    assert set(listed) == ids(tasks)
    assert {task["status"]["state"] for task in listed.values()} == {"RUNNING"}
    assert {node["description"]["hostname"] for node in trio.json("node ls")} == {
        "node-1",
        "node-2",
        "node-3",
    }
    assert [found["id"] for found in trio.json("cluster ls")] == [cluster]
    one = trio.json("service inspect web")
    assert one["spec"]["annotations"]["name"] == "web"
    assert {task["id"] for task in one["tasks"]} == ids(tasks)
    assert trio.json(f"task inspect {tasks[0].id}")["slot"] == "1"
    assert trio.json(f"node inspect {nodes[0].id}")["id"] == nodes[0].id
    assert trio.json("cluster inspect")["spec"]["annotations"]["name"] == "default"


def test_names_give_way_to_ids(trio: Swarm, control: Control) -> None:
    trio.ok(f"service create --name web {SLEEP}")
    (task,) = control.wait_running("web", 1)
    (row,) = table(trio.ok("-n task ls"))
    assert row["Service"] == f"{task.service_id}.1"
    assert row["Node"] == task.node_id


def test_inspect_of_one_instance_shows_all_its_tasks(trio: Swarm, control: Control) -> None:
    trio.ok(f"service create --name web {SLEEP} --replicas 2 --restart-delay 0s")
    first, second = control.wait_running("web", 2)
    os.kill(pid(second), signal.SIGKILL)
    control.wait_tasks("web", "replaced", lambda tasks: second.id not in ids(tasks))
    control.wait_running("web", 2)
    rows = table(trio.ok("service inspect web -i 2").split("\n\n")[1])
    assert [row["Instance"] for row in rows] == ["2", "2"]
    assert rows[1]["Task ID"] == second.id
    assert rows[0]["Last State"].startswith("RUNNING")
    assert rows[1]["Last State"].startswith("FAILED")
    rows = table(trio.ok("service inspect web --instance 1").split("\n\n")[1])
    assert [row["Task ID"] for row in rows] == [first.id]
    everything = table(trio.ok("service inspect -a web").split("\n\n")[1])
    assert len(everything) == 3
