"""A channel to a leader that is a coroutine of the test: unary calls alone."""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import grpc

from swarmkit.ca.credentials import Credentials
from swarmkit.net.remotes import Remote


def rpc_error(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)


class FakeCall:
    """One call under way."""

    def __init__(self, method: str, request: bytes, timeout: float | None, metadata: Any) -> None:
        self.method = method
        self.request = request
        self.timeout = timeout
        self.metadata = metadata
        self.task: asyncio.Task[bytes]

    def __await__(self) -> Generator[Any, None, bytes]:
        return self.task.__await__()

    def cancel(self) -> None:
        self.task.cancel()


class FakeChannel:
    """Remembers its calls; ``behave`` answers each."""

    def __init__(
        self, leader: Remote, credentials: Credentials, behave: Callable[[], Awaitable[bytes]]
    ) -> None:
        self.leader = leader
        self.credentials = credentials
        self.behave = behave
        self.calls: list[FakeCall] = []
        self.closed = False

    def unary_unary(self, method: str) -> Callable[..., FakeCall]:
        async def run() -> bytes:
            return await self.behave()

        def begin(request: bytes, *, timeout: float | None, metadata: Any) -> FakeCall:
            assert not self.closed
            call = FakeCall(method, request, timeout, metadata)
            call.task = asyncio.get_running_loop().create_task(run())
            self.calls.append(call)
            return call

        return begin

    unary_stream = stream_unary = stream_stream = unary_unary

    async def close(self) -> None:
        self.closed = True
