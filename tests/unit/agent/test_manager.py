"""The calls of a session over real gRPC: results, error codes, closed connections."""

import asyncio
import datetime
import ipaddress
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from swarmkit.agent.manager import GrpcManager, ManagerError
from swarmkit.api import messages as api
from swarmkit.api.dispatcher_pb2_grpc import DispatcherServicer, add_DispatcherServicer_to_server
from swarmkit.api.logbroker_pb2_grpc import LogBrokerServicer, add_LogBrokerServicer_to_server
from tests.fakes.pki import FakeAuthority

pytestmark = pytest.mark.real_time


class Dispatcher(DispatcherServicer):
    """A dispatcher that answers as real ones do."""

    def __init__(self) -> None:
        self.statuses: list[api.UpdateTaskStatusRequest] = []
        self.cancelled = asyncio.Event()
        self.hold = asyncio.Event()

    async def Session(
        self, request: api.SessionRequest, context: object
    ) -> AsyncIterator[api.SessionMessage]:
        yield api.SessionMessage(session_id="s")
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()

    async def Heartbeat(
        self, request: api.HeartbeatRequest, context: "grpc.aio.ServicerContext[object, object]"
    ) -> api.HeartbeatResponse:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "session invalid")

    async def UpdateTaskStatus(
        self, request: api.UpdateTaskStatusRequest, context: object
    ) -> api.UpdateTaskStatusResponse:
        self.statuses.append(request)
        await self.hold.wait()
        return api.UpdateTaskStatusResponse()

    async def UpdateVolumeStatus(
        self, request: api.UpdateVolumeStatusRequest, context: object
    ) -> api.UpdateVolumeStatusResponse:
        raise NotImplementedError

    async def Tasks(
        self, request: api.TasksRequest, context: "grpc.aio.ServicerContext[object, object]"
    ) -> AsyncIterator[api.TasksMessage]:
        yield api.TasksMessage()

    async def Assignments(
        self, request: api.AssignmentsRequest, context: "grpc.aio.ServicerContext[object, object]"
    ) -> AsyncIterator[api.AssignmentsMessage]:
        yield api.AssignmentsMessage(results_in="1")
        # What dispatchers do on their way down.
        await context.abort(grpc.StatusCode.CANCELLED, "context canceled")


class LogBroker(LogBrokerServicer):
    """Takes logs, and has no subscriptions stream."""

    def __init__(self) -> None:
        self.published: list[api.PublishLogsMessage] = []

    async def ListenSubscriptions(
        self, request: api.ListenSubscriptionsRequest, context: "grpc.aio.ServicerContext[object, object]"
    ) -> AsyncIterator[api.SubscriptionMessage]:
        nothing: list[api.SubscriptionMessage] = []
        for message in nothing:
            yield message
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "unknown method")

    async def PublishLogs(
        self, request_iterator: AsyncIterator[api.PublishLogsMessage], context: object
    ) -> api.PublishLogsResponse:
        self.published += [message async for message in request_iterator]
        return api.PublishLogsResponse()


class Link:
    """A connection to a server of this test."""

    address = "test"

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel

    async def close(self, success: bool) -> None:
        await self.channel.close()


@pytest.fixture
async def dispatcher() -> Dispatcher:
    return Dispatcher()


@pytest.fixture
async def log_broker() -> LogBroker:
    return LogBroker()


@pytest.fixture
async def link(dispatcher: Dispatcher, log_broker: LogBroker, tmp_path: Path) -> AsyncIterator[Link]:
    server = grpc.aio.server()
    add_DispatcherServicer_to_server(dispatcher, server)
    add_LogBrokerServicer_to_server(log_broker, server)
    server.add_insecure_port(f"unix:{tmp_path}/s")
    await server.start()
    link = Link(grpc.aio.insecure_channel(f"unix:{tmp_path}/s"))
    yield link
    await link.close(True)
    await server.stop(None)


async def first_and_error(stream: AsyncGenerator[object, None]) -> tuple[int, ManagerError]:
    count = 0
    try:
        async with aclosing(stream):
            async for _ in stream:
                count += 1
    except ManagerError as error:
        return count, error
    raise AssertionError("the stream ended without an error")


async def test_a_stream_that_the_server_cancels_is_an_error_and_no_cancellation(link: Link) -> None:
    count, error = await first_and_error(GrpcManager(link).assignments(api.AssignmentsRequest()))
    assert (count, error.code, error.text) == (1, "CANCELLED", "context canceled")


