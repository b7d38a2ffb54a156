"""Raft's frames over the managers' own stream (contract/raft-store-manager.md, 13)."""

import asyncio

import pytest

from swarmkit.raft.pipes import FramePipe
from swarmkit.raft.service_pb2 import Hello, Ping, RaftFrame
from swarmkit.raft.stream import PipeError
from tests.fakes.frames import OtherSide, framed, last

PING = RaftFrame(ping=Ping())
HELLO = RaftFrame(hello=Hello(source=1, target=2))


@pytest.fixture
async def other() -> OtherSide:
    return OtherSide()


class Listener:
    def __init__(self, pipe: FramePipe) -> None:
        self.taken: list[RaftFrame] = []
        self.reasons: list[str] = []
        pipe.listen(self.taken.append, self.reasons.append)


async def test_frames_are_read_one_by_one_and_then_listened_for(other: OtherSide) -> None:
    pipe = FramePipe(other.frames)
    other.frames.write(framed(HELLO.SerializeToString()) + framed(PING.SerializeToString()))
    assert await pipe.read() == HELLO
    listener = Listener(pipe)
    other.frames.write(framed(HELLO.SerializeToString()))
    assert listener.taken == [PING, HELLO]


async def test_garbage_is_a_reason_to_end_for_who_reads_and_for_who_listens(other: OtherSide) -> None:
    pipe = FramePipe(other.frames)
    other.frames.write(framed(b"\xff garbage"))
    with pytest.raises(PipeError, match="what is no frame"):
        await pipe.read()
    listener = Listener(pipe)
    other.frames.write(framed(b"\xff garbage"))
    assert (listener.taken, listener.reasons) == ([], ["the peer sent what is no frame"])


async def test_who_listens_is_told_the_reason_that_the_peer_gives(other: OtherSide) -> None:
    listener = Listener(FramePipe(other.frames))
    other.frames.write(last("that is enough"))
    await asyncio.sleep(0)
    assert listener.reasons == ["that is enough"]


async def test_a_frame_is_written_now_if_there_is_room_and_not_otherwise(other: OtherSide) -> None:
    pipe = FramePipe(other.frames)
    written = [pipe.write_now(PING)]
    for change in (other.frames.pause_reading, other.frames.resume_reading, other.frames.close):
        change()
        written.append(pipe.write_now(PING))
    assert written == [True, False, True, False]
    assert bytes(other.sent) == 2 * framed(PING.SerializeToString())
