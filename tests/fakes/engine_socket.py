"""An engine's socket, on the test's own loop: the real client talks to it, the test scripts the answers."""

import asyncio
import contextlib
import json
import re
import urllib.parse
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

Json = dict[str, Any]
VERSION = "1.41"


class EngineSocket:
    """Answers requests by ``METHOD /path`` (without the version); what is in ``streaming`` stays open.

    Attributes:
        answers: status and body by request; 404 for what is not there.
        streaming: requests whose answer begins and then waits for ``emit`` and ``cut``.
        silent: requests that are read and never answered.
        requests: what was asked, in order.
        headers: the header fields of each, names in lower case.
        queries: the parameters of the last request of each kind; JSON is parsed.
        connections: how many were made.
        hung_up: requests whose client went away while they were open.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"unix://{path}"
        self.answers: dict[str, tuple[int, Any]] = {"GET /version": (200, {"ApiVersion": VERSION})}
        self.streaming = {"GET /events"}
        self.silent: set[str] = set()
        self.requests: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.queries: dict[str, Json] = {}
        self.hung_up: list[str] = []
        self.connections = 0
        self._open: dict[asyncio.StreamWriter, str] = {}
        self._server: asyncio.Server | None = None
        self._tcp: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def listen_on_loopback(self) -> str:
        """Listen on a port as well, until ``close``; return the address as users write it."""
        self._tcp = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"tcp://127.0.0.1:{self._tcp.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        """Refuse connections from now on, and cut those that are open."""
        for server in (self._server, self._tcp):
            if server is not None:
                server.close()
        self.path.unlink(missing_ok=True)
        self.cut()

    def count(self, request: str) -> int:
        return self.requests.count(request)

    @property
    def open_streams(self) -> int:
        return len(self._open)

    def emit(self, message: Json) -> None:
        for writer in self._open:
            _chunk(writer, message)

    def cut(self) -> None:
        """Break the streams off, as an engine does that dies."""
        for writer in self._open:
            writer.close()

    def end(self) -> None:
        """End the streams in good order."""
        for writer in self._open:
            writer.write(b"0\r\n\r\n")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                fields = {k.lower(): v for k, v in (line.split(": ", 1) for line in head[1:] if line)}
                await reader.readexactly(int(fields.get("content-length", 0)))
                method, path, _ = head[0].split(" ")
                path, _, query = re.sub(r"^/v[0-9.]+", "", path).partition("?")
                request = f"{method} {path}"
                self.queries[request] = _parsed(query)
                self.requests.append(request)
                self.headers.append(fields)
                if request in self.streaming:
                    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                if request in self.streaming | self.silent:
                    await self._keep(request, reader, writer)
                    break
                status, body = self.answers.get(request, (404, {"message": "page not found"}))
                text = b"" if body is None else json.dumps(body).encode()
                writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text)
        writer.close()

    async def _keep(self, request: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open[writer] = request
        with contextlib.suppress(ConnectionError):
            await reader.read()
        del self._open[writer]
        self.hung_up.append(request)


def _parsed(query: str) -> Json:
    fields = dict(urllib.parse.parse_qsl(query))
    return {name: json.loads(text) if text.startswith("{") else text for name, text in fields.items()}


def _chunk(writer: asyncio.StreamWriter, message: Json) -> None:
    text = json.dumps(message).encode() + b"\n"
    writer.write(f"{len(text):x}\r\n".encode() + text + b"\r\n")


@contextlib.asynccontextmanager
async def engine_socket(folder: Path) -> AsyncIterator[EngineSocket]:
    """An engine's socket in ``folder``, for the time of the block."""
    made = EngineSocket(folder / "docker.sock")
    await made.start()
    try:
        yield made
    finally:
        await made.close()
        # Connections the client closed are still to be taken note of.
        await asyncio.sleep(0)
