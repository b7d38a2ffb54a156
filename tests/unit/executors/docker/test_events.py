import asyncio
import threading

import pytest

from swarmkit.clock import SystemClock
from swarmkit.executors.docker import events as module
from swarmkit.executors.docker.engine import Engine
from swarmkit.executors.docker.events import EventStream, Watch
from tests.fakes.engine_socket import EngineSocket
from tests.fakes.loop import VirtualClock
from tests.unit.executors.docker.conftest import engine_threads, eventually, open_descriptors


class Following:
    """An event stream of a real client on a scripted socket."""

    def __init__(self, url: str) -> None:
        self.engine = Engine(url, timeout=2)
        self.events = EventStream(self.engine, SystemClock())
        self.events.start()

    async def close(self) -> None:
        await self.events.close()
        await self.engine.close()


def event(name: str, action: str = "die") -> dict[str, object]:
    return {"Type": "container", "Action": action, "Actor": {"ID": "c", "Attributes": {"name": name}}}


async def woken(watch: Watch) -> None:
    async with asyncio.timeout(5):
        await watch.wait(60)


async def test_a_wake_up_before_the_wait_is_not_lost_and_counts_once(clock: VirtualClock) -> None:
    watch = Watch()
    watch.wake()
    watch.wake()
    await watch.wait(60)
    assert clock.monotonic() == 0
    await watch.wait(60)
    assert clock.monotonic() == 60


@pytest.mark.real_time
async def test_an_event_wakes_the_watchers_of_its_container_alone(socket: EngineSocket) -> None:
    following = Following(socket.url)
    with following.events.watch("a") as a, following.events.watch("b") as b:
        await woken(a)
        await woken(b)
        socket.emit(event("a"))
        await woken(a)
        assert not b._event.is_set()
        socket.emit(event("nobody"))
        socket.emit(event("b"))
        await woken(b)
    await following.close()


@pytest.mark.real_time
async def test_only_what_changes_a_container_is_asked_for(socket: EngineSocket) -> None:
    following = Following(socket.url)
    await eventually(lambda: socket.open_streams == 1)
    assert socket.queries["GET /events"] == {
        "filters": {
            "type": ["container"],
            "label": ["com.docker.swarm.task"],
            "event": ["die", "destroy", "health_status"],
        }
    }
    await following.close()


@pytest.mark.slow
@pytest.mark.real_time
async def test_a_stream_that_ends_is_opened_again_and_everybody_looks(socket: EngineSocket) -> None:
    following = Following(socket.url)
    with following.events.watch("a") as watch:
        await woken(watch)
        for end in (socket.end, socket.cut):
            end()
            await woken(watch)
    assert socket.count("GET /events") == 3
    await following.close()


@pytest.mark.real_time
async def test_each_new_stream_negotiates_the_version_again(socket: EngineSocket) -> None:
    following = Following(socket.url)
    with following.events.watch("a") as watch:
        await woken(watch)
        assert await following.engine.api_version() == "1.41"
        socket.answers["GET /version"] = (200, {"ApiVersion": "1.44"})
        socket.cut()
        await woken(watch)
        assert await following.engine.api_version() == "1.44"
    await following.close()


class ScriptedReads(EventStream):
    """Streams that last as long as a test says, without threads."""

    def __init__(self, clock: VirtualClock, lasting: list[float]) -> None:
        super().__init__(Engine("unix:///nowhere"), clock)
        self.lasting = lasting
        self.began: list[float] = []

    async def _read_once(self) -> None:
        self.began.append(self._clock.monotonic())
        await self._clock.sleep(self.lasting.pop(0) if self.lasting else 1e9)


async def test_pauses_between_streams_double_and_begin_anew_after_a_long_one(clock: VirtualClock) -> None:
    events = ScriptedReads(clock, [0, 0, 0, 0, 0, 0, 0, 100, 0])
    events.start()
    await asyncio.sleep(1000)
    await events.close()
    pauses = [b - a for a, b in zip(events.began, events.began[1:], strict=False)]
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 100.1, 0.2], rel=1e-6)


@pytest.mark.real_time
async def test_an_engine_that_is_not_there_yet_is_waited_for(socket: EngineSocket) -> None:
    await socket.close()
    following = Following(socket.url)
    await asyncio.sleep(0.05)
    await socket.start()
    await eventually(lambda: socket.open_streams == 1)
    await following.close()


@pytest.mark.slow
@pytest.mark.real_time
async def test_closing_leaves_no_thread_and_no_descriptor(socket: EngineSocket) -> None:
    async def once() -> None:
        following = Following(socket.url)
        await eventually(lambda: socket.open_streams == 1)
        await following.close()
        await eventually(lambda: engine_threads() == [] and socket.open_streams == 0)

    await once()
    before = open_descriptors()
    for _ in range(5):
        await once()
    await eventually(lambda: open_descriptors() <= before)  # the last one may still close


@pytest.mark.real_time
async def test_closing_does_not_wait_for_an_engine_that_says_nothing(
    socket: EngineSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.01)
    socket.silent.add("GET /version")
    following = Following(socket.url)
    await eventually(lambda: socket.count("GET /version") == 1)
    async with asyncio.timeout(10):  # a minute is how long the engine may say nothing
        await following.close()
    (left,) = [thread for thread in threading.enumerate() if thread.name == "engine-events"]
    assert left.daemon
    await socket.close()
    await eventually(lambda: engine_threads() == [])


@pytest.mark.real_time
async def test_a_bug_in_the_reader_is_logged_and_the_stream_opened_again(
    socket: EngineSocket, caplog: pytest.LogCaptureFixture
) -> None:
    following = Following(socket.url)
    with following.events.watch("a") as watch:
        await woken(watch)
        socket.emit({"Actor": "not an object"})
        await woken(watch)
    assert "reading the engine's events failed" in caplog.text
    await following.close()
