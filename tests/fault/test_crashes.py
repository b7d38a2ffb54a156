"""Daemons and tasks are killed under a swarm at work, which loses nothing and goes on."""

import contextlib
import itertools
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import grpc

from swarmkit.api import control_pb2_grpc
from swarmkit.api import messages as api
from tests.integration.control import Control, hosts, ids, runs
from tests.integration.harness import Daemon, Swarm, eventually
from tests.processes import alive, wait_gone
from tests.scale import SCALE

SLEEP = "--image local:1 --command sleep,1000 --restart-delay 200ms"
DOWN = api.NodeStatus.DOWN
READY = api.NodeStatus.READY
FAILED = api.TaskState.FAILED
RUNNING = api.TaskState.RUNNING
SHUTDOWN = api.TaskState.SHUTDOWN
#: What nodes and tasks are told anew by every report, though nothing about them has changed.
REPORTED = {"meta", "applied_at", "applied_by"}
#: Heartbeat period with which a node that lost its manager is back, at the latest eight seconds after that is
#: (contract/dispatcher-agent.md, backoff), before its grace is over.
PATIENT = "3s"


def start(swarm: Swarm, workers: int, period: str = "1s") -> Control:
    """Start a manager and workers with short heartbeats."""
    swarm.found()
    swarm.ok(f"cluster update --heartbeatperiod {period}")
    names = [f"node-{n}" for n in range(2, 2 + workers)]
    for daemon in [swarm.join(name) for name in names]:
        daemon.wait_ready()
    control = Control(swarm.socket)
    for name in ["node-1", *names]:
        control.wait_node(name, READY)
    return control


def restart_manager(swarm: Swarm) -> None:
    """Start the killed manager again and wait until every node is READY."""
    swarm.restart("node-1").wait_ready()
    control = Control(swarm.socket)
    for name in swarm.daemons:
        control.wait_node(name, READY)


def workloads(tasks: list[api.Task]) -> dict[str, tuple[str, int]]:
    """Return what tells the processes or containers of tasks from all others."""
    return {task.id: (task.status.container.container_id, task.status.container.pid) for task in tasks}


def without_reports(value: Any) -> Any:
    """Return an object shown as JSON without what reports about it change."""
    if isinstance(value, dict):
        return {key: without_reports(item) for key, item in value.items() if key not in REPORTED}
    return [without_reports(item) for item in value] if isinstance(value, list) else value


def shown(swarm: Swarm) -> dict[str, Any]:
    """Return all objects as swarmctl shows them: what operators wrote with its versions, the rest without."""
    objects = {noun: swarm.json(f"{noun} ls") for noun in ("cluster", "service")}
    objects["node"] = without_reports(swarm.json("node ls"))
    objects["task"] = without_reports(swarm.json("task ls -a"))
    for task in objects["task"]:
        if task["status"]["state"] == "PENDING":
            # Why it waits was something else while the nodes were not back yet.
            del task["status"]["timestamp"]
    return objects


def wait_shown(swarm: Swarm, wanted: dict[str, Any]) -> None:
    def look() -> None:
        found = shown(swarm)
        changed = [
            (old, new)
            for noun in wanted
            for old, new in zip(wanted[noun], found[noun], strict=False)
            if old != new
        ]
        assert not changed, changed
        assert found == wanted

    eventually(look, 30, "all objects are as they were")


def test_a_killed_worker_is_down_and_its_tasks_run_elsewhere(local_swarm: Swarm) -> None:
    control = start(local_swarm, 2)
    local_swarm.ok(f"service create --name web {SLEEP} --replicas 6")
    local_swarm.ok(f"service create --name all {SLEEP} --mode global")
    before = control.wait_running("web", 6)
    control.wait_running("all", 3)
    node = control.node("node-2").id
    lost = [task for task in before if task.node_id == node]
    assert len(lost) == 2
    local_swarm.daemons["node-2"].kill()
    killed = time.monotonic()
    down = control.wait_node("node-2", DOWN)
    # Three beats of 0.5 to 1.5 s each, and the time to write it.
    assert time.monotonic() - killed < 10 * SCALE
    assert down.status.message == "heartbeat failure"

    def elsewhere() -> list[api.Task]:
        # The tasks of a dead node count as running until the orchestrator has seen that it is dead.
        running = control.wait_running("web", 6)
        assert hosts(running, control) == ["node-1"] * 3 + ["node-3"] * 3
        return running

    after = eventually(elsewhere, 30, "the lost tasks run elsewhere")
    assert ids(before) - ids(after) == ids(lost)
    assert {task.slot for task in after} == set(range(1, 7))
    assert hosts(control.wait_running("all", 2), control) == ["node-1", "node-3"]
    # Nobody could tell the processes to end.
    assert all(alive(task.status.container.pid) for task in lost)

    local_swarm.restart("node-2").wait_ready()
    control.wait_node("node-2", READY)
    wait_gone([task.status.container.pid for task in lost])
    control.wait_tasks(
        "web",
        "the stale tasks are reported to be shut down",
        lambda tasks: all(t.status.state == SHUTDOWN for t in tasks if t.id in ids(lost)),
        every=True,
    )
    assert hosts(control.wait_running("all", 3), control) == ["node-1", "node-2", "node-3"]
    assert ids(control.tasks("web")) == ids(after)


