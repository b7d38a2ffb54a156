"""The gateways: the manager's TLS port and its control socket, in front of the inner gRPC servers.

``README.md`` beside this module tells the way of a connection and gives the limits with their reasons.
Source: contract/security.md, 4.
"""

import asyncio
import contextlib
import errno
import socket
import ssl
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from swarmkit.aio import TaskOwner
from swarmkit.ca.credentials import Credentials, CredentialsHolder
from swarmkit.clock import Clock
from swarmkit.log import get_logger
from swarmkit.net import tls
from swarmkit.net.address import join_address, plain_ip
from swarmkit.net.authorization import STREAM, Peer
from swarmkit.net.door import Door, DoorBusyError
from swarmkit.net.frames import Frames
from swarmkit.net.limits import ConnectionBook, Limits, Throttle, Ticket
from swarmkit.net.listen import ControlSocket, accept, bound_address, listen_tcp, readable
from swarmkit.net.pipe import ClientGoneError, NotHttp2Error, OuterEnd, PipeEnd, Splice, TlsEnd

log = get_logger(__name__)

#: First byte of a TLS handshake record (RFC 8446, 5.1).
_TLS_HANDSHAKE = b"\x16"
#: Pause of accepting when the process or the machine has run out of descriptors or buffers.
_EXHAUSTED_PAUSE_SECONDS = 1.0
#: How long a client that was refused may take to read why.
_PARTING_SECONDS = 1.0
#: What a connection can fail with; anything else is a fault of this program.
_CLIENT_ERRORS = (
    NotHttp2Error,
    ClientGoneError,
    DoorBusyError,
    tls.CertificateIdentityError,
    TimeoutError,
    OSError,  # and ssl.SSLError
)

#: Serves a stream of frames until it ends; the peer may be anybody.
Carry = Callable[[Peer, Frames], Awaitable[None]]


async def _refuse(_peer: Peer, frames: Frames) -> None:
    frames.finish("this manager takes no streams")


