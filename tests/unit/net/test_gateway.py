"""The TLS port and the control socket with real connections (contract/security.md, 4 and tests 18 to 21)."""

import asyncio
import contextlib
import logging
import os
import resource
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.x509.oid import NameOID

from swarmkit.ca.credentials import Credentials, CredentialsHolder
from swarmkit.clock import SystemClock
from swarmkit.net import channels
from swarmkit.net.door import Door, private_directory
from swarmkit.net.gateway import RemoteGateway
from swarmkit.net.limits import Limits
from swarmkit.net.listen import AddressInUseError, ListenError
from tests.fakes.pki import FakeAuthority
from tests.unit.net.harness import (
    PREFACE_AND_SETTINGS,
    ServedApi,
    Streams,
    client_context,
    cut,
    eventually,
    failure,
    health,
    issue,
    opened,
    read_all,
    tls_tunnel,
)

pytestmark = pytest.mark.real_time

PING = b"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + b"ping-us!"
PING_ACK = b"\x00\x00\x08\x06\x01\x00\x00\x00\x00" + b"ping-us!"


@pytest_asyncio.fixture
async def served(tmp_path: Path) -> AsyncIterator[ServedApi]:
    async with ServedApi(tmp_path) as api_server:
        yield api_server


def warnings(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [record.fields for record in caplog.records if record.levelno == logging.WARNING]  # type: ignore[attr-defined]


async def tls_connection(
    port: int, context: ssl.SSLContext
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="swarm-manager")


@pytest.mark.parametrize("kind", ["expired", "foreign root"])
async def test_an_invalid_client_certificate_fails_even_for_open_calls_and_both_sides_learn_why(
    served: ServedApi, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    if kind == "expired":
        credentials = served.authority.issue("worker-1", "swarm-worker", days=-1)
    else:
        other = FakeAuthority().worker()
        root = served.authority.root_pem
        credentials = Credentials(root, other.cert_pem, other.key_pem, "w", other.role, other.organization)
    async with served.channel(credentials) as channel:
        error = await failure(issue(channel))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    refusal = "the manager refuses this node's certificate: it has expired or is not of this swarm"
    assert channels.describe_rpc_error(error) == f"cannot connect to {served.remote.address}: {refusal}"
    assert "the client certificate is not valid here" in warnings(caplog)[0]["error"]
    context = client_context(credentials, root_pem=served.authority.root_pem)
    async with opened(tls_connection(served.port, context)) as (reader, writer):
        writer.write(PREFACE_AND_SETTINGS)
        with pytest.raises(ssl.SSLError, match="alert"):
            await reader.read(100)


async def test_a_certificate_that_names_no_node_is_turned_away(
    served: ServedApi, caplog: pytest.LogCaptureFixture
) -> None:
    nameless = served.authority.issue("w", subject=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "w")]))
    async with served.channel(nameless) as channel:
        assert (await failure(issue(channel))).code() is grpc.StatusCode.UNAVAILABLE
    assert "names no node" in warnings(caplog)[0]["error"]


async def test_http2_is_served_to_clients_that_offer_no_alpn(served: ServedApi, tmp_path: Path) -> None:
    credentials = served.authority.worker("worker-1")
    context = client_context(credentials, root_pem=served.authority.root_pem)
    async with tls_tunnel(tmp_path, served.port, context, "swarm-manager") as channel:
        await issue(channel)
    assert served.node_ca.caller.node_id == "worker-1"


async def test_h2_is_selected_when_it_is_offered(served: ServedApi) -> None:
    async with opened(tls_connection(served.port, client_context(alpn=("h2",)))) as (_, writer):
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"


async def test_any_server_name_will_do(served: ServedApi, tmp_path: Path) -> None:
    async with tls_tunnel(tmp_path, served.port, client_context(), "%2Frun%2Fs.sock") as channel:
        await issue(channel)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_1_2_and_1_3_are_spoken(served: ServedApi, tmp_path: Path, version: ssl.TLSVersion) -> None:
    context = client_context(served.authority.worker("worker-1"), alpn=("h2",))
    context.minimum_version = context.maximum_version = version
    async with tls_tunnel(tmp_path, served.port, context, "swarm-manager") as channel:
        await issue(channel)
    assert served.node_ca.caller.node_id == "worker-1"


