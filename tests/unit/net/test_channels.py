"""Client channels against real servers, and the sentence for each way a call can fail."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from swarmkit.ca.credentials import Credentials
from swarmkit.net import channels
from swarmkit.net.channels import AddressError, ConnectError, describe_rpc_error
from tests.fakes.pki import FakeAuthority
from tests.unit.net.harness import ServedApi, cut, failure, health, issue

pytestmark = pytest.mark.real_time


@pytest_asyncio.fixture
async def served(tmp_path: Path) -> AsyncIterator[ServedApi]:
    async with ServedApi(tmp_path) as api_server:
        yield api_server


@pytest_asyncio.fixture
async def foreign_port() -> AsyncIterator[str]:
    """The address of a web server."""
    writers = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    await server.wait_closed()
    for writer in writers:
        await cut(writer)


def free_address() -> str:
    """An address nobody listens on: port 1 is never handed out."""
    return "127.0.0.1:1"


async def sentence(channel: grpc.aio.Channel) -> str:
    async with channel:
        return describe_rpc_error(await failure(issue(channel)))


async def test_the_bootstrap_trusts_the_servers_own_leaf_alone(served: ServedApi) -> None:
    leaf = await channels.fetch_leaf(served.remote.address)
    assert leaf.split() == served.holder.current.cert_pem.split()
    async with channels.leaf_channel(served.remote.address, leaf) as channel:
        await issue(channel)
    other = FakeAuthority().manager().cert_pem
    text = await sentence(channels.leaf_channel(served.remote.address, other))
    assert text.startswith(f"cannot connect to {served.remote.address}: ")


async def test_the_first_issuance_asks_for_the_ca_and_shows_no_certificate(served: ServedApi) -> None:
    async with channels.anonymous_channel(served.remote.address, served.authority.root_pem) as channel:
        await issue(channel)
    assert served.node_ca.caller.anonymous


async def test_a_channel_with_credentials_expects_a_manager(served: ServedApi) -> None:
    served.holder.replace(served.authority.worker("no-manager"))
    text = await sentence(served.channel(served.authority.worker("worker-1")))
    assert (
        text
        == f"cannot connect to {served.remote.address}: what answers there shows no manager's certificate"
    )


async def test_a_manager_of_another_swarm_is_recognised(served: ServedApi) -> None:
    text = await sentence(served.channel(FakeAuthority("other-ca").worker()))
    assert (
        text == f"cannot connect to {served.remote.address}: the manager's certificate is not of this swarm"
    )


async def test_an_expired_managers_certificate_is_named(served: ServedApi) -> None:
    served.holder.replace(served.authority.issue("manager-1", days=-1))
    assert "the manager's certificate has expired" in await sentence(
        served.channel(served.authority.worker())
    )


async def test_an_address_where_nobody_listens(served: ServedApi) -> None:
    address = free_address()
    text = await sentence(channels.secure_channel(address, served.holder.current))
    assert text == (
        f"cannot connect to {address}: nobody listens there: is the manager running, and is this its address?"
    )
    for spelt in (address, address.replace("127.0.0.1", "localhost")):
        with pytest.raises(ConnectError, match=f"^cannot connect to {spelt}: nobody listens there: is the "):
            await channels.fetch_leaf(spelt)


async def test_a_host_that_does_not_exist(served: ServedApi) -> None:
    text = await sentence(channels.secure_channel("no-such-host.invalid:4242", served.holder.current))
    assert text.endswith("the host name does not resolve")
    with pytest.raises(ConnectError, match=r"no-such-host\.invalid:4242: the host name does not resolve$"):
        await channels.fetch_leaf("no-such-host.invalid:4242")


async def test_a_foreign_port(served: ServedApi, foreign_port: str) -> None:
    text = await sentence(channels.secure_channel(foreign_port, served.holder.current))
    assert (
        text
        == f"cannot connect to {foreign_port}: what answers there does not speak TLS: it is not a manager"
    )
    with pytest.raises(ConnectError, match=f"^{foreign_port} is not a manager: .* does not speak TLS$"):
        await channels.fetch_leaf(foreign_port)


async def test_a_server_that_never_answers(served: ServedApi) -> None:
    writers = []

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    with pytest.raises(ConnectError, match=rf"^no answer from {address} within 0\.1 s$"):
        await channels.fetch_leaf(address, timeout=0.1)
    async with channels.secure_channel(address, served.holder.current) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/x/y")
        error = await failure(call(b"", timeout=0.1))
    assert describe_rpc_error(error, address) == f"no answer from {address} in time"
    server.close()
    await server.wait_closed()
    for writer in writers:
        await cut(writer)


async def test_a_control_socket_that_is_missing_foreign_or_left_over(
    served: ServedApi, tmp_path: Path, foreign_port: str
) -> None:
    missing = tmp_path / "none.sock"
    assert await sentence(channels.unix_channel(missing)) == (
        f"cannot connect to {missing}: nothing is there: is the manager running, and is this its socket?"
    )
    no_socket = tmp_path / "file"
    no_socket.write_text("")
    assert "nobody listens there" in await sentence(channels.unix_channel(no_socket))
    with pytest.raises(ConnectError, match="longer than the 107 bytes"):
        channels.unix_channel(tmp_path / ("x" * 120))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read(-1)
        writer.close()

    server = await asyncio.start_unix_server(answer, tmp_path / "web")
    assert "what answers there is a web server" in await sentence(channels.unix_channel(tmp_path / "web"))
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("address", ["nonsense", "host:port", "1.2.3.4:99999", ":4242", "host:0"])
async def test_a_malformed_address_fails_before_anything_is_dialled(address: str) -> None:
    authority = FakeAuthority()
    with pytest.raises(AddressError):
        channels.secure_channel(address, authority.manager())
    with pytest.raises(AddressError):
        channels.leaf_channel(address, authority.root_pem)
    with pytest.raises(AddressError):
        await channels.fetch_leaf(address)


async def test_a_managers_own_words_are_passed_on_and_unknown_calls_named(served: ServedApi) -> None:
    async with served.local() as channel:
        assert describe_rpc_error(await failure(health(channel, "nope"))) == "unknown service"
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/x/y")
        assert describe_rpc_error(await failure(call(b""))) == "the manager does not know this call"


async def test_proxies_in_the_environment_are_ignored(
    served: ServedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, f"http://{free_address()}")
    async with served.channel(served.authority.worker()) as channel:
        await issue(channel)


def test_the_repr_of_credentials_shows_no_key() -> None:
    credentials = FakeAuthority().manager()
    assert isinstance(credentials, Credentials)
    assert "PRIVATE KEY" not in repr(credentials)


def test_channels_can_be_imported_without_server_store_or_cryptography() -> None:
    unwanted = ("cryptography", "swarmkit.store", "swarmkit.net.server")
    listing = f"[name for name in sys.modules if name.startswith({unwanted})]"
    code = f"import sys, swarmkit.net.channels; print({listing})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
