import asyncio
import contextlib
import inspect
import logging
import threading
from collections.abc import AsyncIterator

import docker
import pytest

from swarmkit.executors.docker import engine as module
from swarmkit.executors.docker.engine import Engine
from swarmkit.executors.docker.errors import EngineError, Kind
from swarmkit.executors.docker.streams import JsonStream
from tests.fakes.engine import FakeEngine
from tests.fakes.engine_socket import EngineSocket
from tests.unit.executors.docker.conftest import engine_threads, eventually, open_descriptors

pytestmark = pytest.mark.real_time

PULL = "POST /images/create"


@pytest.fixture
async def engine(socket: EngineSocket) -> AsyncIterator[Engine]:
    made = Engine(socket.url, timeout=1)
    yield made
    await made.close()


async def test_nothing_is_asked_before_the_first_call_which_negotiates_once(
    socket: EngineSocket, engine: Engine
) -> None:
    assert socket.requests == []
    socket.answers["GET /info"] = (200, {"Name": "x"})
    assert await engine.info() == {"Name": "x"}
    assert await engine.api_version() == "1.41"
    assert await engine.info() == {"Name": "x"}
    assert socket.requests == ["GET /version", "GET /info", "GET /info"]


async def test_calls_share_connections(socket: EngineSocket, engine: Engine) -> None:
    socket.answers |= {f"GET /containers/c{n}/json": (200, {"Id": str(n)}) for n in range(20)}
    for n in range(20):
        assert await engine.inspect(f"c{n}") == {"Id": str(n)}
    # One for the version, one for all the rest.
    assert socket.connections == 2


