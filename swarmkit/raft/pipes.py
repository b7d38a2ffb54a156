"""Streams as pipes: the dialling end and the one that was dialled. ``net/frames.py`` carries the bytes."""

from collections.abc import Callable
from typing import Protocol

from google.protobuf.message import DecodeError

from swarmkit.api import messages as api
from swarmkit.ca.credentials import Credentials, CredentialsHolder
from swarmkit.net.channels import dialable
from swarmkit.net.frames import DialledFrames, Frames, FramesError, dial
from swarmkit.raft.service_pb2 import RaftFrame
from swarmkit.raft.stream import Pipe, PipeError


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


class TlsDialler:
    """Dials with mutual TLS; a connection of its own for each pipe.

    The certificate of who answers must carry the member's node id. Its role is not looked at: who belongs to
    the group is what the log says, and a node leaves the group before it ceases to be a manager.
    """

    def __init__(self, credentials: CredentialsHolder) -> None:
        self._credentials = credentials

    def dial(self, member: api.RaftMember) -> "CallerPipe":
        """Return a pipe to a member, with the credentials of this moment."""
        return CallerPipe(member.addr, self._credentials.current, member.node_id)


class FramePipe:
    """A pipe over frames that are there already: the end of who was dialled."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames

    async def read(self) -> RaftFrame | None:
        """Return the next frame, or None at the end."""
        try:
            data = await self._frames.receive()
            return None if data is None else RaftFrame.FromString(data)
        except FramesError as error:
            raise PipeError(str(error)) from error
        except DecodeError as error:
            raise PipeError("the peer sent what is no frame") from error

    async def write(self, frame: RaftFrame) -> None:
        """Return once the frame is on its way and there is room for another."""
        try:
            await self._frames.send(frame.SerializeToString())
        except FramesError as error:
            raise PipeError(str(error)) from error

    def listen(self, take: Callable[[RaftFrame], None], ended: Callable[[str], None]) -> None:
        """Have each frame handed over when it has come, instead of ``read``; at the end, be told why."""

        def parse(data: bytes) -> None:
            try:
                frame = RaftFrame.FromString(data)
            except DecodeError:
                ended("the peer sent what is no frame")
            else:
                take(frame)

        self._frames.listen(parse, ended)

    def write_now(self, frame: RaftFrame) -> bool:
        """Write if the pipe is whole and the frame goes out at once; tell whether it did."""
        if not self._frames.has_room:
            return False
        self._frames.put(frame.SerializeToString())
        return True


class CallerPipe:
    """The end of who dials.

    Raises:
        ValueError: the address is malformed.
    """

    def __init__(self, addr: str, credentials: Credentials, node_id: str) -> None:
        dialable(addr)
        self._addr = addr
        self._credentials = credentials
        self._node_id = node_id
        self._dialled: DialledFrames | None = None
        self._pipe: FramePipe | None = None

    async def read(self) -> RaftFrame | None:
        """Return the next frame, or None at the end; after the first ``write``."""
        return await self._connected.read()

    def listen(self, take: Callable[[RaftFrame], None], ended: Callable[[str], None]) -> None:
        """As ``FramePipe.listen``; after the first ``write``."""
        self._connected.listen(take, ended)

    def write_now(self, frame: RaftFrame) -> bool:
        """As ``FramePipe.write_now``; after the first ``write``."""
        return self._connected.write_now(frame)

    @property
    def _connected(self) -> FramePipe:
        assert self._pipe is not None, "not connected before the first write"
        return self._pipe

    async def write(self, frame: RaftFrame) -> None:
        """Return once the frame is on its way; connect first, if that has not been done."""
        if self._pipe is None:
            try:
                self._dialled = await dial(self._addr, self._credentials, self._node_id)
            except FramesError as error:
                raise PipeError(str(error)) from error
            self._pipe = FramePipe(self._dialled.frames)
        await self._pipe.write(frame)

    async def close(self) -> None:
        """Let it go at once."""
        if self._dialled is not None:
            await self._dialled.close()
