"""One stream between two members, from its first message to its end.

Both ends watch each other: who has said nothing for a beat pings, and a stream on which nothing arrived for
four beats is ended. Beats are counted, not seconds: after a stall of this process the bytes that wait are
read before the next beat.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from swarmkit.aio import TaskOwner
from swarmkit.raft.codec import decode, encode
from swarmkit.raft.messages import Envelope
from swarmkit.raft.outbox import Outbox
from swarmkit.raft.service_pb2 import Batch, Ping, RaftFrame

#: Seconds between two beats.
BEAT_SECONDS = 0.5

#: Beats without anything from the peer after which it counts as gone: 2 s, the send time-out
#: (contract/raft-store-manager.md, 8).
SILENT_BEATS = 4

#: Bytes up to which a message is written in the moment it is sent, if nothing waits: most are smaller, and
#: a leader waits for their answers. What is larger goes through the outbox, which counts it.
_AT_ONCE_BYTES = 64 << 10


class PipeError(Exception):
    """A pipe has broken, or carries what it should not; the text is one sentence."""


class Pipe(Protocol):
    """Carries frames both ways, in order. At most one read and one write at a time.

    Opening a stream is a conversation: ``read`` and ``write``. Then frames are ``listen``ed for.
    """

    async def read(self) -> RaftFrame | None:
        """Return the next frame, or None at the end.

        Raises:
            PipeError: the pipe has broken.
        """
        ...

    async def write(self, frame: RaftFrame) -> None:
        """Return once the frame is on its way and there is room for another.

        Raises:
            PipeError: the pipe has broken.
        """
        ...

    def listen(self, take: Callable[[RaftFrame], None], ended: Callable[[str], None]) -> None:
        """Have each frame handed over in the moment it has come, instead of ``read``.

        Args:
            take: called with each frame, in order; must not fail.
            ended: called when nothing more comes, with the reason, or nothing if the peer just ended it.
        """
        ...

    def write_now(self, frame: RaftFrame) -> bool:
        """Write if the pipe is whole and the frame goes out at once; tell whether it did."""
        ...


class Vigil:
    """Counts the beats of a stream; pure."""

    def __init__(self) -> None:
        self.heard = True
        self.said = True
        self._silent = 0

    def beat(self) -> tuple[bool, bool]:
        """Tell whether to ping, and whether the peer is gone."""
        self._silent = 0 if self.heard else self._silent + 1
        quiet = not self.said
        self.heard = self.said = False
        return quiet, self._silent >= SILENT_BEATS


class Stream:
    """A stream that was taken.

    Args:
        pipe: carries frames; whoever made it closes it.
        node_id: whose certificate the other end showed.
        number: what the deciding member called it.
        taken_at: when, on the loop's clock.
        opening: a frame to be written before all others.
        dialled: the address that was dialled; empty: the peer dialled.

    Attributes:
        reason: why it ended, one sentence.
    """

    def __init__(
        self,
        pipe: Pipe,
        node_id: str,
        number: int,
        taken_at: float,
        opening: RaftFrame | None = None,
        dialled: str = "",
    ) -> None:
        self.node_id = node_id
        self.number = number
        self.taken_at = taken_at
        self.dialled = dialled
        self.reason = ""
        self._pipe = pipe
        self._opening = opening
        self._outbox = Outbox()
        self._vigil = Vigil()
        self._ping = False
        self._opened = False
        self._ended = asyncio.Event()
        self._wake = asyncio.Event()

    def send(self, envelope: Envelope) -> None:
        """Take a message; if there is no room, drop all that waits and end the stream."""
        if self._ended.is_set():
            return
        data = encode(envelope)
        first = self._opened and self._outbox.is_empty
        if first and len(data) <= _AT_ONCE_BYTES and self._pipe.write_now(_batch([data])):
            self._vigil.said = True
        elif self._outbox.put(data):
            self._wake.set()
        else:
            self.end("too much waits for the peer")

    @property
    def is_congested(self) -> bool:
        """Whether no more entries or pieces should follow for now."""
        return self._outbox.is_congested

    def end(self, reason: str) -> None:
        """Have ``run`` return; the first reason counts."""
        if not self._ended.is_set():
            self.reason = reason
            self._ended.set()

    def beat(self) -> None:
        """Look after the stream; called every ``BEAT_SECONDS``."""
        quiet, gone = self._vigil.beat()
        if gone:
            self.end("nothing was heard from the peer for too long")
        elif quiet:
            self._ping = True
            self._wake.set()

    async def run(self, deliver: Callable[[Envelope], None]) -> None:
        """Carry messages until either side ends the stream.

        Args:
            deliver: called with each message that arrives, in order; must not fail.
        """
        owner = TaskOwner("raft-stream", on_failure=lambda _: self.end("internal error"))
        try:
            self._pipe.listen(lambda frame: self._take(frame, deliver), self._pipe_ended)
            owner.spawn(self._send(), "send")
            await self._ended.wait()
        finally:
            await owner.close()

    def _take(self, frame: RaftFrame, deliver: Callable[[Envelope], None]) -> None:
        if self._ended.is_set():
            return
        self._vigil.heard = True
        kind = frame.WhichOneof("content")
        try:
            if kind == "batch":
                for data in frame.batch.envelopes:
                    deliver(decode(data))
            elif kind != "ping":
                self.end(f"the peer sent a {kind or 'nameless'} frame out of turn")
        except ValueError as error:
            self.end(str(error))

    def _pipe_ended(self, reason: str) -> None:
        self.end(reason or "the peer ended it")

    async def _send(self) -> None:
        try:
            if self._opening is not None:
                await self._pipe.write(self._opening)
            self._opened = True
            while True:
                self._wake.clear()
                batch = self._outbox.take()
                if batch:
                    self._vigil.said = True
                    await self._pipe.write(_batch(batch))
                    self._outbox.written()
                elif self._ping:
                    self._vigil.said = True
                    await self._pipe.write(RaftFrame(ping=Ping()))
                else:
                    await self._wake.wait()
                    continue
                self._ping = False
        except PipeError as error:
            self.end(str(error))


def _batch(envelopes: list[bytes]) -> RaftFrame:
    return RaftFrame(batch=Batch(envelopes=envelopes))