async def test_a_call_is_served_though_the_event_stream_connects_anew_before_it_is_sent(
    socket: EngineSocket, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    socket.answers["GET /info"] = (200, {"Name": "x"})
    await engine.info()
    begun, go = threading.Event(), threading.Event()
    send = docker.APIClient.info

    def dawdle(client: docker.APIClient) -> dict[str, object]:
        begun.set()
        assert go.wait(5)
        return dict(send(client))

    monkeypatch.setattr(docker.APIClient, "info", dawdle)
    calling = asyncio.create_task(engine.info())
    await eventually(begun.is_set)
    stream, opened = JsonStream(), threading.Event()
    following = asyncio.create_task(asyncio.to_thread(list, engine.follow(stream, {}, opened.set)))
    await eventually(opened.is_set)
    go.set()
    assert await calling == {"Name": "x"}
    stream.end()
    with contextlib.suppress(EngineError):
        await following


async def test_an_engine_that_is_away_is_told_in_one_sentence(socket: EngineSocket, engine: Engine) -> None:
    await socket.close()
    with pytest.raises(EngineError) as caught:
        await engine.info()
    assert caught.value.kind is Kind.UNREACHABLE
    assert str(caught.value) == (
        f"the Docker engine at {socket.url} cannot be reached: No such file or directory"
    )
    await socket.start()
    socket.answers["GET /info"] = (200, {})
    assert await engine.info() == {}


@pytest.mark.slow
async def test_an_engine_that_says_nothing_is_timed_out(socket: EngineSocket, engine: Engine) -> None:
    socket.silent.add("GET /info")
    with pytest.raises(EngineError, match="did not answer in time") as caught:
        await engine.info()
    assert caught.value.kind is Kind.TIMED_OUT


async def test_something_else_behind_the_socket_is_not_taken_for_an_engine(
    socket: EngineSocket, engine: Engine
) -> None:
    socket.answers["GET /version"] = (200, {})
    with pytest.raises(EngineError, match="what answers there is not a Docker engine"):
        await engine.info()


@pytest.mark.slow
async def test_reads_do_not_wait_behind_changes_nor_these_behind_stops(
    socket: EngineSocket, engine: Engine
) -> None:
    socket.silent |= {"POST /containers/c/start", "POST /containers/c/stop"}
    socket.answers["GET /info"] = (200, {})
    socket.answers["POST /containers/c/kill"] = (204, None)
    stops = [asyncio.create_task(engine.stop("c", 5)) for _ in range(module.CHANGE_THREADS + 1)]
    await eventually(lambda: socket.count("POST /containers/c/stop") == len(stops))
    await engine.kill("c")
    starts = [asyncio.create_task(engine.start("c")) for _ in range(module.CHANGE_THREADS + 1)]
    await eventually(lambda: socket.count("POST /containers/c/start") == module.CHANGE_THREADS)
    await engine.info()
    socket.cut()
    for outcome in await asyncio.gather(*stops, *starts, return_exceptions=True):
        assert isinstance(outcome, EngineError)


@pytest.mark.slow
async def test_a_stop_may_last_its_grace_period_longer_than_other_calls(
    socket: EngineSocket, engine: Engine
) -> None:
    socket.silent.add("POST /containers/c/stop")
    stopping = asyncio.create_task(engine.stop("c", 30))
    await asyncio.wait([stopping], timeout=1.3)
    assert not stopping.done()
    socket.cut()
    with pytest.raises(EngineError):
        await stopping


@pytest.mark.slow
async def test_closing_leaves_no_thread_and_no_descriptor(socket: EngineSocket) -> None:
    socket.answers["GET /info"] = (200, {})
    before = open_descriptors()
    for _ in range(5):
        engine = Engine(socket.url)
        await asyncio.gather(*(engine.info() for _ in range(10)))
        await engine.close()
    await eventually(lambda: engine_threads() == [] and open_descriptors() <= before)
    with pytest.raises(EngineError, match="has been left"):
        await engine.info()


async def test_closing_while_calls_are_under_way_leaves_nothing_either(socket: EngineSocket) -> None:
    before = open_descriptors()
    engine = Engine(socket.url)
    socket.silent.add("GET /info")
    calling = asyncio.create_task(engine.info())
    await eventually(lambda: socket.count("GET /info") == 1)
    await engine.close()
    socket.cut()
    with pytest.raises(EngineError):
        await calling
    await eventually(lambda: engine_threads() == [] and open_descriptors() <= before)


@pytest.mark.parametrize(
    ("reference", "name", "tag"),
    [
        ("redis", "redis", "latest"),
        ("redis:3.0.5", "redis", "3.0.5"),
        ("host:5000/a/b", "host:5000/a/b", "latest"),
        ("host:5000/a/b:c", "host:5000/a/b", "c"),
        ("a@sha256:12", "a", "sha256:12"),
    ],
)
async def test_a_pull_always_names_a_tag(
    socket: EngineSocket, engine: Engine, reference: str, name: str, tag: str
) -> None:
    socket.answers[PULL] = (200, {"status": "Image is up to date"})
    await engine.pull(reference, "", int)
    assert socket.queries[PULL] == {"fromImage": name, "tag": tag}
    assert "x-registry-auth" not in socket.headers[-1]


async def test_a_pull_passes_the_credentials_on_as_they_are(socket: EngineSocket, engine: Engine) -> None:
    socket.answers[PULL] = (200, {})
    await engine.pull("a", "eyJ1c2VybmFtZSI6ICJ4In0=", int)
    assert socket.headers[-1]["x-registry-auth"] == "eyJ1c2VybmFtZSI6ICJ4In0="


async def test_a_pull_that_fails_after_it_began_fails(socket: EngineSocket, engine: Engine) -> None:
    socket.streaming.add(PULL)
    answered = asyncio.Event()
    pulling = asyncio.create_task(engine.pull("a", "", answered.set))
    await asyncio.wait_for(answered.wait(), 5)
    socket.emit({"status": "Pulling from a", "id": "latest"})
    socket.emit({"error": "filesystem layer verification failed", "errorDetail": {}})
    with pytest.raises(EngineError, match="layer verification failed"):
        await pulling


async def test_a_pull_that_is_refused_fails_with_the_registrys_words(
    socket: EngineSocket, engine: Engine
) -> None:
    socket.answers[PULL] = (500, {"message": "manifest unknown"})
    with pytest.raises(EngineError, match="manifest unknown") as caught:
        await engine.pull("a", "", int)
    assert caught.value.kind is Kind.FATAL


async def test_a_cancelled_pull_hangs_up_at_once(socket: EngineSocket, engine: Engine) -> None:
    socket.streaming.add(PULL)
    answered = asyncio.Event()
    pulling = asyncio.create_task(engine.pull("a", "", answered.set))
    await asyncio.wait_for(answered.wait(), 5)
    pulling.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await pulling
    await eventually(lambda: socket.hung_up == [PULL])


async def test_progress_is_logged_when_a_layers_status_changes(
    socket: EngineSocket, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "swarmkit.executors.docker")
    socket.streaming.add(PULL)
    answered = asyncio.Event()
    pulling = asyncio.create_task(engine.pull("a", "", answered.set))
    await asyncio.wait_for(answered.wait(), 5)
    for done in range(5):
        socket.emit({"status": "Downloading", "id": "x", "progressDetail": {"current": done}})
        socket.emit({"status": "Downloading", "id": "y", "progressDetail": {"current": done}})
    socket.emit({"status": "Download complete", "id": "x"})
    socket.end()
    await pulling
    lines = [record for record in caplog.records if record.message == "pulling"]
    assert len(lines) == 3


def test_the_engine_in_memory_has_the_methods_of_the_real_one() -> None:
    for name, method in vars(FakeEngine).items():
        if inspect.iscoroutinefunction(method) and not name.startswith("_"):
            assert list(inspect.signature(method).parameters) == list(
                inspect.signature(getattr(Engine, name)).parameters
            ), name


async def test_an_engine_on_another_host_is_spoken_to_alike(socket: EngineSocket) -> None:
    async with asyncio.timeout(5):
        address = await socket.listen_on_loopback()
        engine = Engine(address, timeout=1)
        socket.answers["GET /info"] = (200, {"Name": "far"})
        assert await engine.info() == {"Name": "far"}
        socket.streaming.add(PULL)
        answered = asyncio.Event()
        pulling = asyncio.create_task(engine.pull("a", "", answered.set))
        await answered.wait()
        pulling.cancel()
        await asyncio.wait([pulling])
        await eventually(lambda: socket.hung_up == [PULL])
        await engine.close()


async def test_a_directory_is_made_on_this_host_only(short_folder: object, engine: Engine) -> None:
    await engine.make_directory(f"{short_folder}/a/b")
    await engine.make_directory(f"{short_folder}/a/b")
    with pytest.raises(EngineError, match="cannot be made: Not a directory"):
        await engine.make_directory("/dev/null/x")
    remote = Engine("tcp://192.0.2.1:2375")
    with pytest.raises(EngineError, match="another host"):
        await remote.make_directory("/a")
    await remote.close()
