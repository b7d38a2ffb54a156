"""A served API with real sockets: fake servicers that tell who called, raw TLS clients."""

import asyncio
import contextlib
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc

from swarmkit.api import messages as api
from swarmkit.api.ca_pb2_grpc import NodeCAServicer, NodeCAStub, add_NodeCAServicer_to_server
from swarmkit.api.control_pb2_grpc import ControlServicer, add_ControlServicer_to_server
from swarmkit.api.dispatcher_pb2_grpc import DispatcherServicer, add_DispatcherServicer_to_server
from swarmkit.api.health_pb2_grpc import HealthStub, add_HealthServicer_to_server
from swarmkit.api.logbroker_pb2_grpc import LogBrokerServicer, add_LogBrokerServicer_to_server
from swarmkit.ca.credentials import Credentials, CredentialsHolder
from swarmkit.clock import SystemClock
from swarmkit.manager.health import CONTROL_API, RAFT, HealthService
from swarmkit.net import channels
from swarmkit.net.caller import Caller, current_caller
from swarmkit.net.gateway import ControlGateway, RemoteGateway
from swarmkit.net.leaders import Leaders
from swarmkit.net.limits import Limits
from swarmkit.net.server import ApiServer
from tests.fakes.pki import FakeAuthority
from tests.scale import SCALE

PREFACE_AND_SETTINGS = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


class FakeNodeCA(NodeCAServicer):
    """Serves the open call and remembers who made it."""

    def __init__(self) -> None:
        self.caller = Caller()
        self.answer = ""
        self.waiting = 0
        self.release = asyncio.Event()
        self.release.set()

    async def IssueNodeCertificate(self, request: Any, _context: Any) -> api.IssueNodeCertificateResponse:
        self.caller = current_caller()
        self.waiting += 1
        await self.release.wait()
        return api.IssueNodeCertificateResponse(node_id=self.answer)


class FakeDispatcher(DispatcherServicer):
    """Streams, and fails in every way a handler can; ``behave`` is what a heartbeat does."""

    def __init__(self) -> None:
        self.behave: Callable[[], Awaitable[None]] | None = None
        self.caller = Caller()
        self.session_ended = asyncio.Event()
        self.session_open = asyncio.Event()

    async def Heartbeat(self, request: Any, _context: Any) -> api.HeartbeatResponse:
        self.caller = current_caller()
        if self.behave is not None:
            await self.behave()
        return api.HeartbeatResponse()

    async def Session(self, request: api.SessionRequest, _context: Any) -> AsyncIterator[api.SessionMessage]:
        try:
            yield api.SessionMessage(session_id=current_caller().node_id)
            self.session_open.set()
            if self.behave is not None:
                await self.behave()
            # The identity holds for the whole stream, not only for its first step.
            yield api.SessionMessage(session_id=current_caller().node_id)
        finally:
            self.session_ended.set()


class FakeControl(ControlServicer):
    """Keeps what is created; ``behave`` is what any call does first."""

    def __init__(self) -> None:
        self.behave: Callable[[], Awaitable[None]] | None = None
        self.caller = Caller()
        self.metadata: list[tuple[str, str | bytes]] = []
        self.time_remaining: float | None = None
        self.created: list[str] = []
        self.reads = 0

    async def CreateService(self, request: Any, context: Any) -> api.CreateServiceResponse:
        self.caller = current_caller()
        self.metadata = list(context.invocation_metadata())
        self.time_remaining = context.time_remaining()
        self.created.append(request.spec.annotations.name)
        if self.behave is not None:
            await self.behave()
        return api.CreateServiceResponse()

    async def ListServices(self, request: Any, context: Any) -> api.ListServicesResponse:
        self.reads += 1
        if self.behave is not None:
            await self.behave()
        return api.ListServicesResponse()


class FakeLogBroker(LogBrokerServicer):
    """Counts what is published."""

    def __init__(self) -> None:
        self.published: list[str] = []

    async def PublishLogs(self, request: AsyncIterator[Any], _context: Any) -> api.PublishLogsResponse:
        async for message in request:
            self.published.append(f"{current_caller().node_id}:{message.subscription_id}")
        return api.PublishLogsResponse()