def test_a_killed_manager_comes_back_with_everything(local_swarm: Swarm) -> None:
    control = start(local_swarm, 1, PATIENT)
    local_swarm.ok(f"service create --name web {SLEEP} --replicas 4 --label a=1 --env A=1,B=2")
    local_swarm.ok(f"service create --name all {SLEEP} --mode global --restart-max-attempts 3")
    local_swarm.ok("service create --name once --image x --command true --restart-condition none")
    local_swarm.ok(f"service create --name nowhere {SLEEP} --constraint node.labels.a==b")
    local_swarm.ok("node update node-2 --label disk=ssd")
    local_swarm.ok("cluster update --taskhistory 7 --certexpiry 100h")
    tasks = [*control.wait_running("web", 4), *control.wait_running("all", 2)]
    control.wait_tasks("nowhere", "explained", lambda found: bool(found and found[0].status.err))
    control.wait_tasks("once", "done", lambda found: found[0].desired_state == SHUTDOWN, every=True)
    before = shown(local_swarm)
    for _ in range(2):
        local_swarm.daemons["node-1"].kill()
        restart_manager(local_swarm)
        wait_shown(local_swarm, before)
        again = [*control.wait_running("web", 4), *control.wait_running("all", 2)]
        assert workloads(again) == workloads(tasks)
        assert all(alive(task.status.container.pid) for task in again)
    # It is at work again, not only there.
    local_swarm.ok("service update web --replicas 5")
    assert ids(tasks[:4]) < ids(control.wait_running("web", 5))
    local_swarm.ok("node update node-2 --label a=b")
    control.wait_running("nowhere", 1)


def test_everything_killed_at_once_comes_back_with_the_same_processes(local_swarm: Swarm) -> None:
    control = start(local_swarm, 1, PATIENT)
    local_swarm.ok(f"service create --name web {SLEEP} --replicas 4")
    tasks = control.wait_running("web", 4)
    for daemon in local_swarm.daemons.values():
        daemon.kill()
    for name in list(local_swarm.daemons):
        local_swarm.restart(name)
    for daemon in local_swarm.daemons.values():
        daemon.wait_ready()
    again = control.wait_running("web", 4)
    assert workloads(again) == workloads(tasks)
    assert all(alive(task.status.container.pid) for task in again)


def test_a_killed_worker_that_is_back_in_time_keeps_its_processes(local_swarm: Swarm) -> None:
    control = start(local_swarm, 1, "6s")
    local_swarm.ok(f"service create --name web {SLEEP} --replicas 2 --constraint node.hostname==node-2")
    first, second = control.wait_running("web", 2)
    control.wait_node("node-2", READY)
    local_swarm.daemons["node-2"].kill()
    # One ends while nobody looks: how, its supervisor has written down.
    os.kill(second.status.container.pid, signal.SIGTERM)
    wait_gone([second.status.container.pid])
    local_swarm.restart("node-2").wait_ready()
    tasks = control.wait_tasks(
        "web",
        "the one that ended was replaced",
        lambda found: len(found) == 2 and all(map(runs, found)) and second.id not in ids(found),
    )
    assert workloads([tasks[0]]) == workloads([first])
    assert alive(first.status.container.pid)
    (ended,) = [task for task in control.tasks("web", every=True) if task.id == second.id]
    assert (ended.status.state, ended.status.container.exit_code) == (FAILED, 143)


def test_a_manager_killed_during_an_update_goes_on_with_it(local_swarm: Swarm) -> None:
    control = start(local_swarm, 1, PATIENT)
    local_swarm.ok(
        f"service create --name web {SLEEP} --replicas 5 --update-parallelism 1 --update-delay 500ms"
    )
    control.wait_running("web", 5)
    local_swarm.ok("service update web --image local:2")

    def new(tasks: list[api.Task]) -> list[api.Task]:
        return [task for task in tasks if runs(task) and task.spec.container.image == "local:2"]

    updated = new(control.wait_tasks("web", "two are new", lambda tasks: len(new(tasks)) >= 2))
    local_swarm.daemons["node-1"].kill()
    restart_manager(local_swarm)
    tasks = control.wait_tasks("web", "all are new", lambda found: len(found) == len(new(found)) == 5, 30)
    assert workloads(updated).items() <= workloads(tasks).items()
    assert [task.slot for task in tasks] == [1, 2, 3, 4, 5]
    history = [task for task in control.tasks("web", every=True) if task.spec.container.image == "local:2"]
    assert ids(history) == ids(tasks)  # none was made twice