class _Gateway(ABC):
    """Accepts connections, opens each as its kind demands, and splices it to the inner server.

    A stream of another manager's ends in this process instead.
    """

    def __init__(
        self,
        name: str,
        door: Door,
        credentials: CredentialsHolder,
        clock: Clock,
        limits: Limits,
        make_context: Callable[[Credentials], ssl.SSLContext],
        carry: Carry,
    ) -> None:
        self._name = name
        self._door = door
        self._clock = clock
        self._limits = limits
        self._book = ConnectionBook(limits)
        self._throttle = Throttle()
        self._make_context = make_context
        self._carry = carry
        self._context = make_context(credentials.current)
        self._unsubscribe = credentials.subscribe(self._renew)
        self._accepting = TaskOwner(f"{name} accepting")
        self._serving = TaskOwner(f"{name} connections")

    @property
    def open_connections(self) -> int:
        """How many connections are open, those in their handshake included."""
        return self._book.open

    async def close(self) -> None:
        """Stop accepting and end every connection at once. May be called twice."""
        await self.stop_accepting()
        await self._serving.close()
        unsubscribe, self._unsubscribe = self._unsubscribe, lambda: None
        unsubscribe()

    async def stop_accepting(self) -> None:
        """Close the listening sockets; established connections live on. May be called twice."""
        await self._accepting.close()
        self._close_listeners()

    @abstractmethod
    def _close_listeners(self) -> None:
        """Close what was opened to listen."""

    @abstractmethod
    async def _open(self, client: socket.socket) -> OuterEnd:
        """Make an accepted socket a stream of HTTP/2 bytes."""

    @abstractmethod
    def _identify(self, end: OuterEnd, host: str, port: int) -> Peer:
        """Say who is at the other end of a connection whose preface has come.

        Raises:
            CertificateIdentityError: its certificate does not say it.
        """

    def _renew(self, credentials: Credentials) -> None:
        """Use new credentials for new connections; ones that cannot be used leave the old in place."""
        try:
            self._context = self._make_context(credentials)
        except (ssl.SSLError, ValueError) as error:
            log.error("new credentials cannot be used, keeping the old", gateway=self._name, error=str(error))

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, address = await accept(listener)
            except OSError as error:
                if error.errno != errno.ECONNABORTED:  # that one was gone before it was accepted
                    self._complain("cannot accept connections, waiting", error=error.strerror)
                    await self._clock.sleep(_EXHAUSTED_PAUSE_SECONDS)
                continue
            host, port = (plain_ip(address[0]), int(address[1])) if isinstance(address, tuple) else ("", 0)
            ticket = self._book.admit(host)
            if isinstance(ticket, str):
                self._complain("connection refused", remote_addr=_remote(host, port), error=ticket)
                client.close()
                continue
            if host:  # small frames in both directions: Nagle's algorithm would hold them back
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._serving.spawn(self._serve(client, host, port, ticket), "connection")

    async def _serve(self, client: socket.socket, host: str, port: int, ticket: Ticket) -> None:
        """Carry one connection from its first byte to its end."""
        with contextlib.ExitStack() as cleanup:
            cleanup.callback(ticket.release)
            # The transport closes it as well; until there is one, nobody else would.
            cleanup.callback(client.close)
            end: OuterEnd | None = None
            try:
                async with asyncio.timeout(self._limits.opening_seconds):
                    end = await self._open(client)
                    await end.preface
                    peer = self._identify(end, host, port)
                    if peer.local or not peer.anonymous:
                        ticket.prove()
                    frames = Frames() if end.protocol == STREAM else None
                    splice = self._join(end, frames.end) if frames else await self._enter(end, peer, cleanup)
            except _CLIENT_ERRORS as error:
                self._note_failure(host, port, error)
                if end is not None and isinstance(error, ssl.SSLError):
                    await _part(end)
                return
            finally:
                if end is not None and end.other is None:
                    end.transport.abort()
            try:
                if frames is not None:
                    await self._carry(peer, frames)
                    frames.close()
                await self._live(splice, end, peer)
            finally:
                splice.abort()

    async def _enter(self, end: OuterEnd, peer: Peer, cleanup: contextlib.ExitStack) -> Splice:
        connection, inner_socket = await self._door.enter(peer)
        cleanup.callback(self._door.leave, connection)
        cleanup.callback(inner_socket.close)
        loop = asyncio.get_running_loop()
        _, inner = await loop.create_connection(PipeEnd, sock=inner_socket)
        return self._join(end, inner)

    def _join(self, end: OuterEnd, inner: PipeEnd) -> Splice:
        return Splice(
            end,
            inner,
            closing_seconds=self._limits.closing_seconds,
            stalled_seconds=self._limits.stalled_seconds,
        )

    async def _live(self, splice: Splice, end: OuterEnd, peer: Peer) -> None:
        """Wait for the end of the splice; a client without a certificate may not make it wait for ever."""
        if peer.local or not peer.anonymous:
            await splice.closed
            return
        deadline = self._clock.monotonic() + self._limits.anonymous_seconds
        while not splice.closed.done():
            now = self._clock.monotonic()
            until = min(deadline, end.last_data + self._limits.anonymous_idle_seconds)
            if now >= until:
                log.debug(
                    "connection without a certificate ended: its time is up", remote_addr=peer.remote_addr
                )
                return
            await asyncio.wait([splice.closed], timeout=until - now)

    def _note_failure(self, host: str, port: int, error: Exception) -> None:
        if isinstance(error, ClientGoneError):  # port scanners and health probes of load balancers
            log.debug("connection closed by the client", gateway=self._name, remote_addr=_remote(host, port))
        elif isinstance(error, TimeoutError):
            reason = f"no complete handshake within {self._limits.opening_seconds:g} s"
            self._complain("connection dropped", remote_addr=_remote(host, port), error=reason)
        else:
            self._complain("connection dropped", remote_addr=_remote(host, port), error=_reason(error))

    def _complain(self, message: str, **fields: object) -> None:
        """Log what strangers can cause, at a bounded rate."""
        held_back = self._throttle.ask(self._clock.monotonic())
        if held_back is not None:
            log.warning(message, gateway=self._name, **fields, similar_lines_held_back=held_back or "")


