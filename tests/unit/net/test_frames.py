"""The managers' own stream: its form, its bounds, who may open one (contract/security.md, 4 and 15)."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc
import pytest

from swarmkit.ca.credentials import Credentials
from swarmkit.net.authorization import STREAM
from swarmkit.net.errors import RpcError
from swarmkit.net.frames import MAX_FRAME_BYTES, MAX_UNREAD_BYTES, DialledFrames, Frames, FramesError, dial
from tests.fakes.frames import OtherSide, framed, last
from tests.fakes.pki import FakeAuthority
from tests.unit.net.harness import ServedApi, client_context, eventually, failure, health, opened, read_all


@pytest.fixture
async def other() -> OtherSide:
    return OtherSide()


@pytest.mark.parametrize("step", [1, 3, 7, 1000])
async def test_frames_come_out_whole_and_in_order_however_they_arrive(other: OtherSide, step: int) -> None:
    wanted = [b"one", b"", b"three" * 20, b"4"]
    data = b"".join(map(framed, wanted))
    for start in range(0, len(data), step):
        other.frames.write(data[start : start + step])
    assert [await other.frames.receive() for _ in wanted] == wanted


async def test_what_waits_is_read_before_the_reason_of_the_end(other: OtherSide) -> None:
    other.frames.write(framed(b"first") + last("that is enough") + framed(b"never"))
    assert await other.frames.receive() == b"first"
    for _ in range(2):
        with pytest.raises(FramesError, match="that is enough"):
            await other.frames.receive()


async def test_an_end_without_a_reason_is_none(other: OtherSide) -> None:
    other.frames.write(framed(b"first") + b"\0\0\0\7half")
    other.frames.write_eof()
    assert [await other.frames.receive() for _ in range(3)] == [b"first", None, None]


async def test_a_receiver_that_waits_hears_of_the_end(other: OtherSide) -> None:
    receiving = asyncio.ensure_future(other.frames.receive())
    await asyncio.sleep(0)
    other.frames.close()
    assert await receiving is None
    await asyncio.sleep(0)
    assert other.closed


@pytest.mark.parametrize("header", [MAX_FRAME_BYTES + 1, (1 << 31) | 100_000, (1 << 32) - 1])
async def test_a_frame_that_is_too_long_ends_the_stream_before_it_is_stored(
    other: OtherSide, header: int
) -> None:
    other.frames.write(framed(b"first") + header.to_bytes(4, "big"))
    assert await other.frames.receive() == b"first"
    with pytest.raises(FramesError, match="too long"):
        await other.frames.receive()


async def test_the_largest_frame_is_taken(other: OtherSide) -> None:
    data = bytes(MAX_FRAME_BYTES)
    other.frames.write(framed(data))
    assert await other.frames.receive() == data
    await other.frames.send(data)
    assert len(other.sent) == MAX_FRAME_BYTES + 4
    with pytest.raises(ValueError, match="is the most"):
        await other.frames.send(data + b"1")


async def test_who_does_not_receive_is_sent_no_more_than_the_bound(other: OtherSide) -> None:
    piece = framed(bytes(64 << 10))
    sent = 0
    while other.is_read():
        other.frames.write(piece)
        sent += 1
    assert MAX_UNREAD_BYTES < sent * (64 << 10) <= MAX_UNREAD_BYTES + (64 << 10)
    while not other.is_read():
        await other.frames.receive()
        sent -= 1
    assert sent == MAX_UNREAD_BYTES // 2 // (64 << 10)


async def test_a_sender_waits_until_the_other_side_has_room(other: OtherSide) -> None:
    other.frames.pause_reading()
    sending = asyncio.ensure_future(other.frames.send(b"one"))
    await asyncio.sleep(0.01)
    assert bytes(other.sent) == framed(b"one")
    assert not sending.done()
    other.frames.resume_reading()
    await sending


class Listener:
    """Keeps what it is handed."""

    def __init__(self, frames: Frames) -> None:
        self.taken: list[bytes] = []
        self.reasons: list[str] = []
        frames.listen(self.taken.append, self.reasons.append)


async def test_who_listens_is_handed_what_has_come_and_each_frame_in_the_moment_it_comes(
    other: OtherSide,
) -> None:
    other.frames.write(framed(b"one") + framed(b"two"))
    listener = Listener(other.frames)
    assert listener.taken == [b"one", b"two"]
    other.frames.write(framed(b"three") + framed(b"four")[:-1])
    assert listener.taken == [b"one", b"two", b"three"]
    other.frames.write(b"r")
    assert listener.taken[3:] == [b"four"]


async def test_who_listens_is_told_once_why_nothing_comes_any_more(other: OtherSide) -> None:
    listener = Listener(other.frames)
    other.frames.write(framed(b"one") + last("that is enough") + framed(b"never"))
    assert listener.taken == [b"one"]
    other.frames.write_eof()
    other.frames.close()
    await asyncio.sleep(0)
    assert listener.reasons == ["that is enough"]


@pytest.mark.parametrize("reason", ["", "that is enough"])
async def test_who_begins_to_listen_after_the_end_is_told_of_it(other: OtherSide, reason: str) -> None:
    other.frames.write(framed(b"one") + (last(reason) if reason else b""))
    other.frames.write_eof()
    listener = Listener(other.frames)
    await asyncio.sleep(0)
    assert (listener.taken, listener.reasons) == ([b"one"], [reason])


async def test_to_listen_lets_the_other_side_be_read_again(other: OtherSide) -> None:
    more = framed(bytes(MAX_UNREAD_BYTES)) + framed(b"1")
    other.frames.write(more)
    was_read = other.is_read()
    Listener(other.frames)
    other.frames.write(more)
    assert (was_read, other.is_read()) == (False, True)


async def test_there_is_room_while_the_other_side_takes_and_none_after_the_end(other: OtherSide) -> None:
    seen = [other.frames.has_room]
    for change in (other.frames.pause_reading, other.frames.resume_reading, other.frames.close):
        change()
        seen.append(other.frames.has_room)
    assert seen == [True, False, True, False]


async def test_nothing_is_sent_after_the_end(other: OtherSide) -> None:
    other.frames.finish("enough")
    other.frames.finish("more than enough")
    assert bytes(other.sent) == last("enough")
    with pytest.raises(FramesError, match="has ended"):
        await other.frames.send(b"one")


Serve = Callable[[str, Frames], Awaitable[None]]


class Streams(ServedApi):
    """A served API. Its streams run ``behave``, then send back each frame after the caller's node id."""

    behave: Serve | None = None

    async def __aenter__(self) -> "Streams":
        self.server.add_stream(self._serve)
        await super().__aenter__()
        return self

    async def _serve(self, node_id: str, frames: Frames) -> None:
        if self.behave is not None:
            await self.behave(node_id, frames)
        while (frame := await frames.receive()) is not None:
            await frames.send(node_id.encode() + b":" + frame)

    async def dial(self, credentials: Credentials, node_id: str = "manager-1") -> DialledFrames:
        return await dial(self.remote.address, credentials, node_id)

    async def refusal(self, credentials: Credentials, node_id: str = "manager-1") -> str:
        """Open a stream and say something; return why that failed."""
        try:
            dialled = await self.dial(credentials, node_id)
        except FramesError as error:
            return str(error)
        try:
            await dialled.frames.send(b"hello")
            answer = await dialled.frames.receive()
        except FramesError as error:
            return str(error)
        finally:
            await dialled.close()
        raise AssertionError(f"it was answered: {answer!r}")


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Streams]:
    async with Streams(tmp_path) as streams:
        yield streams


