"""The manager's API: two inner gRPC servers, who may call them, and the gateways in front.

Every handler is wrapped once: the wrapper finds the peer of the connection, authorises the call by the
table, passes it to the leader or binds ``current_caller()`` and runs it here, maps errors to statuses, and
counts.
"""

import asyncio
import enum
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import grpc

from swarmkit.ca.credentials import Credentials, CredentialsHolder
from swarmkit.clock import Clock
from swarmkit.log import get_logger
from swarmkit.net.authorization import PACKAGE, STREAM, TABLE, Peer, authorize
from swarmkit.net.caller import Caller, as_caller
from swarmkit.net.door import Connection, Door, private_directory
from swarmkit.net.errors import RpcError, permission_denied
from swarmkit.net.forward import Forwarder, Incoming
from swarmkit.net.frames import Frames, FramesError
from swarmkit.net.gateway import ControlGateway, RemoteGateway
from swarmkit.net.handlers import Call, Collector, Methods, behaviour, message_call, raw_call, wrapped
from swarmkit.net.leaders import AlwaysLeading, Leaders
from swarmkit.net.limits import Limits
from swarmkit.net.upstream import PassedCall

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
_INTERNAL = "internal error: the manager's log has the details"
#: Its calls show the swarm's state to users, so a leader that was deposed unknowingly must not answer them.
_CONFIRMED_SERVICE = f"/{PACKAGE}.Control/"
_UNSERVED_TEXTS = {
    "/docker.swarmkit.v1.RaftMembership/Join": (
        "this manager does not speak the raft protocol of the original SwarmKit:"
        " a node of the original can be a worker of this swarm, not a manager"
    ),
}

if TYPE_CHECKING:
    from swarmkit.net.handlers import Context, Handler


class _Side(enum.Enum):
    """The two ways in; the value names the inner server's socket."""

    REMOTE = "remote"
    LOCAL = "local"


@dataclass(frozen=True)
class _Served:
    """How one RPC is served on one side.

    Attributes:
        call: runs it here; on bytes if ``forward``, for what is passed on is never parsed.
        streams: whether the requests, and whether the answers, are a stream.
        forward: it runs where the leader is.
        confirm: it runs here only if it is certain that this manager leads.
        roles_by_store: whoever needs a manager's certificate must be a manager of the swarm as well.
    """

    method: str
    side: _Side
    call: Call
    streams: tuple[bool, bool]
    forward: bool
    confirm: bool
    roles_by_store: bool


#: Carries a stream of the node with this id until it ends.
ServeStream = Callable[[str, Frames], Awaitable[None]]