async def test_new_credentials_hold_for_new_connections_and_old_ones_live_on(served: ServedApi) -> None:
    old_worker = served.authority.worker("worker-old")
    async with served.channel(old_worker) as old:
        await issue(old)
        rotated = FakeAuthority()
        served.holder.replace(rotated.manager("manager-1"))
        await issue(old)
        assert served.node_ca.caller.node_id == "worker-old"
        async with served.channel(rotated.worker("worker-new")) as new:
            await issue(new)
        assert served.node_ca.caller.node_id == "worker-new"
        async with served.channel(old_worker) as refused:
            assert (await failure(issue(refused))).code() is grpc.StatusCode.UNAVAILABLE


async def test_credentials_that_cannot_be_used_leave_the_old_in_place(
    served: ServedApi, caplog: pytest.LogCaptureFixture
) -> None:
    good = served.holder.current
    served.holder.replace(
        Credentials(good.root_pem, good.cert_pem, b"no key", "m", good.role, good.organization)
    )
    async with served.channel(served.authority.worker("worker-1")) as channel:
        await issue(channel)
    assert "keeping the old" in caplog.text


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x00" * 64, b"SSH-2.0-x\r\n", b"\x16\x03\x01"]
)
async def test_garbage_on_the_port_costs_one_line_and_the_connection_nothing_else(
    served: ServedApi, caplog: pytest.LogCaptureFixture, garbage: bytes
) -> None:
    async with opened(asyncio.open_connection("127.0.0.1", served.port)) as (reader, writer):
        writer.write(garbage)
        writer.write_eof()
        await read_all(reader)
    await eventually(lambda: served.remote.open_connections == 0)
    assert len(warnings(caplog)) <= 1
    assert not any(record.exc_info for record in caplog.records)
    async with served.anonymous() as channel:
        await issue(channel)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
async def test_garbage_on_the_control_socket_never_reaches_the_server(
    served: ServedApi, caplog: pytest.LogCaptureFixture, tls: bool
) -> None:
    options: dict[str, Any] = {"ssl": client_context(), "server_hostname": "x"} if tls else {}
    async with opened(asyncio.open_unix_connection(str(served.socket_path), **options)) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await read_all(reader) == b""
    assert [line["error"] for line in warnings(caplog)] == ["the client does not speak HTTP/2"]
    async with served.local() as channel:
        await issue(channel)


