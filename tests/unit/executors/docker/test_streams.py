import asyncio
import contextlib
import threading

import docker
import pytest
import requests
from docker.errors import APIError

from swarmkit.executors.docker.errors import EngineError
from swarmkit.executors.docker.streams import JsonStream
from tests.fakes.engine_socket import VERSION, EngineSocket
from tests.unit.executors.docker.conftest import eventually, open_descriptors

pytestmark = pytest.mark.real_time


class Reading:
    """One stream read by a thread, as the executor does."""

    def __init__(self, socket: EngineSocket) -> None:
        self.stream = JsonStream()
        self.opened = asyncio.Event()
        self.received: list[object] = []
        self.error: BaseException | None = None
        self._url = socket.url
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.closing(docker.APIClient(self._url, VERSION, timeout=5)) as client:
            url = f"{client.base_url}/v{VERSION}/events"
            try:
                for message in self.stream.read(
                    lambda: client.get(url, stream=True, timeout=5), self.opened.set
                ):
                    self.received.append(message)
            except Exception as error:
                self.error = error

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()


async def test_objects_arrive_in_order_until_the_answer_ends(socket: EngineSocket) -> None:
    reading = Reading(socket)
    await asyncio.wait_for(reading.opened.wait(), 5)
    for number in range(3):
        socket.emit({"n": number})
    await eventually(lambda: len(reading.received) == 3)
    socket.end()
    await eventually(lambda: reading.ended)
    assert reading.received == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert reading.error is None


async def test_ending_frees_a_blocked_reader_without_an_error(socket: EngineSocket) -> None:
    reading = Reading(socket)
    await asyncio.wait_for(reading.opened.wait(), 5)
    reading.stream.end()
    await eventually(lambda: reading.ended)
    assert reading.error is None
    await eventually(lambda: socket.hung_up == ["GET /events"])
    reading.stream.end()


async def test_ended_before_the_answer_it_reads_nothing(socket: EngineSocket) -> None:
    reading = Reading(socket)
    reading.stream.end()
    await eventually(lambda: reading.ended)
    assert reading.received == []
    assert not reading.opened.is_set()


async def test_a_stream_that_breaks_off_raises(socket: EngineSocket) -> None:
    reading = Reading(socket)
    await asyncio.wait_for(reading.opened.wait(), 5)
    socket.cut()
    await eventually(lambda: reading.ended)
    assert isinstance(reading.error, requests.RequestException)


async def test_a_refusal_raises_with_the_engines_words(socket: EngineSocket) -> None:
    socket.streaming.clear()
    socket.answers["GET /events"] = (400, {"message": "invalid filter"})
    reading = Reading(socket)
    await eventually(lambda: reading.ended)
    assert isinstance(reading.error, APIError)
    assert reading.error.explanation == "invalid filter"


async def test_an_answer_that_is_not_json_raises(socket: EngineSocket) -> None:
    socket.streaming.clear()
    socket.answers["GET /events"] = (200, ["not", "an", "object"])
    reading = Reading(socket)
    await eventually(lambda: reading.ended)
    assert isinstance(reading.error, EngineError)


@pytest.mark.slow
async def test_no_descriptor_stays_behind(socket: EngineSocket) -> None:
    async def once() -> None:
        reading = Reading(socket)
        await asyncio.wait_for(reading.opened.wait(), 5)
        reading.stream.end()
        await eventually(lambda: reading.ended and socket.open_streams == 0)

    await once()
    before = open_descriptors()
    for _ in range(10):
        await once()
    await eventually(lambda: open_descriptors() <= before)  # the last one may still close


@pytest.mark.slow
async def test_ending_at_random_moments_leaves_no_reader_behind(socket: EngineSocket) -> None:
    for turn in range(30):
        reading = Reading(socket)
        if turn % 3:
            await asyncio.sleep(0.002 * (turn % 7))
        socket.emit({"n": turn})
        reading.stream.end()
        await eventually(lambda reading=reading: reading.ended)  # type: ignore[misc]
        assert reading.error is None
