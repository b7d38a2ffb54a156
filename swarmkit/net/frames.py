"""Frames over mutual TLS: the managers' own stream, beside gRPC on the same port (ALPN ``swarmkit-raft/1``).

A frame is four bytes, big-endian, and as many bytes as they say. If the highest bit of the four is set, it is
the last one of its direction: a sentence, in UTF-8, that says why its sender ends the stream.

Raft's messages are small, many, and waited for. Through gRPC each would cost its sender and its receiver hops
between threads, and the receiver one through the inner server; here a message is written when it is sent and
read when it has come, all on the loop.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from swarmkit.ca.credentials import Credentials
from swarmkit.net import tls
from swarmkit.net.authorization import STREAM
from swarmkit.net.channels import describe_os_error, dialable
from swarmkit.net.limits import Limits
from swarmkit.net.pipe import ClientGoneError, PipeEnd, Splice, TlsEnd

#: Largest frame, in bytes: as large as any message between nodes (contract/dispatcher-agent.md, 1).
MAX_FRAME_BYTES = 4 * 2**20
#: Unread bytes above which the other side is not read on.
MAX_UNREAD_BYTES = 2**20
#: Longest reason of an end, in bytes.
_MAX_REASON_BYTES = 2000
_HEADER_BYTES = 4
_LAST = 1 << 31


class FramesError(Exception):
    """The stream has broken, or was ended by the other side; the text is one sentence."""


class Frames(asyncio.Transport):
    """The inner side of a splice that ends in this process: the bytes it is given are read as frames.

    To ``end`` it is what a socket's transport is to another ``PipeEnd``, so back-pressure and ends pass as
    there: with more than ``MAX_UNREAD_BYTES`` unread, the other process is read no further.

    What comes is taken with ``receive`` until somebody listens. At most one ``receive`` and one ``send`` at a
    time.

    Args:
        trouble: says what broke the connection; empty if nothing is known.
    """

    def __init__(self, trouble: Callable[[], str] = lambda: "") -> None:
        super().__init__()
        self.end = PipeEnd()
        self._trouble = trouble
        self._arriving = bytearray()
        self._unread: deque[bytes] = deque()
        self._unread_bytes = 0
        self._take: Callable[[bytes], None] | None = None
        self._ended: Callable[[str], None] = lambda _: None
        self._reason = ""
        self._over = False  # nothing comes any more
        self._closed = False
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self.end.connection_made(self)

    # -- What this process does -----------------------------------------------------------------------------

    async def receive(self) -> bytes | None:
        """Return the next frame, or None at the end.

        Raises:
            FramesError: the other side has ended the stream and said why, or has not kept to the form.
        """
        while not self._unread:
            if self._over:
                if reason := self._reason or self._trouble():
                    raise FramesError(reason)
                return None
            self._news.clear()
            await self._news.wait()
        frame = self._unread.popleft()
        self._unread_bytes -= len(frame)
        if self.end.full and self._unread_bytes <= MAX_UNREAD_BYTES // 2:
            self.end.resume_writing()
        return frame

    def listen(self, take: Callable[[bytes], None], ended: Callable[[str], None]) -> None:
        """Have each frame handed over in the moment it is all there, from now on; at the end, be told why.

        Who listens is given what comes as fast as it comes: whatever has to be bounded it bounds itself.

        Args:
            take: called with each frame, in order; must not fail.
            ended: called once with the reason, or with nothing if the other side has just ended the stream.
        """
        self._take, self._ended = take, ended
        while self._unread:
            take(self._unread.popleft())
        self._unread_bytes = 0
        if self.end.full:
            self.end.resume_writing()
        if self._over:
            self._tell_end()

    @property
    def has_room(self) -> bool:
        """Whether what is sent now goes out at once, and does not pile up here."""
        return self._room.is_set() and not self._closed

    async def send(self, frame: bytes) -> None:
        """Return once the frame is on its way and there is room for another.

        Raises:
            FramesError: the stream has ended.
            ValueError: the frame is larger than ``MAX_FRAME_BYTES``.
        """
        self.put(frame)
        await self._room.wait()

    def put(self, frame: bytes) -> None:
        """Send a frame; look for ``has_room`` first.

        Raises:
            FramesError: the stream has ended.
            ValueError: the frame is larger than ``MAX_FRAME_BYTES``.
        """
        if len(frame) > MAX_FRAME_BYTES:
            raise ValueError(f"a frame of {len(frame)} bytes: {MAX_FRAME_BYTES} is the most")
        if self._closed:
            raise FramesError(self._reason or self._trouble() or "the stream has ended")
        self.end.data_received(len(frame).to_bytes(_HEADER_BYTES, "big") + frame)

    def finish(self, reason: str) -> None:
        """Send the last frame, and close when all has gone out."""
        if not self._closed:
            text = reason.encode()[:_MAX_REASON_BYTES]
            self.end.data_received((len(text) | _LAST).to_bytes(_HEADER_BYTES, "big") + text)
            self.close()

    # -- What the splice does -------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take what has come."""
        if self._over:
            return
        self._arriving += data
        while (frame := self._next()) is not None:
            if self._take is not None:
                self._take(frame)
            else:
                self._unread.append(frame)
                self._unread_bytes += len(frame)
        if self._unread_bytes > MAX_UNREAD_BYTES and not self.end.full:
            self.end.pause_writing()
        self._news.set()

    def _next(self) -> bytes | None:
        """Take a frame off what has come; None: it is not all there, or nothing comes any more."""
        if len(self._arriving) < _HEADER_BYTES:
            return None
        size = int.from_bytes(self._arriving[:_HEADER_BYTES], "big")
        last, size = bool(size & _LAST), size & ~_LAST
        if size > (_MAX_REASON_BYTES if last else MAX_FRAME_BYTES):
            self._end("the other side sent a frame that is too long")
            return None
        if len(self._arriving) < _HEADER_BYTES + size:
            return None
        frame = bytes(self._arriving[_HEADER_BYTES : _HEADER_BYTES + size])
        del self._arriving[: _HEADER_BYTES + size]
        if last:
            self._end(frame.decode("utf-8", "replace") or "the other side has ended the stream")
            return None
        return frame

    def _end(self, reason: str = "") -> None:
        self._reason = self._reason or reason
        self._arriving.clear()
        if not self._over:
            self._over = True
            self._news.set()
            if self._take is not None:
                self._tell_end()

    def _tell_end(self) -> None:
        # Not at once: what broke the connection is known a moment later.
        asyncio.get_running_loop().call_soon(lambda: self._ended(self._reason or self._trouble()))

    def write_eof(self) -> None:
        """The other side sends no more."""
        self._end()

    def can_write_eof(self) -> bool:
        """Each direction ends by itself."""
        return True

    def pause_reading(self) -> None:
        """Have ``send`` wait until ``resume_reading``: the other side has no room."""
        self._room.clear()

    def resume_reading(self) -> None:
        """Let ``send`` go on: the other side has room."""
        self._room.set()

    def is_closing(self) -> bool:
        """Tell whether it is closed, or about to be."""
        return self._closed

    def close(self) -> None:
        """End both directions; what was sent still goes out. May be called twice."""
        if not self._closed:
            self._closed = True
            self._end()
            self._room.set()
            asyncio.get_running_loop().call_soon(self.end.connection_lost, None)

    def abort(self) -> None:
        """The same: nothing waits here to be sent."""
        self.close()


