"""The connection to a manager: one channel, errors as sentences, names to objects."""

import contextlib
import os
import socket
import stat
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import click
import grpc

from swarmctl.base import Failure, settings
from swarmkit.api import control_pb2_grpc
from swarmkit.api import messages as api

Q = TypeVar("Q")
R = TypeVar("R")
T = TypeVar("T")

#: Longest wait for one answer in seconds; while a swarm elects a leader, calls wait.
CALL_TIMEOUT = 30.0
#: Longest wait for the manager to greet a new connection, in seconds.
CONNECT_TIMEOUT = 5.0
MAX_PATH_BYTES = 107
OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    # Go servers want an authority that is no path.
    ("grpc.default_authority", "localhost"),
    ("grpc.enable_http_proxy", 0),
]


def check_socket(path: str) -> None:
    """Look at the socket before gRPC does, whose words for its absence help nobody.

    Raises:
        Failure: it is missing, is no socket, may not be used, or nobody listens.
    """
    hint = "is swarmd running as a manager, and is --socket or SWARM_SOCKET right?"
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise Failure(f"the socket's path {path} is longer than {MAX_PATH_BYTES} bytes")
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise Failure(f"cannot connect to {path}: there is no such socket; {hint}") from None
    except OSError as error:
        raise Failure(f"cannot connect to {path}: {error.strerror}; {hint}") from None
    if not stat.S_ISSOCK(mode):
        raise Failure(f"cannot connect to {path}: it is not a socket; {hint}")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError as error:
            raise Failure(f"cannot connect to {path}: {error.strerror}; {hint}") from None


def status(error: grpc.RpcError) -> tuple[grpc.StatusCode | None, str]:
    """Return code and text of a failed call; the library's type for it is not public."""
    code = getattr(error, "code", None)
    details = getattr(error, "details", None)
    return (code() if callable(code) else None), str((details() if callable(details) else "") or "")


def sentence(error: grpc.RpcError, path: str) -> str:
    """Return what a failed call means, without gRPC's own words."""
    code, details = status(error)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"the manager at {path} did not answer in {CALL_TIMEOUT:.0f} s"
    if code is grpc.StatusCode.UNAVAILABLE and "ocket" in details:
        return f"lost the connection to the manager at {path}"
    if code is grpc.StatusCode.UNIMPLEMENTED and not details.strip():
        return f"what listens at {path} is not a manager of a swarm"
    return details or str(error)


class Client:
    """A connected manager."""

    def __init__(self, path: str, channel: grpc.Channel) -> None:
        self._path = path
        self.control = control_pb2_grpc.ControlStub(channel)

    def call(self, method: "grpc.UnaryUnaryMultiCallable[Q, R]", request: Q) -> R:
        """Call the manager.

        Raises:
            Failure: with the server's sentence, or one about the connection.
        """
        try:
            return method(request, timeout=CALL_TIMEOUT)
        except grpc.RpcError as error:
            raise Failure(sentence(error, self._path)) from error

    def find(self, method: "grpc.UnaryUnaryMultiCallable[Q, R]", request: Q) -> R | None:
        """Call a Get; None if there is no such object. Raises as ``call``."""
        try:
            return method(request, timeout=CALL_TIMEOUT)
        except grpc.RpcError as error:
            if status(error)[0] is grpc.StatusCode.NOT_FOUND:
                return None
            raise Failure(sentence(error, self._path)) from error

    def node(self, name: str) -> api.Node:
        """Find a node by id, host name or unique id prefix."""
        found = self.find(self.control.GetNode, api.GetNodeRequest(node_id=name))
        if found is not None:
            return found.node
        filters = api.ListNodesRequest.Filters
        return pick(
            "node",
            name,
            lambda: list(self.nodes(filters(names=[name]))),
            lambda: list(self.nodes(filters(id_prefixes=[name]))),
        )

    def nodes(self, filters: "api.ListNodesRequest.Filters | None" = None) -> list[api.Node]:
        """List nodes."""
        return list(self.call(self.control.ListNodes, api.ListNodesRequest(filters=filters)).nodes)

    def service(self, name: str) -> api.Service:
        """Find a service by id, name or unique id prefix."""
        found = self.find(self.control.GetService, api.GetServiceRequest(service_id=name))
        if found is not None:
            return found.service
        filters = api.ListServicesRequest.Filters
        return pick(
            "service",
            name,
            lambda: self.services(filters(names=[name])),
            lambda: self.services(filters(id_prefixes=[name])),
        )

    def services(self, filters: "api.ListServicesRequest.Filters | None" = None) -> list[api.Service]:
        """List services."""
        return list(self.call(self.control.ListServices, api.ListServicesRequest(filters=filters)).services)

    def cluster(self, name: str) -> api.Cluster:
        """Find the cluster by id, name or unique id prefix."""
        found = self.find(self.control.GetCluster, api.GetClusterRequest(cluster_id=name))
        if found is not None:
            return found.cluster
        filters = api.ListClustersRequest.Filters
        return pick(
            "cluster",
            name,
            lambda: self.clusters(filters(names=[name])),
            lambda: self.clusters(filters(id_prefixes=[name])),
        )

    def clusters(self, filters: "api.ListClustersRequest.Filters | None" = None) -> list[api.Cluster]:
        """List clusters: there is one."""
        return list(self.call(self.control.ListClusters, api.ListClustersRequest(filters=filters)).clusters)

    def task(self, task_id: str) -> api.Task:
        """Find a task by id or unique id prefix."""
        found = self.find(self.control.GetTask, api.GetTaskRequest(task_id=task_id))
        if found is not None:
            return found.task
        filters = api.ListTasksRequest.Filters
        return pick("task", task_id, lambda: [], lambda: self.tasks(filters(id_prefixes=[task_id])))

    def tasks(self, filters: "api.ListTasksRequest.Filters | None" = None) -> list[api.Task]:
        """List tasks."""
        return list(self.call(self.control.ListTasks, api.ListTasksRequest(filters=filters)).tasks)


def pick(kind: str, name: str, by_name: Callable[[], list[T]], by_prefix: Callable[[], list[T]]) -> T:
    """Return the one object of a name, or else of an id prefix.

    Raises:
        Failure: there is none, or more than one.
    """
    found = by_name() or by_prefix()
    if not found:
        raise Failure(f"{kind} {name} not found")
    if len(found) > 1:
        raise Failure(f"{kind} {name} is ambiguous ({len(found)} matches found): use the full id")
    return found[0]


@contextlib.contextmanager
def connect(context: click.Context) -> Iterator[Client]:
    """Connect to the manager that the global flags name.

    Raises:
        Failure: nobody answers there, or not as a manager.
    """
    path = settings(context).socket
    check_socket(path)
    channel = grpc.insecure_channel(f"unix:{os.path.abspath(path)}", OPTIONS)
    with channel:
        ready: Any = grpc.channel_ready_future(channel)
        try:
            ready.result(timeout=CONNECT_TIMEOUT)
        except grpc.FutureTimeoutError:
            raise Failure(f"what listens at {path} does not answer as a manager of a swarm") from None
        finally:
            ready.cancel()
        yield Client(path, channel)
