"""The manager's API: two inner gRPC servers, who may call them, and the gateways in front.

Every handler is wrapped once: the wrapper finds the peer of the connection, authorises the call by the
table, binds ``current_caller()``, maps errors to statuses, and counts.
"""

import asyncio
import enum
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import grpc

from swarmkit.ca.credentials import Credentials, CredentialsHolder
from swarmkit.clock import Clock
from swarmkit.log import get_logger
from swarmkit.net.authorization import TABLE, authorize
from swarmkit.net.caller import Caller, as_caller
from swarmkit.net.door import Connection, Door, private_directory
from swarmkit.net.errors import RpcError, permission_denied
from swarmkit.net.gateway import ControlGateway, RemoteGateway
from swarmkit.net.limits import Limits

log = get_logger(__name__)

#: Largest request (contract/dispatcher-agent.md, 1); answers are not limited.
MAX_RECEIVE_BYTES = 4 * 2**20
#: How long calls in flight may go on after ``stop`` (contract/dispatcher-agent.md, 1).
STOP_GRACE_SECONDS = 8.0
#: How long handlers may take to end once they are cancelled.
_CANCEL_SECONDS = 1.0
#: RPCs in flight on one connection without a certificate: a joiner has one or two.
ANONYMOUS_CALLS = 16
#: Longest error text on the wire: it travels in a header, and peers limit those to 8 KiB.
_MAX_ERROR_TEXT = 2000
_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_RECEIVE_BYTES),
    ("grpc.max_send_message_length", -1),
    # Peers ping as they like, with or without calls; the original's never expect to be punished for it.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 0),
    ("grpc.http2.max_ping_strikes", 0),
    # A peer that vanished without a word (its machine lost power) is noticed within 140 s.
    ("grpc.keepalive_time_ms", 120_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)
_UNSERVED_TEXTS = {
    "/docker.swarmkit.v1.RaftMembership/Join": (
        "this manager does not speak the raft protocol of the original SwarmKit:"
        " a node of the original can be a worker of this swarm, not a manager"
    ),
}

if TYPE_CHECKING:  # the stubs make these generic, the classes are not
    _Handler = grpc.RpcMethodHandler[Any, Any]
    _Context = grpc.aio.ServicerContext[Any, Any]
_Call = Callable[[Any, Any], Awaitable[Any]]


class _Side(enum.Enum):
    """The two ways in; the value names the inner server's socket."""

    REMOTE = "remote"
    LOCAL = "local"


