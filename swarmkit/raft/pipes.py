"""gRPC streams as pipes: the caller's end and the server's.

Frames are read and written one call at a time instead of through async iterators: that costs the same, and
both ends look alike.
"""

import asyncio
from typing import TYPE_CHECKING, Protocol

import grpc

from swarmkit.api import messages as api
from swarmkit.ca.credentials import CredentialsHolder
from swarmkit.net.channels import describe_rpc_error, member_channel
from swarmkit.raft.service_pb2 import RaftFrame
from swarmkit.raft.service_pb2_grpc import RaftStub
from swarmkit.raft.stream import Pipe, PipeError

if TYPE_CHECKING:  # the stubs make these generic, the classes are not
    _Call = grpc.aio.StreamStreamCall[RaftFrame, RaftFrame]
    _Context = grpc.aio.ServicerContext[RaftFrame, RaftFrame]


class OwnedPipe(Pipe, Protocol):
    """A pipe that was dialled."""

    async def close(self) -> None:
        """Let it go at once, with the connection below it."""
        ...


class Dialler(Protocol):
    """Opens pipes to members."""

    def dial(self, member: api.RaftMember) -> OwnedPipe:
        """Return a pipe to exactly this member's node; connecting is part of its first write.

        Raises:
            ValueError: the member's address is malformed.
        """
        ...


class GrpcDialler:
    """Dials with mutual TLS; a connection of its own for each pipe.

    The certificate of who answers must carry the member's node id. Its role is not looked at: who belongs to
    the group is what the log says, and a node leaves the group before it ceases to be a manager.
    """

    def __init__(self, credentials: CredentialsHolder) -> None:
        self._credentials = credentials

    def dial(self, member: api.RaftMember) -> "CallerPipe":
        """Return a pipe to a member, with the credentials of this moment."""
        return CallerPipe(member_channel(member.addr, self._credentials.current, member.node_id), member.addr)


class CallerPipe:
    """The end of who dialled."""

    def __init__(self, channel: grpc.aio.Channel, addr: str) -> None:
        self._channel = channel
        self._addr = addr
        self._call: _Call = RaftStub(channel).Exchange()

    async def read(self) -> RaftFrame | None:
        """Return the next frame, or None at the end."""
        try:
            frame = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise PipeError(describe_rpc_error(error, self._addr)) from error
        return frame if isinstance(frame, RaftFrame) else None

    async def write(self, frame: RaftFrame) -> None:
        """Return once the frame is on its way."""
        try:
            await self._call.write(frame)
        except grpc.aio.AioRpcError as error:
            raise PipeError(describe_rpc_error(error, self._addr)) from error
        except asyncio.InvalidStateError as error:
            raise PipeError("the stream has ended") from error

    async def close(self) -> None:
        """Let it go at once."""
        self._call.cancel()
        await self._channel.close()


class ServerPipe:
    """The end of who was dialled; it ends with the handler."""

    def __init__(self, context: "_Context") -> None:
        self._context = context

    async def read(self) -> RaftFrame | None:
        """Return the next frame, or None at the end."""
        try:
            frame = await self._context.read()
        except (grpc.aio.BaseError, grpc.RpcError) as error:
            raise PipeError("the stream broke") from error
        return frame if isinstance(frame, RaftFrame) else None

    async def write(self, frame: RaftFrame) -> None:
        """Return once the frame is on its way."""
        try:
            await self._context.write(frame)
        except (grpc.aio.BaseError, grpc.RpcError) as error:
            raise PipeError("the stream broke") from error
