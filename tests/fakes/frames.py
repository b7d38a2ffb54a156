"""Frames without a connection: the other side keeps what it is sent."""

import asyncio

from swarmkit.net.frames import Frames
from swarmkit.net.pipe import PipeEnd


def framed(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def last(text: str) -> bytes:
    return (len(text.encode()) | 1 << 31).to_bytes(4, "big") + text.encode()


class OtherSide(PipeEnd):
    """What the frames are spliced to: keeps what it is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.closed = False
        self.reading = True
        self.frames = Frames()
        self.other, self.frames.end.other = self.frames.end, self
        self.frames.resume_reading()
        self._transport = OtherTransport(self)

    def is_read(self) -> bool:
        return self.reading


class OtherTransport(asyncio.Transport):
    def __init__(self, side: OtherSide) -> None:
        super().__init__()
        self.side = side

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.side.sent += data

    def pause_reading(self) -> None:
        self.side.reading = False

    def resume_reading(self) -> None:
        self.side.reading = True

    def close(self) -> None:
        self.side.closed = True