class _Collector:
    """Stands in for a server where a generated function registers a servicer."""

    def __init__(self) -> None:
        self.handlers: dict[str, _Handler] = {}

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Ignore them: the same handlers come by name."""

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Any]) -> None:
        """Take the handlers of one service."""
        self.handlers |= {f"/{service_name}/{method}": handler for method, handler in method_handlers.items()}


class _Methods(grpc.GenericRpcHandler):
    """Full method names to wrapped handlers; a name that is not here is answered UNIMPLEMENTED by gRPC."""

    def __init__(self) -> None:
        self.handlers: dict[str, _Handler] = {}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "_Handler | None":
        """Return the handler of one call."""
        return self.handlers.get(handler_call_details.method)


class ApiServer:
    """Serves the manager's RPCs on the remote port and on the control socket.

    Order of use: ``add`` all servicers, ``start``, then ``listen_remote`` and ``listen_control`` as wanted,
    finally ``stop``. All on the event loop.
    """

    def __init__(
        self,
        credentials: CredentialsHolder,
        clock: Clock,
        *,
        is_blacklisted: Callable[[str], bool] = lambda _: False,
        advertise_address: str = "",
        limits: Limits | None = None,
        stop_grace_seconds: float = STOP_GRACE_SECONDS,
    ) -> None:
        """Take what serving needs.

        Args:
            credentials: the manager's own; their O is the cluster id, and they are the identity of callers on
                the control socket.
            clock: time of the gateways.
            is_blacklisted: tells whether a node id was removed from the swarm; by default none was.
            advertise_address: ``host:port`` that callers on the control socket appear to come from; by
                default the remote port's address.
            limits: bounds of the gateways.
            stop_grace_seconds: how long calls in flight may go on after ``stop``.
        """
        self._credentials = credentials
        self._clock = clock
        self._is_blacklisted = is_blacklisted
        self._advertise_address = advertise_address
        self._limits = limits
        self._grace = stop_grace_seconds
        self._directory: Path | None = None
        self._doors: dict[_Side, Door] = {}
        self._methods = {side: _Methods() for side in _Side}
        self._servers: list[grpc.aio.Server] = []
        self._remote: RemoteGateway | None = None
        self._control: ControlGateway | None = None
        self._counts: Counter[tuple[str, str]] = Counter()
        self._local: tuple[Credentials, Caller] | None = None

    @property
    def counts(self) -> Mapping[tuple[str, str], int]:
        """Calls ended so far by (full method name, status name); bounded by the table times 17 statuses."""
        return self._counts

    def add(
        self,
        register: Callable[[Any, Any], None],
        servicer: object,
        *,
        remote: bool = True,
        local: bool = True,
    ) -> None:
        """Serve ``servicer``. Call before ``start``; a later servicer replaces the methods of an earlier one.

        Args:
            register: the generated ``add_XServicer_to_server``.
            servicer: the object with the handlers; what it does not override is answered UNIMPLEMENTED.
            remote: serve it on the remote port.
            local: serve it on the control socket.

        Raises:
            ValueError: a method has no entry in the authorisation table.
        """
        collector = _Collector()
        register(servicer, collector)
        for method, handler in collector.handlers.items():
            if method not in TABLE:
                raise ValueError(f"{method} has no entry in the authorisation table: it cannot be served")
            if getattr(_behaviour(handler), "__module__", "").endswith("_pb2_grpc"):
                continue  # not overridden: the generated base class would raise NotImplementedError
            for side, wanted in ((_Side.REMOTE, remote), (_Side.LOCAL, local)):
                if wanted:
                    self._methods[side].handlers[method] = self._wrap(method, side, handler)

    async def start(self) -> None:
        """Start the inner servers. Nobody reaches them before a gateway listens.

        Call ``stop`` even if this fails.
        """
        self._directory = private_directory()
        for side in _Side:
            methods = self._methods[side]
            for method in TABLE.keys() - methods.handlers.keys():
                methods.handlers[method] = self._unserved(method, side)
            self._doors[side] = Door(self._directory, side.value)
            server = grpc.aio.server(options=_OPTIONS)
            server.add_generic_rpc_handlers((methods,))
            server.add_insecure_port(f"unix:{self._doors[side].path}")
            self._servers.append(server)
            await server.start()

    async def listen_remote(self, address: str) -> RemoteGateway:
        """Open the remote port.

        Raises:
            ListenError: it cannot be had; the text says why.
        """
        gateway = RemoteGateway(
            address, self._doors[_Side.REMOTE], self._credentials, self._clock, self._limits
        )
        try:
            await gateway.start()
        except BaseException:
            await gateway.close()
            raise
        self._remote = gateway
        return gateway

    async def listen_control(self, path: Path) -> ControlGateway:
        """Open the control socket.

        Raises:
            ListenError: it cannot be had; the text says why.
        """
        gateway = ControlGateway(path, self._doors[_Side.LOCAL], self._credentials, self._clock, self._limits)
        try:
            await gateway.start()
        except BaseException:
            await gateway.close()
            raise
        self._control = gateway
        return gateway

    async def stop(self) -> None:
        """Take no more calls, let those in flight end within the grace period, then cut every connection.

        May be called twice.
        """
        gateways = [gateway for gateway in (self._remote, self._control) if gateway is not None]
        for gateway in gateways:
            await gateway.stop_accepting()
        stopping = [asyncio.ensure_future(server.stop(self._grace)) for server in self._servers]
        late = await _wait(stopping, self._grace + _CANCEL_SECONDS)
        for gateway in gateways:
            await gateway.close()
        if late:
            log.warning("calls in flight did not end when they were cancelled; their connections are cut")
            for task in await _wait(late, _CANCEL_SECONDS):
                task.cancel()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def _wrap(self, method: str, side: _Side, handler: "_Handler") -> "_Handler":
        """Return ``handler`` with the wrapper around its behaviour, of the same kind."""
        call = _streamed(_behaviour(handler)) if handler.response_streaming else _behaviour(handler)

        async def serve(request: Any, context: "_Context") -> Any:
            return await self._serve(method, side, call, request, context)

        make = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[handler.request_streaming, handler.response_streaming]
        return make(serve, handler.request_deserializer, handler.response_serializer)

    def _unserved(self, method: str, side: _Side) -> "_Handler":
        """Refuse a call of the contract that is not served here, to those who may call it."""
        text = _UNSERVED_TEXTS.get(method, f"this manager does not serve {method.rpartition('.')[2]}")

        async def refuse(_request: Any, _context: "_Context") -> None:
            raise RpcError(grpc.StatusCode.UNIMPLEMENTED, text)

        # Any kind of client reads the status of a call that ends at once, so one kind of handler serves all.
        return self._wrap(method, side, grpc.stream_unary_rpc_method_handler(refuse))

    async def _serve(
        self,
        method: str,
        side: _Side,
        call: _Call,
        request: Any,
        context: "_Context",
    ) -> Any:
        """Run one call: authorise, bind the caller, map what it raises, count it."""
        status = grpc.StatusCode.UNKNOWN
        connection = self._doors[side].find(context.peer())
        caller = Caller()
        try:
            if connection is None:
                raise permission_denied("Permission denied: this server is reached through its gateway only")
            connection.calls += 1
            caller = self._caller(method, connection, context)
            with as_caller(caller):
                answer = await call(request, context)
            status = grpc.StatusCode.OK
            return answer
        except RpcError as error:
            status = error.code
            await _abort(context, error.code, error.text)
        except TimeoutError:
            status = grpc.StatusCode.DEADLINE_EXCEEDED
            await _abort(context, status, "the manager could not finish this in time")
        except asyncio.CancelledError:
            status = grpc.StatusCode.CANCELLED
            raise
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            if context.cancelled() or isinstance(error, grpc.aio.InternalError):
                status = grpc.StatusCode.CANCELLED  # the client is gone: writing to it failed
                raise asyncio.CancelledError from error
            # PARITY: the original answers UNKNOWN with the bare text of the error, whatever it shows.
            status = grpc.StatusCode.INTERNAL
            log.exception("call failed", method=method, caller=caller.node_id, error=str(error))
            await _abort(context, status, "internal error: the manager's log has the details")
        finally:
            if connection is not None:
                connection.calls -= 1
            self._counts[method, status.name] += 1

    def _caller(self, method: str, connection: Connection, context: "_Context") -> Caller:
        """Find out who calls, and whether it may.

        Raises:
            RpcError: it may not.
        """
        own = self._credentials.current
        peer = connection.peer
        if peer.local:
            return self._local_caller(own)
        if peer.anonymous and connection.calls > ANONYMOUS_CALLS:
            raise RpcError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "too many calls at once on a connection without a certificate",
            )
        metadata = context.invocation_metadata() or ()
        return authorize(method, peer, metadata, own.organization, self._is_blacklisted)

    def _local_caller(self, own: Credentials) -> Caller:
        """Who calls over the control socket: this node, the same until it has other credentials.

        Every method served is in the table (``add``), and the socket's file mode is what guards it.
        """
        if self._local is None or self._local[0] is not own:
            roles = frozenset({own.role})
            caller = Caller(own.node_id, roles, own.organization, self._own_address(), local=True)
            self._local = (own, caller)
        return self._local[1]

    def _own_address(self) -> str:
        """Where callers on the control socket come from (contract/security.md, 15.2)."""
        if self._advertise_address:
            return self._advertise_address
        return self._remote.address if self._remote is not None else "127.0.0.1:0"


async def _wait(tasks: "Iterable[asyncio.Future[None]]", seconds: float) -> "set[asyncio.Future[None]]":
    """Wait for all of ``tasks`` and return those that are not done in time."""
    waiting = set(tasks)
    return (await asyncio.wait(waiting, timeout=seconds))[1] if waiting else waiting


async def _abort(context: "_Context", code: grpc.StatusCode, text: str) -> NoReturn:
    """End the call with a status; a call whose client is gone just ends."""
    if context.cancelled():
        raise asyncio.CancelledError
    await context.abort(code, _shortened(text))
    raise AssertionError("abort returns never")


def _behaviour(handler: "_Handler") -> Callable[[Any, Any], Any]:
    """Return the one function that a handler holds, whatever its kind."""
    kinds = (handler.unary_unary, handler.unary_stream, handler.stream_unary, handler.stream_stream)
    return next(kind for kind in kinds if kind is not None)


def _streamed(behaviour: Callable[[Any, Any], Any]) -> _Call:
    """Turn a handler that yields messages into one that writes them, so that its end is under our control."""

    async def call(request: Any, context: "_Context") -> None:
        messages = behaviour(request, context)
        if not isinstance(messages, AsyncIterator):
            await messages  # a handler that writes to the context itself
            return
        try:
            async for message in messages:
                await context.write(message)
        finally:
            close = getattr(messages, "aclose", None)
            if close is not None:
                await close()

    return call


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_ERROR_TEXT else text[: _MAX_ERROR_TEXT - 1] + "…"