real_time = pytest.mark.real_time


@real_time
async def test_a_manager_is_served_as_who_its_certificate_says_it_is(served: Streams) -> None:
    dialled = await served.dial(served.authority.manager("manager-2"))
    for data in (b"hello", b"", bytes(300_000)):
        await dialled.frames.send(data)
        assert await dialled.frames.receive() == b"manager-2:" + data
    await dialled.close()
    await eventually(lambda: served.remote.open_connections == 0)
    assert served.server.counts == {(STREAM, "OK"): 1}


@real_time
async def test_a_worker_and_a_removed_node_are_told_why_they_are_refused(served: Streams) -> None:
    assert "unauthorized peer role" in await served.refusal(served.authority.worker("worker-1"))
    served.removed.add("manager-2")
    assert "was removed from swarm" in await served.refusal(served.authority.manager("manager-2"))
    assert served.server.counts == {(STREAM, "PERMISSION_DENIED"): 2}


@real_time
async def test_who_shows_no_certificate_gets_no_stream(served: Streams) -> None:
    context = client_context(alpn=(STREAM,))
    connecting = asyncio.open_connection("127.0.0.1", served.port, ssl=context, server_hostname="manager-1")
    async with opened(connecting) as (reader, writer):
        writer.write(framed(b"hello"))
        assert b"no client certificates" in await read_all(reader)
    await eventually(lambda: served.remote.open_connections == 0)


