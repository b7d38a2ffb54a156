"""The connection to a manager: one channel, errors as sentences, names to objects."""

import contextlib
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import click
import grpc

from swarmctl.base import Failure, settings
from swarmkit.api import ca_pb2_grpc, control_pb2_grpc
from swarmkit.api import messages as api

Q = TypeVar("Q")
R = TypeVar("R")
T = TypeVar("T")

#: Longest wait for one answer in seconds; while a swarm elects a leader, calls wait.
CALL_TIMEOUT = 30.0
#: Longest wait for the manager to greet a new connection, in seconds.
CONNECT_TIMEOUT = 5.0
MAX_PATH_BYTES = 107
#: Pause between looks at a listener whose backlog is full, in seconds.
BACKLOG_PAUSE = 0.1
HINT = "is swarmd running as a manager, and is --socket or SWARM_SOCKET right?"
#: gRPC's codes and words for a connection that ended before the answer.
LOST_CODES = frozenset(
    (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.CANCELLED,
    )
)
LOST_SIGNS = ("Socket closed", "Stream removed", "Connection reset", "Broken pipe", "GOAWAY", "RST_STREAM")
#: What servers say that know nothing of the control API, ours never: the library's own words and Go's.
FOREIGN_SIGNS = ("Method not found", "unknown service", "unknown method")
#: What managers say, ours with ABORTED, the original's with UNKNOWN, when an object has changed meanwhile.
OUT_OF_SEQUENCE = "update out of sequence"
OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    # Go servers want an authority that is no path.
    ("grpc.default_authority", "localhost"),
    ("grpc.enable_http_proxy", 0),
]


class OutOfSequence(Failure):
    """The object has changed since it was read; nothing was written."""


def check_socket(path: str) -> None:
    """Look at the socket before gRPC does, whose words for its absence help nobody.

    Raises:
        Failure: it is missing, is no socket, may not be used, or nobody listens.
    """
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise Failure(f"the socket's path {path} is longer than {MAX_PATH_BYTES} bytes")
    if not path or path != path.encode("utf-8", "replace").decode():
        raise Failure(f"{path!a} is no path of a socket; {HINT}")
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISSOCK(mode):
            raise Failure(f"cannot connect to {path}: it is not a socket; {HINT}")
        _probe(path)
    except OSError as error:
        raise Failure(f"cannot connect to {path}: {_reason(error)}") from None


def _probe(path: str) -> None:
    """Connect once; while the backlog is full, try again for a while."""
    deadline = time.monotonic() + CONNECT_TIMEOUT
    while True:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.setblocking(False)
            try:
                probe.connect(path)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
        time.sleep(BACKLOG_PAUSE)


def _reason(error: OSError) -> str:
    match error:
        case FileNotFoundError():
            return f"there is no such socket; {HINT}"
        case ConnectionRefusedError():
            return f"nobody listens there; {HINT}"
        case PermissionError():
            return "permission denied: only the user who runs swarmd, and root, may use its socket"
        case BlockingIOError():
            return f"what listens there takes no connection within {CONNECT_TIMEOUT:.0f} s"
        case _:
            return f"{error.strerror}; {HINT}"


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
    if code in LOST_CODES and any(sign in details for sign in LOST_SIGNS):
        return f"lost the connection to the manager at {path}: whether the command took effect is not known"
    if code is grpc.StatusCode.UNIMPLEMENTED and details.startswith(FOREIGN_SIGNS):
        return f"what listens at {path} is not a manager of a swarm"
    return details or f"the manager at {path} failed without saying why ({code.name if code else 'no code'})"


class Client:
    """A connected manager."""

    def __init__(self, path: str, channel: grpc.Channel) -> None:
        self._path = path
        self.control = control_pb2_grpc.ControlStub(channel)
        self.ca = ca_pb2_grpc.CAStub(channel)

    @property
    def socket_is_gone(self) -> bool:
        """Whether the manager has removed its socket: its node stops, or is a worker by now."""
        return not os.path.exists(self._path)

    def call(self, method: "grpc.UnaryUnaryMultiCallable[Q, R]", request: Q) -> R:
        """Call the manager.

        Raises:
            OutOfSequence: an update came with a version that is not the present one.
            Failure: with the server's sentence, or one about the connection.
        """
        try:
            return method(request, timeout=CALL_TIMEOUT)
        except grpc.RpcError as error:
            words = sentence(error, self._path)
            failure = OutOfSequence if OUT_OF_SEQUENCE in words else Failure
            raise failure(words) from error

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
        check_name("node", name)
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
        check_name("service", name)
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
        check_name("cluster", name)
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

    def unlock_key(self) -> bytes:
        """Return the key that locked managers need to start; nothing while they are not locked."""
        return self.call(self.ca.GetUnlockKey, api.GetUnlockKeyRequest()).unlock_key

    def task(self, task_id: str) -> api.Task:
        """Find a task by id or unique id prefix."""
        check_name("task", task_id)
        found = self.find(self.control.GetTask, api.GetTaskRequest(task_id=task_id))
        if found is not None:
            return found.task
        filters = api.ListTasksRequest.Filters
        return pick("task", task_id, lambda: [], lambda: self.tasks(filters(id_prefixes=[task_id])))

    def tasks(self, filters: "api.ListTasksRequest.Filters | None" = None) -> list[api.Task]:
        """List tasks."""
        return list(self.call(self.control.ListTasks, api.ListTasksRequest(filters=filters)).tasks)


def check_name(kind: str, name: str) -> None:
    """Refuse an empty name, often a variable of a script that is not set.

    Raises:
        Failure: it is empty.
    """
    if not name:
        raise Failure(f"{kind} ID missing: the name given is empty")


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