async def test_a_refused_call_carries_code_and_text(link: Link) -> None:
    with pytest.raises(ManagerError) as caught:
        await GrpcManager(link).heartbeat(api.HeartbeatRequest())
    assert (caught.value.code, caught.value.text) == ("INVALID_ARGUMENT", "session invalid")
    assert str(caught.value) == "session invalid (INVALID_ARGUMENT)"


async def test_an_unimplemented_stream_says_so(link: Link) -> None:
    count, error = await first_and_error(GrpcManager(link).subscriptions())
    assert (count, error.code) == (0, "UNIMPLEMENTED")


async def test_a_stream_that_ends_just_ends(link: Link) -> None:
    messages = [message async for message in GrpcManager(link).tasks(api.TasksRequest())]
    assert len(messages) == 1


async def test_closing_a_stream_cancels_the_call(link: Link, dispatcher: Dispatcher) -> None:
    stream = GrpcManager(link).session(api.SessionRequest())
    assert (await anext(stream)).session_id == "s"
    await stream.aclose()
    await asyncio.wait_for(dispatcher.cancelled.wait(), 10)


async def test_cancelling_the_reader_of_a_stream_cancels_the_call(link: Link, dispatcher: Dispatcher) -> None:
    stream = GrpcManager(link).session(api.SessionRequest())
    await anext(stream)
    reader = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    await asyncio.wait_for(dispatcher.cancelled.wait(), 10)


async def test_a_connection_closed_under_a_call_is_an_error_and_no_cancellation(
    link: Link, dispatcher: Dispatcher
) -> None:
    manager = GrpcManager(link)
    call = asyncio.ensure_future(manager.update_task_status(api.UpdateTaskStatusRequest()))
    stream = manager.session(api.SessionRequest())
    await anext(stream)
    following = asyncio.ensure_future(anext(stream))
    async with asyncio.timeout(10):
        while not dispatcher.statuses:  # noqa: ASYNC110 - the handler appends, it sets no event
            await asyncio.sleep(0.01)
        await link.close(False)
        for waiting in (call, following):
            with pytest.raises(ManagerError):
                await waiting


async def test_statuses_and_logs_arrive(link: Link, dispatcher: Dispatcher, log_broker: LogBroker) -> None:
    dispatcher.hold.set()
    manager = GrpcManager(link)
    request = api.UpdateTaskStatusRequest(session_id="s")
    request.updates.add(task_id="t", status=api.TaskStatus(state=api.TaskState.RUNNING))
    await manager.update_task_status(request)
    assert dispatcher.statuses == [request]
    end = api.PublishLogsMessage(subscription_id="sub", close=True)
    await manager.publish_logs([end])
    assert log_broker.published == [end]


async def test_nobody_there_is_unavailable_and_not_untrusted(tmp_path: Path) -> None:
    channel = grpc.aio.insecure_channel(f"unix:{tmp_path}/nobody")
    with pytest.raises(ManagerError) as caught:
        await GrpcManager(Link(channel)).heartbeat(api.HeartbeatRequest())
    await channel.close()
    assert caught.value.code == "UNAVAILABLE"
    assert not caught.value.untrusted_server
    assert caught.value.text.startswith(f"cannot connect to {Link.address}: nothing is there")


def self_signed() -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


@asynccontextmanager
async def tls_server(certificate: bytes, key: bytes) -> AsyncIterator[int]:
    server = grpc.aio.server()
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, certificate)]))
    await server.start()
    yield port
    await server.stop(None)


async def tell_apart(certificate: bytes, key: bytes, trusted: bytes) -> ManagerError:
    """Call a server that shows a certificate as one who trusts another root."""
    async with tls_server(certificate, key) as port:
        channel = grpc.aio.secure_channel(
            f"127.0.0.1:{port}",
            grpc.ssl_channel_credentials(root_certificates=trusted),
            options=[("grpc.ssl_target_name_override", "swarm-manager")],
        )
        with pytest.raises(ManagerError) as caught:
            await GrpcManager(Link(channel)).heartbeat(api.HeartbeatRequest())
        await channel.close()
        return caught.value


async def test_a_server_of_another_root_is_recognised_as_untrusted() -> None:
    certificate, key = self_signed()
    theirs, ours = FakeAuthority(), FakeAuthority()  # of the same name, as all swarms are
    manager = theirs.manager()
    for error in (
        await tell_apart(certificate, key, self_signed()[0]),
        await tell_apart(manager.cert_pem, manager.key_pem, ours.root_pem),
        await tell_apart(manager.cert_pem, manager.key_pem, FakeAuthority("another").root_pem),
    ):
        assert error.untrusted_server, error
        assert str(error) == (
            f"cannot connect to {Link.address}: the manager's certificate is not of this swarm (UNAVAILABLE)"
        )
