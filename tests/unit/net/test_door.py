import asyncio
import errno
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmkit.net import door as door_module
from swarmkit.net.authorization import Peer
from swarmkit.net.door import Door, DoorBusyError, private_directory

pytestmark = pytest.mark.real_time


def listening(door: Door, backlog: int) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(door.path))
    listener.listen(backlog)
    return listener


def test_the_directory_is_private_and_its_path_short() -> None:
    directory = private_directory()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert len(str(directory)) < 80
    directory.rmdir()


@pytest.fixture
def short() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="swk-", dir="/tmp") as folder:
        yield Path(folder)


def test_what_a_killed_process_has_left_gives_way_to_an_empty_directory(short: Path) -> None:
    wanted = short / "sockets"
    for _ in range(2):
        assert private_directory(wanted) == wanted
        assert (stat.S_IMODE(wanted.stat().st_mode), os.listdir(wanted)) == (0o700, [])
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(wanted / "inner"))


@pytest.mark.parametrize("name", ["x" * 80, "with space", "missing/sockets"])
def test_where_sockets_cannot_be_a_temporary_directory_is_made(short: Path, name: str) -> None:
    directory = private_directory(short / name)
    assert directory.parent == Path(tempfile.gettempdir())
    assert os.listdir(short) == []
    directory.rmdir()


def test_a_file_system_without_sockets_is_noticed(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(door_module, "_prove", refuse)
    directory = private_directory(short / "sockets")
    assert directory.parent == Path(tempfile.gettempdir())
    assert os.listdir(short) == []
    directory.rmdir()


async def test_a_connection_is_known_by_its_socket_name_until_it_leaves_and_its_file_goes_at_once() -> None:
    directory = private_directory()
    door = Door(directory, "inner")
    with listening(door, 4) as listener:
        first, one = await door.enter(Peer("a"))
        second, two = await door.enter(Peer("b"))
        names = []
        for _ in range(2):
            accepted, name = listener.accept()
            names.append(f"unix:{name}")
            accepted.close()
        assert [door.find(name) for name in names] == [first, second]
        assert door.find("unix:") is None
        assert os.listdir(directory) == ["inner"]
        door.leave(first)
        door.leave(first)
        assert door.find(first.name) is None
        assert door.find(second.name) is second
        one.close()
        two.close()
    door.path.unlink()
    directory.rmdir()


async def test_a_full_backlog_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "_CONNECT_PAUSE_SECONDS", 0.001)
    directory = private_directory()
    door = Door(directory, "inner")
    with listening(door, 0) as listener:
        first, one = await door.enter(Peer("a"))
        with pytest.raises(DoorBusyError):
            await door.enter(Peer("b"))
        entering = asyncio.ensure_future(door.enter(Peer("c")))
        await asyncio.sleep(0.01)
        listener.accept()[0].close()
        second, two = await entering
        assert door.find(second.name) is second
        assert second is not first
        one.close()
        two.close()
    assert os.listdir(directory) == ["inner"]
    door.path.unlink()
    directory.rmdir()


async def test_without_an_inner_server_nothing_is_left_behind() -> None:
    directory = private_directory()
    door = Door(directory, "inner")
    with pytest.raises(FileNotFoundError):
        await door.enter(Peer("a"))
    assert os.listdir(directory) == []
    directory.rmdir()