class DialledFrames:
    """A stream to another manager that this one has opened.

    Attributes:
        frames: what it carries.
    """

    def __init__(self, outer: TlsEnd, address: str) -> None:
        def trouble() -> str:
            return "" if outer.trouble is None else describe_os_error(outer.trouble, address)

        limits = Limits()
        self.frames = Frames(trouble)
        self._splice = Splice(
            outer,
            self.frames.end,
            closing_seconds=limits.closing_seconds,
            stalled_seconds=limits.stalled_seconds,
        )

    async def close(self) -> None:
        """Let the connection go at once. May be called twice."""
        self._splice.abort()
        await asyncio.shield(self._splice.closed)


async def dial(address: str, credentials: Credentials, node_id: str) -> DialledFrames:
    """Open a stream to one certain node: its certificate must carry ``node_id``.

    Which role the node has is not proven, only who it is. The caller sees to the time this may take.

    Raises:
        AddressError: ``address`` is malformed.
        FramesError: there is no connection, what answers is not that node, or it takes no such stream.
    """
    host, port = dialable(address)
    loop = asyncio.get_running_loop()
    try:
        outer = TlsEnd(loop, tls.member_context(credentials), node_id)
        await loop.create_connection(lambda: outer, host, port)
    except OSError as error:
        raise FramesError(describe_os_error(error, address)) from error
    except ValueError as error:  # a host or a node id that can stand in no query and no certificate
        raise FramesError(f"cannot connect to {address}: {error}") from error
    try:
        await outer.preface
        if outer.protocol != STREAM:
            raise FramesError(f"cannot connect to {address}: what answers there is no manager of this kind")
        return DialledFrames(outer, address)
    except ClientGoneError as error:
        raise FramesError(f"cannot connect to {address}: the connection was closed at once") from error
    except OSError as error:
        raise FramesError(describe_os_error(error, address)) from error
    finally:
        if outer.other is None:
            outer.transport.abort()
