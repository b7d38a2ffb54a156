import asyncio
import contextlib
import os
import socket
import stat
from pathlib import Path

import pytest

from swarmkit.net.listen import (
    MAX_SOCKET_PATH,
    AddressInUseError,
    ControlSocket,
    ListenError,
    accept,
    bound_address,
    listen_tcp,
)

pytestmark = pytest.mark.real_time


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.sock"


async def test_port_0_is_any_free_port_and_the_bound_address_says_which() -> None:
    (listener,) = await listen_tcp("127.0.0.1:0")
    with listener:
        host, _, port = bound_address(listener).rpartition(":")
        assert host == "127.0.0.1"
        assert int(port) > 0


async def test_an_empty_host_takes_ipv4_clients_too() -> None:
    listeners = await listen_tcp(":0")
    try:
        port = listeners[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        await writer.wait_closed()
    finally:
        for listener in listeners:
            listener.close()


async def test_a_name_with_several_addresses_listens_on_each_at_one_port() -> None:
    listeners = await listen_tcp("localhost:0")
    try:
        assert len({listener.getsockname()[1] for listener in listeners}) == 1
        assert len({listener.getsockname()[0] for listener in listeners}) == len(listeners)
    finally:
        for listener in listeners:
            listener.close()


async def test_a_port_in_use_is_an_error_of_its_own_with_a_sentence() -> None:
    (listener,) = await listen_tcp("127.0.0.1:0")
    with listener:
        address = bound_address(listener)
        with pytest.raises(
            AddressInUseError, match=rf"^cannot listen on {address}: the port is in use; stop"
        ):
            await listen_tcp(address)


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("nonsense", "is not an address"),
        ("192.0.2.1:4242", "cannot listen on 192.0.2.1:4242: it is not an address of this machine"),
        ("no-such-host.invalid:4242", "the host name does not resolve"),
    ],
)
async def test_an_address_that_cannot_be_had_is_a_clear_sentence(address: str, sentence: str) -> None:
    with pytest.raises(ListenError, match=sentence):
        await listen_tcp(address)


@pytest.mark.real_time
@pytest.mark.parametrize("turns", range(4))
async def test_no_connection_is_lost_open_that_comes_in_the_moment_of_giving_up(turns: int) -> None:
    [listener] = await listen_tcp("127.0.0.1:0")
    accepting = asyncio.get_running_loop().create_task(accept(listener))
    await asyncio.sleep(0.01)
    with socket.create_connection(listener.getsockname()) as client:
        for _ in range(turns):  # of the loop: it is noticed, accepted, and handed over
            await asyncio.sleep(0)
        accepting.cancel()
        await asyncio.wait([accepting])
        listener.close()
        if not accepting.cancelled():
            accepting.result()[0].close()
        client.settimeout(1)
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""


def test_the_socket_is_0600_in_a_directory_made_0700(tmp_path: Path) -> None:
    path = tmp_path / "manager1" / "swarm.sock"
    old = os.umask(0)
    try:
        control = ControlSocket(path)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    control.close()
    control.close()
    assert not path.exists()


def test_a_directory_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    ControlSocket(tmp_path / "s.sock").close()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_a_socket_left_by_a_dead_process_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    control = ControlSocket(path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    control.close()


@pytest.mark.parametrize("backlog", [0, 16], ids=["its backlog full", "answering"])
def test_the_socket_of_a_living_daemon_is_left_alone(path: Path, backlog: int) -> None:
    with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as client:
        other.bind(str(path))
        other.listen(backlog)
        if not backlog:
            client.connect(str(path))
        with pytest.raises(AddressInUseError, match=rf"another daemon answers on the socket {path}: stop it"):
            ControlSocket(path)
        assert path.exists()


def test_what_is_no_socket_is_never_removed(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(ListenError, match="exists and is not a socket: remove it or choose another path"):
        ControlSocket(path)
    assert path.read_text() == "precious"


def test_a_path_that_is_too_long_is_refused_with_its_length(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 120)
    with pytest.raises(
        ListenError, match=rf"bytes, the system takes at most {MAX_SOCKET_PATH}: choose a shorter"
    ):
        ControlSocket(path)


def test_a_directory_that_is_a_file_is_a_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ListenError, match=rf"^cannot listen on the socket .*s.sock: {tmp_path}/file is not a directory$"
    ):
        ControlSocket(tmp_path / "file" / "s.sock")


def test_close_leaves_a_file_that_somebody_else_has_put_there(path: Path) -> None:
    control = ControlSocket(path)
    path.unlink()
    path.write_text("another")
    control.close()
    assert path.read_text() == "another"
