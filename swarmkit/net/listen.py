"""Listening sockets of a manager, and the sentences for when they cannot be had."""

import asyncio
import contextlib
import errno
import os
import socket
import stat
from pathlib import Path
from typing import Any

from swarmkit.net.address import AddressError, join_address, split_address

#: Longest path of a unix socket that Linux takes, in bytes.
MAX_SOCKET_PATH = 107
_BACKLOG = 1024


class ListenError(Exception):
    """An address or a socket path cannot be listened on; the text says why and what to do.

    ListenError
    └── AddressInUseError   another process listens there
    """


class AddressInUseError(ListenError):
    """Another process listens there."""


async def listen_tcp(address: str) -> list[socket.socket]:
    """Open listening sockets for ``host:port``; an empty host means every interface, IPv6 included.

    Raises:
        ListenError: the address is malformed, not of this machine, in use, or not allowed.
    """
    try:
        host, port = split_address(address)
    except AddressError as error:
        raise ListenError(str(error)) from None
    if not host and socket.has_dualstack_ipv6():
        try:
            return [_tcp_socket(socket.AF_INET6, ("::", port), dual_stack=True)]
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise _tcp_error(address, error) from error
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(
            host or "0.0.0.0",
            port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE,
        )
    except socket.gaierror as error:
        raise ListenError(
            f"cannot listen on {address}: the host name does not resolve ({error.strerror})"
        ) from error
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, target in dict.fromkeys(found):
            if sockets and not port:  # every address of the name gets the port that the first one was given
                target = (target[0], sockets[0].getsockname()[1], *target[2:])
            sockets.append(_tcp_socket(family, target))
    except OSError as error:
        for opened in sockets:
            opened.close()
        raise _tcp_error(address, error) from error
    return sockets


def _tcp_socket(family: int, target: tuple[Any, ...], dual_stack: bool = False) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not dual_stack))
        listener.bind(target)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _tcp_error(address: str, error: OSError) -> ListenError:
    if error.errno == errno.EADDRINUSE:
        return AddressInUseError(
            f"cannot listen on {address}: the port is in use; stop the process that uses it or choose another"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return ListenError(f"cannot listen on {address}: it is not an address of this machine")
    if error.errno == errno.EACCES:
        return ListenError(
            f"cannot listen on {address}: not permitted; choose a port above 1023 or run as root"
        )
    return ListenError(f"cannot listen on {address}: {error.strerror or error}")


async def accept(listener: socket.socket) -> tuple[socket.socket, Any]:
    """Return the next connection, non-blocking, and the address of its other end.

    Not ``loop.sock_accept``: cancelled in the moment a connection comes, it would take it and lose it, open.

    Raises:
        OSError: none can be accepted.
    """
    while True:
        with contextlib.suppress(BlockingIOError, InterruptedError):
            client, address = listener.accept()
            client.setblocking(False)
            return client, address
        await readable(listener)


async def readable(waiting: socket.socket) -> None:
    """Wait until there is something to read from a socket, or to accept."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(waiting, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(waiting)


def bound_address(listener: socket.socket) -> str:
    """Return ``host:port`` that a TCP listener is bound to."""
    host, port = listener.getsockname()[:2]
    return join_address(host, port)


class ControlSocket:
    """A listening unix socket, mode 0600, and the file it stands for.

    A file left by a dead process is replaced. A socket on which somebody answers is left alone.
    """

    def __init__(self, path: Path) -> None:
        """Open it; a missing directory is made with mode 0700.

        Raises:
            ListenError: the path is too long, is no socket, or cannot be written.
            AddressInUseError: another daemon answers there.
        """
        self.path = path
        if len(os.fsencode(path)) > MAX_SOCKET_PATH:
            raise ListenError(
                f"the socket path {path} has {len(os.fsencode(path))} bytes, the system takes at most"
                f" {MAX_SOCKET_PATH}: choose a shorter one"
            )
        try:
            _make_directory(path.parent)
            self._clear()
            self.listener = self._bind()
        except OSError as error:
            # EEXIST: what should become the directory is a file.
            wrong = error.errno in (errno.ENOTDIR, errno.EEXIST)
            reason = f"{path.parent} is not a directory" if wrong else error.strerror or str(error)
            raise ListenError(f"cannot listen on the socket {path}: {reason}") from error
        self._inode = _inode(path)

    def close(self) -> None:
        """Stop listening and remove the file, unless somebody else has put another in its place."""
        if self.listener.fileno() < 0:
            return
        self.listener.close()
        if self._inode is not None and _inode(self.path) == self._inode:
            with contextlib.suppress(OSError):
                self.path.unlink()

    def _clear(self) -> None:
        """Remove a stale socket; refuse anything else that is in the way."""
        try:
            mode = self.path.lstat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise ListenError(f"{self.path} exists and is not a socket: remove it or choose another path")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
            try:
                probe.connect(str(self.path))
            except ConnectionRefusedError:
                self.path.unlink(missing_ok=True)
                return
            except FileNotFoundError:
                return
            except BlockingIOError:  # a full backlog: somebody listens
                pass
        raise AddressInUseError(
            f"another daemon answers on the socket {self.path}: stop it or choose another path"
        )

    def _bind(self) -> socket.socket:
        listener = socket.socket(
            socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        try:
            # On Linux the file inherits the socket's mode: it is never open to others, not for a moment.
            os.fchmod(listener.fileno(), 0o600)
            listener.bind(str(self.path))
            self.path.chmod(0o600)
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
        return listener


def _make_directory(directory: Path) -> None:
    """Make ``directory`` with mode 0700; one that exists is left as it is: it may be /var/run."""
    if directory.is_dir():
        return
    directory.parent.mkdir(parents=True, exist_ok=True)
    directory.mkdir(mode=0o700, exist_ok=True)


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
