"""The control API asked directly: a look takes milliseconds, where swarmctl as a process takes half a second.

Tests give their commands through swarmctl and watch what becomes of them through this.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import grpc

from swarmkit.api import control_pb2_grpc
from swarmkit.api import messages as api
from tests.integration.harness import eventually
from tests.scale import SCALE

#: Longest wait for an answer, in seconds.
CALL_TIMEOUT = 10.0 * SCALE
RUNNING = api.TaskState.RUNNING


class Control:
    """Looks at a swarm through a manager's socket; every look is a connection of its own.

    A manager that does not answer is an ``AssertionError``, so that ``eventually`` asks again.
    """

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    def ask(self, method: str, request: Any) -> Any:
        """Call one method of the control API."""
        with grpc.insecure_channel(
            f"unix:{self._socket}", [("grpc.default_authority", "localhost")]
        ) as channel:
            try:
                call = getattr(control_pb2_grpc.ControlStub(channel), method)
                return call(request, timeout=CALL_TIMEOUT)
            except grpc.RpcError as error:
                raise AssertionError(f"{method}: {error}") from error

    def service(self, name: str) -> api.Service:
        """Return the service of a name."""
        filters = api.ListServicesRequest.Filters(names=[name])
        found = list[api.Service](self.ask("ListServices", api.ListServicesRequest(filters=filters)).services)
        assert len(found) == 1, f"{len(found)} services are named {name}"
        return found[0]

    def remove_services(self) -> None:
        """Remove all services and wait until their tasks are gone."""
        for service in self.ask("ListServices", api.ListServicesRequest()).services:
            self.ask("RemoveService", api.RemoveServiceRequest(service_id=service.id))

        def look() -> None:
            left = list(self.ask("ListTasks", api.ListTasksRequest()).tasks)
            assert not left, "\n".join(map(describe, left))

        eventually(look, 30, "the tasks of removed services are gone", 0.05)

    def node(self, name: str) -> api.Node:
        """Return the node of a host name."""
        found = [node for node in self.nodes() if node.description.hostname == name]
        assert len(found) == 1, f"{len(found)} nodes are named {name}"
        return found[0]

    def nodes(self) -> list[api.Node]:
        """Return all nodes."""
        return list(self.ask("ListNodes", api.ListNodesRequest()).nodes)

    def tasks(self, service: str, every: bool = False) -> list[api.Task]:
        """Return the tasks of a service by slot, those still wanted or every one, oldest first in a slot."""
        filters = api.ListTasksRequest.Filters(service_ids=[self.service(service).id])
        found = self.ask("ListTasks", api.ListTasksRequest(filters=filters)).tasks
        kept = [task for task in found if every or task.desired_state <= RUNNING]
        return sorted(kept, key=lambda task: (task.slot, task.meta.created_at.ToNanoseconds()))

    def tasks_of(self, service_id: str) -> list[api.Task]:
        """Return every task of a service that may be gone."""
        filters = api.ListTasksRequest.Filters(service_ids=[service_id])
        return list(self.ask("ListTasks", api.ListTasksRequest(filters=filters)).tasks)

    def wait_tasks(
        self,
        service: str,
        what: str,
        check: Callable[[list[api.Task]], bool],
        timeout: float = 30,
        every: bool = False,
    ) -> list[api.Task]:
        """Wait until the tasks of a service pass a check, and return them."""

        def look() -> list[api.Task]:
            tasks = self.tasks(service, every)
            assert check(tasks), "\n".join(map(describe, tasks))
            return tasks

        return eventually(look, timeout, f"{service}: {what}", 0.05)

    def wait_running(self, service: str, count: int, timeout: float = 30) -> list[api.Task]:
        """Wait until exactly ``count`` tasks of a service are wanted and all of them run; return them."""
        return self.wait_tasks(
            service,
            f"{count} tasks run",
            lambda tasks: len(tasks) == count and all(runs(task) for task in tasks),
            timeout,
        )

    def wait_node(self, name: str, state: "api.NodeStatus.State.ValueType", timeout: float = 30) -> api.Node:
        """Wait until a node is in a state, and return it."""

        def look() -> api.Node:
            node = self.node(name)
            assert node.status.state == state, api.NodeStatus.State.Name(node.status.state)
            return node

        return eventually(look, timeout, f"{name} is {api.NodeStatus.State.Name(state)}", 0.05)


def runs(task: api.Task) -> bool:
    """Tell whether a task is wanted and runs."""
    return task.desired_state == RUNNING and task.status.state == RUNNING


def describe(task: api.Task) -> str:
    """Return a task in one line."""
    states = f"{api.TaskState.Name(task.desired_state)}/{api.TaskState.Name(task.status.state)}"
    return f"{task.slot} {task.id} on {task.node_id}: {states} {task.status.message} {task.status.err}"


def ids(tasks: Iterable[api.Task]) -> set[str]:
    """Return the ids of tasks."""
    return {task.id for task in tasks}


def hosts(tasks: Iterable[api.Task], control: Control) -> list[str]:
    """Return the host names of the nodes that tasks are on, sorted."""
    names = {node.id: node.description.hostname for node in control.nodes()}
    return sorted(names.get(task.node_id, "") for task in tasks)