async def _no_streams(_node_id: str, _frames: Frames) -> None:
    raise RpcError(grpc.StatusCode.UNIMPLEMENTED, "this manager takes no streams")


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
        is_manager: Callable[[str], bool] = lambda _: True,
        leaders: Leaders | None = None,
        advertise_address: str = "",
        limits: Limits | None = None,
        stop_grace_seconds: float = STOP_GRACE_SECONDS,
        sockets: Path | None = None,
    ) -> None:
        """Take what serving needs.

        Args:
            credentials: the manager's own; their O is the cluster id, and they are the identity of callers on
                the control socket.
            clock: time of the gateways.
            is_blacklisted: tells whether a node id was removed from the swarm; by default none was.
            is_manager: tells whether a node id is a manager of the swarm now, whatever its certificate says;
                by default each is. Asked for calls that only managers may make.
            leaders: tells who leads; by default this manager always does.
            advertise_address: ``host:port`` that callers on the control socket appear to come from; by
                default the remote port's address.
            limits: bounds of the gateways.
            stop_grace_seconds: how long calls in flight may go on after ``stop``.
            sockets: directory for the inner servers' sockets, its own; by default a temporary one.
        """
        self._credentials = credentials
        self._clock = clock
        self._is_blacklisted = is_blacklisted
        self._is_manager = is_manager
        self._leaders = leaders or AlwaysLeading()
        self._forwarder = Forwarder(self._leaders, credentials, clock)
        self._advertise_address = advertise_address
        self._limits = limits
        self._grace = stop_grace_seconds
        self._wanted_directory = sockets
        self._directory: Path | None = None
        self._doors: dict[_Side, Door] = {}
        self._methods = {side: Methods() for side in _Side}
        self._servers: list[grpc.aio.Server] = []
        self._remote: RemoteGateway | None = None
        self._control: ControlGateway | None = None
        self._counts: Counter[tuple[str, str]] = Counter()
        self._local: tuple[Credentials, Caller] | None = None
        self._serve_stream: ServeStream = _no_streams

    @property
    def counts(self) -> Mapping[tuple[str, str], int]:
        """What has ended so far by (full method name, status name); bounded by the table times 17 statuses.

        Streams count under ``STREAM``.
        """
        return self._counts

    def add(
        self,
        register: Callable[[Any, Any], None],
        servicer: object,
        *,
        remote: bool = True,
        local: bool = True,
        forward: bool | Collection[str] = False,
        roles_by_store: bool = True,
    ) -> None:
        """Serve ``servicer``. Call before ``start``; a later servicer replaces the methods of an earlier one.

        Args:
            register: the generated ``add_XServicer_to_server``.
            servicer: the object with the handlers; what it does not override is answered UNIMPLEMENTED.
            remote: serve it on the remote port.
            local: serve it on the control socket.
            forward: its calls run on the leader only, and a manager that does not lead passes them on; a
                collection of method names, as ``{"Join", "Leave"}``, if that holds for some of them. Streamed
                answers of such a call must be yielded, not written to the context.
            roles_by_store: ask ``is_manager`` about callers of its manager-only calls. Not for a servicer
                that sees to that itself, as of nodes that are about to become managers.

        Raises:
            ValueError: a method has no entry in the authorisation table.
        """
        collector = Collector()
        register(servicer, collector)
        for method, handler in collector.handlers.items():
            if method not in TABLE:
                raise ValueError(f"{method} has no entry in the authorisation table: it cannot be served")
            if getattr(behaviour(handler), "__module__", "").endswith("_pb2_grpc"):
                continue  # not overridden: the generated base class would raise NotImplementedError
            passed_on = forward if isinstance(forward, bool) else method.rpartition("/")[2] in forward
            for side, wanted in ((_Side.REMOTE, remote), (_Side.LOCAL, local)):
                if wanted:
                    served = _Served(
                        method,
                        side,
                        raw_call(handler) if passed_on else message_call(handler),
                        (bool(handler.request_streaming), bool(handler.response_streaming)),
                        forward=passed_on,
                        confirm=passed_on and method.startswith(_CONFIRMED_SERVICE),
                        roles_by_store=roles_by_store,
                    )
                    self._methods[side].handlers[method] = self._wrap(served, handler)

    def add_stream(self, serve: ServeStream) -> None:
        """Serve the streams that other managers open on the remote port. Call before ``start``.

        Whether a caller still *is* a manager is not asked: a follower that lags would lock out the leader
        that it must hear to learn who is one.

        Args:
            serve: carries one of the node with this id until it ends; may raise ``RpcError``, whose text the
                caller is told.
        """
        self._serve_stream = serve

    async def start(self) -> None:
        """Start the inner servers. Nobody reaches them before a gateway listens.

        Call ``stop`` even if this fails.
        """
        self._directory = private_directory(self._wanted_directory)
        self._forwarder.start()
        for side in _Side:
            methods = self._methods[side]
            for method in TABLE.keys() - methods.handlers.keys() - {STREAM}:
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
            address, self._doors[_Side.REMOTE], self._credentials, self._clock, self._limits, self._carry
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
        self._forwarder.stop()
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
        await self._forwarder.close()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def _wrap(self, served: _Served, handler: "Handler") -> "Handler":
        """Return ``handler`` with the wrapper around its behaviour, of the same kind."""

        async def serve(request: Any, context: "Context") -> Any:
            return await self._serve(served, request, context)

        return wrapped(handler, serve, raw=served.forward)

    def _unserved(self, method: str, side: _Side) -> "Handler":
        """Refuse a call of the contract that is not served here, to those who may call it."""
        text = _UNSERVED_TEXTS.get(method, f"this manager does not serve {method.rpartition('.')[2]}")

        async def refuse(_request: Any, _context: "Context") -> None:
            raise RpcError(grpc.StatusCode.UNIMPLEMENTED, text)

        # Any kind of client reads the status of a call that ends at once, so one kind of handler serves all.
        kind = (True, False)
        served = _Served(method, side, refuse, kind, forward=False, confirm=False, roles_by_store=True)
        return self._wrap(served, grpc.stream_unary_rpc_method_handler(refuse))

    async def _serve(self, served: _Served, request: Any, context: "Context") -> Any:
        """Serve one call: authorise, run it here or at the leader, map what it raises, count it."""
        status = grpc.StatusCode.UNKNOWN
        connection = self._doors[served.side].find(context.peer())
        caller = Caller()
        try:
            if connection is None:
                raise permission_denied("Permission denied: this server is reached through its gateway only")
            connection.calls += 1
            caller = self._caller(served, connection, context)
            if not served.forward or await self._forwarder.runs_here(served.confirm):
                with as_caller(caller):
                    answer = await served.call(request, context)
            else:
                answer = await self._place(served, connection, request, context)
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
            log.exception("call failed", method=served.method, caller=caller.node_id, error=str(error))
            await _abort(context, status, _INTERNAL)
        finally:
            if connection is not None:
                connection.calls -= 1
            self._counts[served.method, status.name] += 1

    async def _place(self, served: _Served, connection: Connection, request: Any, context: "Context") -> Any:
        """Run a call where the leader is; here, if this manager becomes it meanwhile."""

        async def run_here() -> Any:
            with as_caller(self._caller(served, connection, context)):
                return await served.call(request, context)

        metadata = tuple(context.invocation_metadata() or ())
        call = PassedCall(served.method, served.streams, request, context, metadata)
        incoming = Incoming(call, connection.peer, self._own_address(), served.confirm, run_here)
        return await self._forwarder.place(incoming)

    async def _carry(self, peer: Peer, frames: Frames) -> None:
        """Serve one stream: authorise, carry it, tell the other side why it ends."""
        organization = self._credentials.current.organization
        status = grpc.StatusCode.CANCELLED
        try:
            caller = authorize(STREAM, peer, (), organization, self._is_blacklisted)
            await self._serve_stream(caller.node_id, frames)
            status = grpc.StatusCode.OK
        except RpcError as error:
            status = error.code
            frames.finish(_shortened(error.text))
        except FramesError as error:
            status = grpc.StatusCode.ABORTED
            frames.finish(str(error))
        except Exception as error:
            status = grpc.StatusCode.INTERNAL
            log.exception("stream failed", caller=peer.node_id, error=str(error))
            frames.finish(_INTERNAL)
        finally:
            self._counts[STREAM, status.name] += 1

    def _caller(self, served: _Served, connection: Connection, context: "Context") -> Caller:
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
        # The leader's store decides who is a manager: a follower's may not know the newest one yet.
        authoritative = served.roles_by_store and (self._leaders.leading or not served.forward)
        return authorize(
            served.method,
            peer,
            context.invocation_metadata() or (),
            own.organization,
            self._is_blacklisted,
            self._is_manager if authoritative else lambda _: True,
        )

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


async def _abort(context: "Context", code: grpc.StatusCode, text: str) -> NoReturn:
    """End the call with a status; a call whose client is gone just ends."""
    if context.cancelled():
        raise asyncio.CancelledError
    await context.abort(code, _shortened(text))
    raise AssertionError("abort returns never")


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_ERROR_TEXT else text[: _MAX_ERROR_TEXT - 1] + "…"