async def test_log_lines_that_strangers_cause_are_bounded(
    served: ServedApi, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(30):
        async with opened(asyncio.open_connection("127.0.0.1", served.port)) as (reader, writer):
            writer.write(b"garbage that is no TLS record at all")
            await read_all(reader)
    assert len(warnings(caplog)) == 10


async def test_the_control_socket_speaks_tls_to_those_who_begin_with_it(served: ServedApi) -> None:
    # What clients of the original do: no verification, the escaped path as server name, ALPN h2.
    connecting = asyncio.open_unix_connection(
        str(served.socket_path), ssl=client_context(alpn=("h2",)), server_hostname="%2Frun%2Fs.sock"
    )
    async with opened(connecting) as (reader, writer):
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
        writer.write(PREFACE_AND_SETTINGS + PING)
        await read_pings(reader, 1)


async def test_pings_without_end_are_answered_and_never_punished(served: ServedApi) -> None:
    async with opened(asyncio.open_unix_connection(str(served.socket_path))) as (reader, writer):
        writer.write(PREFACE_AND_SETTINGS)
        received = b""
        for _ in range(30):
            writer.write(PING)
            received += await read_pings(reader, 1)
    assert b"too_many_pings" not in received


async def read_pings(reader: asyncio.StreamReader, count: int) -> bytes:
    """Read until so many pings have been acknowledged."""
    received = b""
    async with asyncio.timeout(10):
        while received.count(PING_ACK) < count:
            data = await reader.read(4096)
            assert data, "the server hung up"
            received += data
    return received


async def test_a_silent_client_is_dropped_after_the_opening_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with ServedApi(tmp_path, Limits(opening_seconds=1.0)) as served:
        async with (
            opened(asyncio.open_connection("127.0.0.1", served.port)) as (plain, _),
            opened(tls_connection(served.port, client_context())) as (tls, _),
            opened(asyncio.open_unix_connection(str(served.socket_path))) as (local, _),
        ):
            for reader in (plain, tls, local):
                assert await read_all(reader) == b""
        await eventually(lambda: served.remote.open_connections + served.control.open_connections == 0)
    assert [line["error"] for line in warnings(caplog)] == ["no complete handshake within 1 s"] * 3


async def test_one_address_cannot_hold_more_than_its_share_without_a_certificate(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with ServedApi(tmp_path, Limits(unproven_per_address=2)) as served:
        async with contextlib.AsyncExitStack() as held:
            for _ in range(2):
                await held.enter_async_context(opened(asyncio.open_connection("127.0.0.1", served.port)))
            await eventually(lambda: served.remote.open_connections == 2)
            async with opened(asyncio.open_connection("127.0.0.1", served.port)) as (reader, _):
                assert await read_all(reader) == b""
        assert "from one address" in warnings(caplog)[0]["error"]
        await eventually(lambda: served.remote.open_connections == 0)
        async with contextlib.AsyncExitStack() as nodes:  # those who show a certificate do not count
            for number in range(4):
                credentials = served.authority.worker(f"worker-{number}")
                await issue(await nodes.enter_async_context(served.channel(credentials)))
            assert served.remote.open_connections == 4


@pytest.mark.parametrize(
    "limits",
    [Limits(anonymous_idle_seconds=1.0), Limits(anonymous_seconds=1.0)],
    ids=["idle", "whole life"],
)
async def test_a_connection_without_certificate_does_not_live_for_ever(
    tmp_path: Path, limits: Limits
) -> None:
    async with ServedApi(tmp_path, limits) as served:
        async with served.channel(served.authority.worker()) as proven, served.local() as local:
            await issue(proven)
            await issue(local)
            async with opened(tls_connection(served.port, client_context(alpn=("h2",)))) as (reader, writer):
                writer.write(PREFACE_AND_SETTINGS)
                assert await read_all(reader), "it is served first"
            await eventually(lambda: served.remote.open_connections == 1)
            assert served.control.open_connections == 1


async def test_everything_is_closed_and_removed_on_stop(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as clients:
        async with ServedApi(tmp_path) as served:
            tls = tls_connection(served.port, client_context(alpn=("h2",)))
            open_reader, writer = await clients.enter_async_context(opened(tls))
            writer.write(PREFACE_AND_SETTINGS)
            await open_reader.read(100)
            plain = asyncio.open_connection("127.0.0.1", served.port)
            half_open_reader, _ = await clients.enter_async_context(opened(plain))
            await eventually(lambda: served.remote.open_connections == 2)
        await read_all(open_reader)
        await read_all(half_open_reader)
        assert served.remote.open_connections == 0
    assert not served.socket_path.exists()
    with pytest.raises(OSError):  # noqa: PT011 - refused, or already somebody else's
        await asyncio.open_connection("127.0.0.1", served.port)


async def test_a_port_in_use_and_a_socket_in_use_are_clear_and_leave_the_server_running(
    served: ServedApi,
) -> None:
    with pytest.raises(AddressInUseError, match="the port is in use"):
        await served.server.listen_remote(served.remote.address)
    with pytest.raises(ListenError, match="another daemon answers"):
        await served.server.listen_control(served.socket_path)
    async with served.anonymous() as channel:
        await issue(channel)
    async with served.local() as channel:
        await health(channel)


class ImpatientClock(SystemClock):
    """Real time, but pauses are short."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / 100)


class Inner:
    """A gateway in front of a raw inner server, for what happens below gRPC."""

    def __init__(self) -> None:
        self.directory = private_directory()
        self.door = Door(self.directory, "raw")
        self.authority = FakeAuthority()
        self.writers: list[asyncio.StreamWriter] = []
        self.accepted: asyncio.Queue[Streams] = asyncio.Queue()

    async def __aenter__(self) -> "Inner":
        self.server = await asyncio.start_unix_server(self._accept, self.door.path)
        self.gateway = RemoteGateway(
            "127.0.0.1:0",
            self.door,
            CredentialsHolder(self.authority.manager()),
            ImpatientClock(),
            Limits(closing_seconds=0.5, stalled_seconds=1.0),
        )
        await self.gateway.start()
        return self

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        self.accepted.put_nowait((reader, writer))

    async def __aexit__(self, *_: object) -> None:
        await self.gateway.close()
        self.server.close()
        await self.server.wait_closed()
        for writer in self.writers:
            await cut(writer)
        assert os.listdir(self.directory) == ["raw"], "inner names are removed once connected"
        self.door.path.unlink()
        self.directory.rmdir()

    @property
    def port(self) -> int:
        return int(self.gateway.address.rpartition(":")[2])

    async def connect(self) -> tuple[Streams, Streams]:
        """Return a TLS client's streams and those of its inner connection, the preface read."""
        reader, writer = await tls_connection(self.port, client_context(self.authority.worker("worker-1")))
        self.writers.append(writer)
        writer.write(PREFACE_AND_SETTINGS)
        inner_reader, inner_writer = await self.accepted.get()
        assert await inner_reader.readexactly(len(PREFACE_AND_SETTINGS)) == PREFACE_AND_SETTINGS
        return (reader, writer), (inner_reader, inner_writer)


async def write_until_stuck(writer: asyncio.StreamWriter) -> int:
    """Write until nothing moves for a while; return how many bytes that were."""
    sent = 0
    with contextlib.suppress(TimeoutError):
        while True:
            writer.write(b"x" * 65536)
            sent += 65536
            assert sent < 64 * 2**20, "nobody slows the writer down"
            async with asyncio.timeout(0.3):
                await writer.drain()
    return sent


async def test_the_inner_servers_peer_name_tells_who_is_connected() -> None:
    async with Inner() as inner:
        (_, writer), (_, inner_writer) = await inner.connect()
        connection = inner.door.find(f"unix:{inner_writer.get_extra_info('peername')}")
        assert connection is not None
        assert connection.peer.node_id == "worker-1"
        assert connection.peer.remote_addr == "{}:{}".format(*writer.get_extra_info("sockname"))
        await cut(writer)
        await eventually(lambda: inner.door.find(connection.name) is None)


async def test_a_slow_inner_server_slows_the_client_down_and_nothing_is_lost() -> None:
    async with Inner() as inner:
        (_, writer), (inner_reader, _) = await inner.connect()
        sent = await write_until_stuck(writer)
        async with asyncio.timeout(10):
            received = await inner_reader.readexactly(sent)
        assert received == b"x" * sent


async def test_a_slow_client_slows_the_inner_server_down_and_nothing_is_lost() -> None:
    async with Inner() as inner:
        (reader, _), (_, inner_writer) = await inner.connect()
        sent = await write_until_stuck(inner_writer)
        async with asyncio.timeout(10):
            received = await reader.readexactly(sent)
        assert received == b"x" * sent


async def test_all_that_was_sent_before_an_end_arrives_before_the_end() -> None:
    async with Inner() as inner:
        (reader, _), (_, inner_writer) = await inner.connect()
        payload = os.urandom(200_000)
        inner_writer.write(payload)
        inner_writer.close()
        assert await read_all(reader) == payload


async def test_the_end_of_one_direction_passes_on_and_the_other_goes_on() -> None:
    async with Inner() as inner:
        raw = await asyncio.to_thread(socket.create_connection, ("127.0.0.1", inner.port))
        context = client_context(inner.authority.worker())
        with await asyncio.to_thread(context.wrap_socket, raw) as client:
            client.sendall(PREFACE_AND_SETTINGS)
            inner_reader, inner_writer = await inner.accepted.get()
            socket.socket.shutdown(client, socket.SHUT_WR)  # SSLSocket's own would end TLS altogether
            assert await read_all(inner_reader) == PREFACE_AND_SETTINGS
            inner_writer.write(b"the last word")
            inner_writer.close()
            assert await asyncio.to_thread(client.recv, 100) == b"the last word"


async def test_a_client_that_takes_nothing_any_more_is_cut() -> None:
    async with Inner() as inner:
        (_, writer), (_, inner_writer) = await inner.connect()
        assert isinstance(writer.transport, asyncio.Transport)
        writer.transport.pause_reading()
        await write_until_stuck(inner_writer)
        await eventually(lambda: inner.gateway.open_connections == 0)


async def test_what_is_left_when_one_direction_has_ended_is_cut_after_a_while() -> None:
    async with Inner() as inner:
        (reader, _), (_, inner_writer) = await inner.connect()
        inner_writer.write_eof()
        await read_all(reader)
        await eventually(lambda: inner.gateway.open_connections == 0)


async def test_a_process_out_of_descriptors_waits_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async with Inner() as inner:
        with socket.socket() as client, contextlib.ExitStack() as taken:
            client.setblocking(False)
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno(), hard))
                with contextlib.suppress(OSError):
                    while True:  # what is free below
                        taken.callback(os.close, os.dup(client.fileno()))
                await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", inner.port))
                await eventually(lambda: bool(warnings(caplog)))
                assert inner.gateway.open_connections == 0
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                taken.close()
            await eventually(lambda: inner.gateway.open_connections == 1)
    assert warnings(caplog)[0]["error"] == "Too many open files"


async def test_nagle_is_off_on_the_port() -> None:
    async with Inner() as inner:
        await inner.connect()
        options = []
        for number in map(int, os.listdir("/proc/self/fd")):
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(number)) as each:
                if (
                    each.family == socket.AF_INET
                    and each.getsockname()[1] == inner.port
                    and each.getpeername()
                ):
                    options.append(each.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        assert options
        assert all(options)