class ServedApi:
    """Everything a test of the network needs, listening on a free port and on a socket below ``folder``."""

    def __init__(
        self,
        folder: Path,
        limits: Limits | None = None,
        stop_grace_seconds: float = 0.2,
        *,
        node_id: str = "manager-1",
        authority: FakeAuthority | None = None,
        leaders: Leaders | None = None,
    ) -> None:
        self.authority = authority or FakeAuthority()
        self.holder = CredentialsHolder(self.authority.manager(node_id))
        self.removed: set[str] = set()
        self.demoted: set[str] = set()
        self.server = ApiServer(
            self.holder,
            SystemClock(),
            is_blacklisted=self.removed.__contains__,
            is_manager=lambda node_id: node_id not in self.demoted,
            leaders=leaders,
            limits=limits,
            stop_grace_seconds=stop_grace_seconds,
        )
        # What they do not override is answered UNIMPLEMENTED.
        self.node_ca = FakeNodeCA()  # type: ignore[abstract]
        self.dispatcher = FakeDispatcher()  # type: ignore[abstract]
        self.log_broker = FakeLogBroker()  # type: ignore[abstract]
        self.control_api = FakeControl()  # type: ignore[abstract]
        self.socket_path = folder / node_id / "swarm.sock"
        self.remote: RemoteGateway
        self.control: ControlGateway

    async def __aenter__(self) -> "ServedApi":
        self.server.add(add_HealthServicer_to_server, HealthService([RAFT]), local=False)
        self.server.add(add_HealthServicer_to_server, HealthService([CONTROL_API]), remote=False)
        self.server.add(add_NodeCAServicer_to_server, self.node_ca, forward=True)
        self.server.add(add_DispatcherServicer_to_server, self.dispatcher, forward=True)
        self.server.add(add_LogBrokerServicer_to_server, self.log_broker, forward=True)
        self.server.add(add_ControlServicer_to_server, self.control_api, forward=True)
        await self.server.start()
        self.remote = await self.server.listen_remote("127.0.0.1:0")
        self.control = await self.server.listen_control(self.socket_path)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.server.stop()

    @property
    def port(self) -> int:
        return int(self.remote.address.rpartition(":")[2])

    def channel(self, credentials: Credentials) -> grpc.aio.Channel:
        return channels.secure_channel(self.remote.address, credentials)

    def anonymous(self) -> grpc.aio.Channel:
        return channels.anonymous_channel(self.remote.address, self.authority.root_pem)

    def local(self) -> grpc.aio.Channel:
        return channels.unix_channel(self.socket_path)


async def health(channel: grpc.aio.Channel, service: str = "") -> api.HealthCheckResponse:
    return await HealthStub(channel).Check(api.HealthCheckRequest(service=service), timeout=10)


async def issue(channel: grpc.aio.Channel, **options: Any) -> api.IssueNodeCertificateResponse:
    request = api.IssueNodeCertificateRequest()
    return await NodeCAStub(channel).IssueNodeCertificate(request, timeout=10, **options)


async def failure(call: Awaitable[object]) -> grpc.aio.AioRpcError:
    """Return the error of a call that must fail."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError("the call succeeded")


async def eventually(check: Callable[[], bool], timeout: float = 10.0) -> None:
    """Wait until ``check`` holds: for what another thread or the kernel does."""
    async with asyncio.timeout(timeout * SCALE):
        while not check():  # noqa: ASYNC110 - what is waited for happens outside this loop
            await asyncio.sleep(0.01)


def client_context(
    credentials: Credentials | None = None, alpn: tuple[str, ...] = (), root_pem: bytes = b""
) -> ssl.SSLContext:
    """A TLS client that verifies only if it is given a root."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED if root_pem else ssl.CERT_NONE
    if root_pem:
        context.load_verify_locations(cadata=root_pem.decode())
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if credentials is not None:
        with tempfile.NamedTemporaryFile() as file:
            file.write(credentials.key_pem + credentials.cert_pem)
            file.flush()
            context.load_cert_chain(file.name)
    return context


@contextlib.asynccontextmanager
async def tls_tunnel(
    folder: Path, port: int, context: ssl.SSLContext, server_hostname: str
) -> AsyncIterator[grpc.aio.Channel]:
    """A plain channel whose bytes travel inside a TLS connection of the given kind: grpcio itself cannot be
    made to leave out ALPN or to send a strange server name.
    """
    tasks: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tls_reader, tls_writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname=server_hostname
        )
        writers.extend([writer, tls_writer])
        tasks.add(asyncio.create_task(pump(reader, tls_writer)))
        tasks.add(asyncio.create_task(pump(tls_reader, writer)))

    server = await asyncio.start_unix_server(carry, folder / "tunnel")
    channel = channels.unix_channel(folder / "tunnel")
    try:
        yield channel
    finally:
        await channel.close()
        server.close()
        await server.wait_closed()
        await asyncio.gather(*(cut(writer) for writer in writers))
        await asyncio.gather(*tasks)


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextlib.asynccontextmanager
async def opened(connecting: Awaitable[Streams]) -> AsyncIterator[Streams]:
    """A raw connection for the length of a block."""
    reader, writer = await connecting
    try:
        yield reader, writer
    finally:
        await cut(writer)


async def cut(writer: asyncio.StreamWriter) -> None:
    """Drop a connection and wait until it is gone."""
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def read_all(reader: asyncio.StreamReader, timeout: float = 10.0) -> bytes:
    """Read until the other side closes."""
    async with asyncio.timeout(timeout):
        with contextlib.suppress(ConnectionResetError):
            return await reader.read(-1)
    return b""
