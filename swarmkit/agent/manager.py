"""The managers, as a session sees them: the calls it makes, and how it comes by a connection.

``GrpcManager`` is the only place of the agent that speaks gRPC.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

import grpc
import grpc.aio

from swarmkit.api import messages as api
from swarmkit.api.dispatcher_pb2_grpc import DispatcherStub
from swarmkit.api.logbroker_pb2_grpc import LogBrokerStub
from swarmkit.net.authorization import says_removed
from swarmkit.net.channels import describe_rpc_error

_T = TypeVar("_T")
_Request = TypeVar("_Request")

NOT_FOUND = "NOT_FOUND"
UNIMPLEMENTED = "UNIMPLEMENTED"
UNAVAILABLE = "UNAVAILABLE"
CANCELLED = "CANCELLED"
PERMISSION_DENIED = "PERMISSION_DENIED"


class ManagerError(Exception):
    """A call to a manager failed, or a stream ended.

    Attributes:
        code: name of the gRPC status code; ``OK`` for a stream that ended well but should have gone on.
        text: what the manager said, or a sentence on why there is no connection to it.
        details: the library's own words for that.
    """

    def __init__(self, code: str, text: str, details: str = "") -> None:
        super().__init__(f"{text} ({code})" if text else code)
        self.code = code
        self.text = text
        self.details = details or text

    @property
    def untrusted_server(self) -> bool:
        """Whether the server's certificate was refused, as far as the library's text tells."""
        # All roots are named alike: a leaf of another one fails by its signature.
        signs = ("CERTIFICATE_VERIFY_FAILED", "BAD_SIGNATURE", "x509")
        return self.code == UNAVAILABLE and any(sign in self.details for sign in signs)

    @property
    def node_removed(self) -> bool:
        """Whether the manager says that this node was removed from the swarm (contract/security.md, 9)."""
        return self.code == PERMISSION_DENIED and says_removed(self.text)


class Connection(Protocol):
    """A connection to one manager."""

    @property
    def channel(self) -> grpc.aio.Channel:
        """The channel; large messages must be allowed on the receiving side."""
        ...

    @property
    def address(self) -> str:
        """Who is at the other end, for the log."""
        ...

    async def close(self, success: bool) -> None:
        """Close the channel; ``success`` is False if the session on it failed."""
        ...


class Broker(Protocol):
    """Chooses managers. Implemented by the node layer."""

    async def select(self) -> Connection:
        """Choose a manager and return a connection to it, which may still be connecting.

        May wait until there is any manager; raises what it likes when there is none: the agent backs off.
        """
        ...

    def managers(self, listed: Sequence[api.WeightedPeer]) -> None:
        """Take a manager's list: observe each with its weight, and forget every peer that is not in it.

        Every entry has an address; the list may be empty, which leaves no peer.
        """
        ...


class Manager(Protocol):
    """The calls of one session. Every failure is a ``ManagerError``."""

    def session(self, request: api.SessionRequest) -> AsyncGenerator[api.SessionMessage, None]:
        """Open the Session stream."""
        ...

    async def heartbeat(self, request: api.HeartbeatRequest) -> api.HeartbeatResponse:
        """Send one heartbeat."""
        ...

    def assignments(self, request: api.AssignmentsRequest) -> AsyncGenerator[api.AssignmentsMessage, None]:
        """Open the Assignments stream."""
        ...

    def tasks(self, request: api.TasksRequest) -> AsyncGenerator[api.TasksMessage, None]:
        """Open the Tasks stream, which older managers have."""
        ...

    async def update_task_status(self, request: api.UpdateTaskStatusRequest) -> None:
        """Report statuses."""
        ...

    def subscriptions(self) -> AsyncGenerator[api.SubscriptionMessage, None]:
        """Open the stream of log subscriptions."""
        ...

    async def publish_logs(self, messages: Sequence[api.PublishLogsMessage]) -> None:
        """Send log messages in one stream and end it."""
        ...


Connect = Callable[[Connection], Manager]


class GrpcManager:
    """``Manager`` over a connection's channel."""

    def __init__(self, connection: Connection) -> None:
        self._address = connection.address
        self._dispatcher = DispatcherStub(connection.channel)
        self._log_broker = LogBrokerStub(connection.channel)

    def session(self, request: api.SessionRequest) -> AsyncGenerator[api.SessionMessage, None]:
        """Open the Session stream."""
        return _stream(self._address, self._dispatcher.Session(request))

    async def heartbeat(self, request: api.HeartbeatRequest) -> api.HeartbeatResponse:
        """Send one heartbeat."""
        return await _unary(self._address, self._dispatcher.Heartbeat(request))

    def assignments(self, request: api.AssignmentsRequest) -> AsyncGenerator[api.AssignmentsMessage, None]:
        """Open the Assignments stream."""
        return _stream(self._address, self._dispatcher.Assignments(request))

    def tasks(self, request: api.TasksRequest) -> AsyncGenerator[api.TasksMessage, None]:
        """Open the Tasks stream, which older managers have."""
        return _stream(self._address, self._dispatcher.Tasks(request))

    async def update_task_status(self, request: api.UpdateTaskStatusRequest) -> None:
        """Report statuses."""
        await _unary(self._address, self._dispatcher.UpdateTaskStatus(request))

    def subscriptions(self) -> AsyncGenerator[api.SubscriptionMessage, None]:
        """Open the stream of log subscriptions."""
        return _stream(self._address, self._log_broker.ListenSubscriptions(api.ListenSubscriptionsRequest()))

    async def publish_logs(self, messages: Sequence[api.PublishLogsMessage]) -> None:
        """Send log messages in one stream and end it."""
        await _unary(self._address, self._log_broker.PublishLogs(iter(messages)))


@contextmanager
def _mapped(address: str) -> Iterator[None]:
    try:
        yield
    except grpc.aio.AioRpcError as error:
        text = describe_rpc_error(error, address)
        raise ManagerError(error.code().name, text, error.details() or "") from error
    except grpc.aio.UsageError as error:
        raise ManagerError(CANCELLED, str(error)) from error
    except asyncio.CancelledError as error:
        # A channel that is closed cancels its calls, and that looks like a cancellation of the caller.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise ManagerError(CANCELLED, "the connection was closed") from error


async def _unary(address: str, call: Awaitable[_T]) -> _T:
    with _mapped(address):
        return await call


async def _stream(address: str, call: "grpc.aio.UnaryStreamCall[_Request, _T]") -> AsyncGenerator[_T, None]:
    """Yield what the server sends; closing the generator cancels the call."""
    with _mapped(address):
        try:
            async for message in call:
                yield message
        finally:
            call.cancel()