def test_an_update_goes_on_although_a_node_hangs(local_swarm: Swarm) -> None:
    control = start(local_swarm, 2)
    local_swarm.ok(f"service create --name web {SLEEP} --replicas 6 --update-parallelism 2")
    before = control.wait_running("web", 6)
    hanging = local_swarm.daemons["node-2"].pid
    os.kill(hanging, signal.SIGSTOP)
    try:
        local_swarm.ok("service update web --image local:2")
        after = control.wait_tasks(
            "web",
            "all are new",
            lambda tasks: (
                len(tasks) == 6 and all(runs(t) and t.spec.container.image == "local:2" for t in tasks)
            ),
            30,
        )
        assert "node-2" not in hosts(after, control)
        control.wait_node("node-2", DOWN)
    finally:
        os.kill(hanging, signal.SIGCONT)
    control.wait_node("node-2", READY)
    wait_gone([task.status.container.pid for task in before])
    assert ids(control.wait_running("web", 6)) == ids(after)
    assert local_swarm.daemons["node-2"].running
    assert control.service("web").update_status.state in (
        api.UpdateStatus.UPDATING,
        api.UpdateStatus.COMPLETED,
    )


def test_a_manager_stopped_in_order_serves_the_same_objects_again(local_swarm: Swarm) -> None:
    control = start(local_swarm, 1, PATIENT)
    local_swarm.ok(f"service create --name web {SLEEP} --replicas 4")
    before = control.wait_running("web", 4)
    services, clusters = local_swarm.json("service ls"), local_swarm.json("cluster ls")
    nodes = without_reports(local_swarm.json("node ls"))
    own = control.node("node-1").id
    assert local_swarm.daemons["node-1"].stop() == 0
    assert not local_swarm.socket.exists()
    # A node that is stopped takes its tasks with it, those of others run on.
    wait_gone([task.status.container.pid for task in before if task.node_id == own])
    assert all(alive(task.status.container.pid) for task in before if task.node_id != own)
    restart_manager(local_swarm)
    assert local_swarm.json("service ls") == services
    assert local_swarm.json("cluster ls") == clusters
    assert without_reports(local_swarm.json("node ls")) == nodes
    after = control.wait_running("web", 4)
    kept = [task for task in before if task.node_id != own]
    assert workloads(kept).items() <= workloads(after).items()
    assert all(alive(task.status.container.pid) for task in after)
    assert log_is_clean(local_swarm.daemons["node-1"])


class Writer(threading.Thread):
    """Creates, changes and removes services until the manager is gone, and keeps what was acknowledged.

    Attributes:
        labels: id of each service whose creation was acknowledged -> the label it must have, or None if it
            must be gone.
        doubtful: ids whose last change got no answer.
    """

    def __init__(self, socket: Path, name: str) -> None:
        super().__init__(name=name)
        self._socket = socket
        self.labels: dict[str, str | None] = {}
        self.doubtful: set[str] = set()

    def run(self) -> None:
        """Write until a call fails."""
        with grpc.insecure_channel(
            f"unix:{self._socket}", [("grpc.default_authority", "localhost")]
        ) as channel:
            stub = control_pb2_grpc.ControlStub(channel)
            with contextlib.suppress(grpc.RpcError):
                for number in itertools.count():
                    self._one(stub, number)

    def _one(self, stub: "control_pb2_grpc.ControlStub", number: int) -> None:
        spec = api.ServiceSpec(annotations=api.Annotations(name=f"{self.name}-{number}"))
        spec.task.container.image = "local"
        spec.replicated.replicas = 0
        made = stub.CreateService(api.CreateServiceRequest(spec=spec), timeout=10).service
        self.labels[made.id] = ""
        if number % 3 == 0:
            return
        self.doubtful.add(made.id)
        if number % 3 == 1:
            spec.annotations.labels["changed"] = "yes"
            request = api.UpdateServiceRequest(
                service_id=made.id, service_version=made.meta.version, spec=spec
            )
            stub.UpdateService(request, timeout=10)
            self.labels[made.id] = "yes"
        else:
            stub.RemoveService(api.RemoveServiceRequest(service_id=made.id), timeout=10)
            self.labels[made.id] = None
        self.doubtful.discard(made.id)


def test_a_killed_manager_keeps_every_write_it_acknowledged(local_swarm: Swarm) -> None:
    local_swarm.found()
    control = Control(local_swarm.socket)
    wanted: dict[str, str | None] = {}
    doubtful: set[str] = set()
    for life in range(3):
        writers = [Writer(local_swarm.socket, f"life-{life}-{n}") for n in range(6)]
        for writer in writers:
            writer.start()

        def enough(writers: list[Writer] = writers) -> None:
            assert sum(len(writer.labels) for writer in writers) > 150

        eventually(enough, 30, "the writers write", 0.01)
        local_swarm.daemons["node-1"].kill()
        for writer in writers:
            writer.join(20 * SCALE)
            assert not writer.is_alive()
            wanted |= writer.labels
            doubtful |= writer.doubtful
        restart_manager(local_swarm)
        services = control.ask("ListServices", api.ListServicesRequest()).services
        found = {service.id: service.spec.annotations.labels.get("changed", "") for service in services}
        for service_id, label in wanted.items():
            if service_id not in doubtful:
                assert found.get(service_id) == label
    assert None in wanted.values()
    assert "yes" in wanted.values()


def log_is_clean(daemon: Daemon) -> bool:
    """Tell whether a daemon logged neither an error nor a traceback."""
    return "level=error" not in daemon.log and "Traceback" not in daemon.log