class RemoteGateway(_Gateway):
    """The TLS port for nodes and strangers: a client certificate is optional, and verified when given."""

    def __init__(
        self,
        address: str,
        door: Door,
        credentials: CredentialsHolder,
        clock: Clock,
        limits: Limits | None = None,
        carry: Carry = _refuse,
    ) -> None:
        """Take what is needed; ``start`` opens the port.

        Args:
            address: ``host:port``; an empty host means every interface, port 0 any free one.
            door: the way into the inner server.
            credentials: certificate, key and roots; a change holds for new connections.
            clock: for pauses and time limits.
            limits: by default those of the class, within what this process's descriptors can carry.
            carry: serves the streams that peers open; by default none is served.
        """
        limits = limits or Limits().within_descriptors()
        super().__init__("remote", door, credentials, clock, limits, tls.remote_context, carry)
        self._wanted = address
        self._listeners: list[socket.socket] = []
        self._address = ""

    @property
    def address(self) -> str:
        """The ``host:port`` it listens on; empty before ``start``."""
        return self._address

    async def start(self) -> None:
        """Open the port.

        Raises:
            ListenError: it cannot be had; the text says why.
        """
        self._listeners = await listen_tcp(self._wanted)
        self._address = bound_address(self._listeners[0])
        for listener in self._listeners:
            self._accepting.spawn(self._accept(listener), "remote port")

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()

    async def _open(self, client: socket.socket) -> OuterEnd:
        return await _tls_end(client, self._context)

    def _identify(self, end: OuterEnd, host: str, port: int) -> Peer:
        assert isinstance(end, TlsEnd)
        remote_addr = join_address(host, port)
        if not end.certificate:
            return Peer(remote_addr=remote_addr)
        return Peer(*tls.identity(end.certificate), remote_addr)


class ControlGateway(_Gateway):
    """The control socket, mode 0600: plain HTTP/2, or TLS without client certificates, if so wished."""

    def __init__(
        self,
        path: Path,
        door: Door,
        credentials: CredentialsHolder,
        clock: Clock,
        limits: Limits | None = None,
    ) -> None:
        """Take what is needed; ``start`` opens the socket. Arguments as for ``RemoteGateway``."""
        limits = limits or Limits().within_descriptors()
        # All clients come from one place, and whoever may open the socket is trusted.
        limits = replace(limits, unproven_per_address=limits.connections, unproven=limits.connections)
        super().__init__("control", door, credentials, clock, limits, tls.control_context, _refuse)
        self._path = path
        self._socket: ControlSocket | None = None

    async def start(self) -> None:
        """Open the socket.

        Raises:
            ListenError: it cannot be had; the text says why.
        """
        self._socket = ControlSocket(self._path)
        self._accepting.spawn(self._accept(self._socket.listener), "control socket")

    def _close_listeners(self) -> None:
        if self._socket is not None:
            self._socket.close()

    async def _open(self, client: socket.socket) -> OuterEnd:
        first = await _peek(client)
        if not first:
            raise ClientGoneError("the client closed the connection before it sent a request")
        if first == _TLS_HANDSHAKE:
            return await _tls_end(client, self._context)
        loop = asyncio.get_running_loop()
        _, end = await loop.connect_accepted_socket(lambda: OuterEnd(loop), client)
        return end

    def _identify(self, end: OuterEnd, host: str, port: int) -> Peer:
        return Peer(local=True)


async def _tls_end(client: socket.socket, context: ssl.SSLContext) -> OuterEnd:
    loop = asyncio.get_running_loop()
    _, end = await loop.connect_accepted_socket(lambda: TlsEnd(loop, context), client)
    return end


async def _part(end: OuterEnd) -> None:
    """Let a refused client read its TLS alert: wait until it closes, but not long."""
    parted = asyncio.Event()
    end.on_change = parted.set
    if not (end.ended or end.lost):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PARTING_SECONDS):
                await parted.wait()


async def _peek(client: socket.socket) -> bytes:
    """Wait for the first byte and leave it where it is; empty at the end of the stream."""
    while True:
        with contextlib.suppress(BlockingIOError):
            return client.recv(1, socket.MSG_PEEK)
        await readable(client)


def _remote(host: str, port: int) -> str:
    return join_address(host, port) if host else ""


def _reason(error: Exception) -> str:
    """Say in plain words what a TLS failure is about."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the client certificate is not valid here: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"the TLS handshake failed: {(error.reason or str(error)).replace('_', ' ').lower()}"
    return str(error)
