"""The door from the gateways into an inner gRPC server: a socket, and the names of those who came through.

grpcio can only require client certificates or never ask for them. So TLS ends in the gateway, and the inner
server, on a unix socket in a private directory, sees plain HTTP/2. The gateway binds its end of every inner
connection to a path of its own: ``context.peer()`` gives that path, and the door knows whose it is.
"""

import asyncio
import contextlib
import os
import re
import shutil
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path

from swarmkit.net.authorization import Peer

#: ``context.peer()`` escapes anything beyond these characters and would not equal the path any more.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./-]{1,64}")
_CONNECT_ATTEMPTS = 100
_CONNECT_PAUSE_SECONDS = 0.02


class DoorBusyError(Exception):
    """The inner server does not take connections: its backlog stayed full for two seconds."""


@dataclass(eq=False)
class Connection:
    """One spliced connection.

    Attributes:
        name: what ``context.peer()`` returns for it.
        peer: who is at the other end.
        calls: RPCs it has in flight.
    """

    name: str
    peer: Peer
    calls: int = 0


class Door:
    """The way into one inner server; the server asks it whose connection an RPC came over."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = name
        self._count = 0
        self._connections: dict[str, Connection] = {}

    @property
    def path(self) -> Path:
        """The inner server's socket."""
        return self._directory / self._name

    def find(self, grpc_peer: str) -> Connection | None:
        """Return the connection that ``context.peer()`` names; None if it did not come through this door."""
        return self._connections.get(grpc_peer)

    async def enter(self, peer: Peer) -> tuple[Connection, socket.socket]:
        """Connect to the inner server in the name of ``peer``; end it with ``leave``.

        Raises:
            DoorBusyError: the inner server's backlog is full.
            OSError: it cannot be reached.
        """
        self._count += 1
        path = f"{self.path}-{self._count}"
        connection = Connection(f"unix:{path}", peer)
        inner = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            inner.bind(path)
            self._connections[connection.name] = connection
            await self._connect(inner)
        except BaseException:
            self.leave(connection)
            inner.close()
            raise
        finally:
            # The name belongs to the socket, not to the file: it stays when the file goes.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        return connection, inner

    def leave(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self._connections.pop(connection.name, None)

    async def _connect(self, inner: socket.socket) -> None:
        # Not loop.sock_connect: on a unix socket EAGAIN means a full backlog, not a connect in progress.
        for _ in range(_CONNECT_ATTEMPTS):
            try:
                inner.connect(str(self.path))
            except BlockingIOError:
                await asyncio.sleep(_CONNECT_PAUSE_SECONDS)
            else:
                return
        raise DoorBusyError("the inner server takes no connections")


def private_directory(wanted: Path | None = None) -> Path:
    """Make an empty directory, mode 0700, for inner sockets; its path is short and needs no escaping.

    Args:
        wanted: where to make it, in place of what a process that was killed has left there. A fresh one in
            the system's temporary directory is made instead if that path is long or needs escaping, or its
            file system knows no sockets; nobody removes that one after a crash.

    Raises:
        OSError: none can be made.
    """
    if wanted is not None and _PLAIN_PATH.fullmatch(os.fspath(wanted)) and wanted.is_absolute():
        shutil.rmtree(wanted, ignore_errors=True)
        try:
            wanted.mkdir(mode=0o700)
            _prove(wanted)
        except OSError:
            shutil.rmtree(wanted, ignore_errors=True)
        else:
            return wanted
    base = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix="swarmkit-", dir=base if _PLAIN_PATH.fullmatch(base) else "/tmp"))


def _prove(directory: Path) -> None:
    """Bind a socket in ``directory`` and remove it; raises OSError."""
    probe = directory / "probe"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
        trial.bind(str(probe))
    probe.unlink()
