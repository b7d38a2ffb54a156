"""What the tests of bad input share: how a refusal looks, many commands at once, foreign listeners."""

import contextlib
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import grpc

from tests.integration.harness import Daemon, Result

A = TypeVar("A")
B = TypeVar("B")

FAILED, MISUSED = 1, 2
#: Commands that run at once: the machine has few cores.
AT_ONCE = 4
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HTTP2_FRAME_HEAD = 9
HTTP2_HEADERS = 1


def many(work: Callable[[A], B], items: Iterable[A], at_once: int = AT_ONCE) -> list[B]:
    """Do the same with several things at once; the first failure is raised when all have ended."""
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(work, items))


def assert_plain(text: str) -> None:
    """Check that a text holds neither a traceback nor a line of gRPC's own."""
    assert "Traceback" not in text, text[-3000:]
    for line in text.splitlines():
        assert not line.startswith(("E0000", "I0000", "W0000", "WARNING:")), line
        assert ".cc:" not in line, line


def assert_refused(result: Result, words: str, code: int) -> None:
    """Check that a command failed with one sentence that holds ``words`` and printed nothing else."""
    told = f"{result.command}: {result.code} {result.out!r} {result.err!r}"
    assert result.code == code, told
    assert result.out == "", told
    assert_plain(result.err)
    lines = [line for line in result.err.splitlines() if line]
    assert lines[-1].startswith("Error: "), told
    assert words in lines[-1], told
    if code == FAILED:
        assert len(lines) == 1, told
    else:
        assert lines[0].startswith("Usage: "), told


def assert_ended(daemon: Daemon, words: str, code: int = FAILED, timeout: float = 60) -> None:
    """Wait until a daemon ends by itself; its log's last line must hold ``words``."""
    ended = daemon.wait_ended(timeout)
    assert_plain(daemon.log)
    last = daemon.log.splitlines()[-1]
    assert ended == code, daemon.log[-3000:]
    assert words in last, last
    assert "level=error" in last or code == MISUSED, last


def assert_sound(daemon: Daemon) -> None:
    """Check that a daemon runs and that its log holds lines of its own format alone."""
    assert daemon.running, daemon.log[-3000:]
    assert_plain(daemon.log)
    assert all(line.startswith("time=") for line in daemon.log.splitlines()), daemon.log[-3000:]


@contextlib.contextmanager
def short_directory() -> Iterator[Path]:
    """A folder of a short path, for a module."""
    folder = Path(tempfile.mkdtemp(prefix="swk-", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def silent(client: socket.socket) -> None:
    """Say nothing until the other end closes."""
    while client.recv(4096):
        pass


def web(client: socket.socket) -> None:
    """Answer as a web server does."""
    client.recv(4096)
    client.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def garbage(client: socket.socket) -> None:
    """Answer with bytes that mean nothing."""
    client.sendall(bytes(range(256)) * 4)
    silent(client)


def hang_up(client: socket.socket) -> None:
    """Close at once."""


def greet_and_hang_up(client: socket.socket) -> None:
    """Greet as an HTTP/2 server, wait for the call, and close (RFC 9113, 4.1)."""
    client.sendall(b"\0\0\0\x04\0\0\0\0\0")
    received, position = b"", len(HTTP2_PREFACE)
    while data := client.recv(4096):
        received += data
        while len(received) >= position + HTTP2_FRAME_HEAD:
            if received[position + 3] == HTTP2_HEADERS:
                return
            position += HTTP2_FRAME_HEAD + int.from_bytes(received[position : position + 3], "big")


@contextlib.contextmanager
def listener(
    bound: socket.socket,
    serve: Callable[[socket.socket], None],
    wrap: Callable[[socket.socket], socket.socket] = lambda client: client,
) -> Iterator[None]:
    """Serve each connection of a bound socket in a thread; all threads have ended when the block has."""
    threads: list[threading.Thread] = []
    clients: list[socket.socket] = []

    def handle(client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, wrap(client) as wrapped:
            serve(wrapped)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = bound.accept()
                clients.append(client)
                threads.append(threading.Thread(target=handle, args=(client,)))
                threads[-1].start()

    bound.listen(64)
    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            bound.shutdown(socket.SHUT_RDWR)
        bound.close()
        accepting.join()
        for client in clients:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()


@contextlib.contextmanager
def foreign_grpc(path: Path) -> Iterator[None]:
    """A gRPC server on a unix socket that knows nothing of swarms."""
    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool)
        server.add_insecure_port(f"unix:{path}")
        server.start()
        try:
            yield
        finally:
            server.stop(None).wait()