@real_time
async def test_a_certificate_of_another_authority_is_refused_on_both_sides(served: Streams) -> None:
    stranger = FakeAuthority().manager("manager-2")
    assert "is not of this swarm" in await served.refusal(stranger)
    own = served.authority.manager("manager-2")
    mixed = Credentials(
        own.root_pem, stranger.cert_pem, stranger.key_pem, "manager-2", own.role, own.organization
    )
    assert "refuses this node's certificate" in await served.refusal(mixed)


@real_time
async def test_another_node_than_the_one_that_was_dialled_is_not_talked_to(served: Streams) -> None:
    text = await served.refusal(served.authority.manager("manager-2"), "manager-3")
    assert "shows no manager's certificate" in text


@real_time
async def test_the_reason_of_an_end_reaches_the_other_side(served: Streams) -> None:
    async def behave(_node_id: str, _frames: Frames) -> None:
        raise RpcError(grpc.StatusCode.ABORTED, "another stream has taken its place")

    served.behave = behave
    text = await served.refusal(served.authority.manager("manager-2"))
    assert text == "another stream has taken its place"
    assert served.server.counts == {(STREAM, "ABORTED"): 1}


@real_time
async def test_a_fault_of_this_program_ends_the_stream_and_not_the_server(
    served: Streams, caplog: pytest.LogCaptureFixture
) -> None:
    async def behave(_node_id: str, _frames: Frames) -> None:
        raise RuntimeError("a fault")

    served.behave = behave
    assert "internal error" in await served.refusal(served.authority.manager("manager-2"))
    assert "a fault" in caplog.text
    async with served.channel(served.authority.manager("manager-2")) as channel:
        await health(channel)


@real_time
async def test_garbage_from_a_manager_ends_its_stream(served: Streams) -> None:
    dialled = await served.dial(served.authority.manager("manager-2"))
    dialled.frames.end.data_received(b"\x7f\xff\xff\xffgarbage")
    with pytest.raises(FramesError, match="too long"):
        await dialled.frames.receive()
    await dialled.close()
    await eventually(lambda: served.remote.open_connections == 0)


@real_time
async def test_streams_end_when_the_server_stops(served: Streams) -> None:
    dialled = await served.dial(served.authority.manager("manager-2"))
    await dialled.frames.send(b"hello")
    await dialled.frames.receive()
    await served.server.stop()
    async with asyncio.timeout(5):
        assert await dialled.frames.receive() is None
    await dialled.close()


@real_time
async def test_an_address_where_nothing_or_something_else_answers_is_a_clear_error(served: Streams) -> None:
    manager = served.authority.manager("manager-2")
    with pytest.raises(FramesError, match="nobody listens there"):
        await dial("127.0.0.1:1", manager, "manager-1")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        with pytest.raises(FramesError, match="does not speak TLS"):
            await dial(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", manager, "manager-1")
    finally:
        server.close()
        await server.wait_closed()
    with pytest.raises(FramesError, match="cannot connect to"):
        await dial(f"{'a' * 70}.example:4242", manager, "manager-1")
    with pytest.raises(FramesError, match="cannot connect to"):
        await dial(served.remote.address, manager, ".")
    with pytest.raises(ValueError, match="is not an address"):
        await dial("nowhere", manager, "manager-1")


@real_time
async def test_the_control_socket_takes_no_streams(served: Streams) -> None:
    context = client_context(served.authority.manager("manager-2"), alpn=(STREAM,))
    connecting = asyncio.open_unix_connection(
        str(served.socket_path), ssl=context, server_hostname="manager-1"
    )
    async with opened(connecting) as (reader, writer):
        session: ssl.SSLObject = writer.get_extra_info("ssl_object")
        assert session.selected_alpn_protocol() is None
        writer.write(framed(b"hello"))
        assert await read_all(reader) == b""


@real_time
async def test_grpc_is_served_beside_it_on_the_same_port(served: Streams) -> None:
    manager = served.authority.manager("manager-2")
    dialled = await served.dial(manager)
    async with served.channel(manager) as channel:
        await health(channel)
        assert (await failure(health(channel, "Nothing"))).code() is grpc.StatusCode.NOT_FOUND
    await dialled.frames.send(b"hello")
    assert await dialled.frames.receive() == b"manager-2:hello"
    await dialled.close()
