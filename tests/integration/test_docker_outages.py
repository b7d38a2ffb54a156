"""The Docker executor while its engine is stopped, killed or frozen, and when it is back."""

import asyncio
import re
import signal
import time
from collections.abc import Iterator

import pytest

from swarmkit.agent.exec import TemporaryError
from tests.engine import Engine, EngineUnavailableError, import_images
from tests.integration.containers import (
    OBEDIENT,
    Node,
    State,
    engine_threads,
    in_thread,
    node,
    remove_all,
    restart,
    tell,
    when_told,
)
from tests.scale import SCALE

pytestmark = pytest.mark.docker


@pytest.fixture
def own(engine: Engine, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An engine of this test's own, that may be stopped, killed and frozen."""
    try:
        made = Engine.start(extra=getattr(request, "param", ()))
    except EngineUnavailableError as error:
        pytest.skip(f"no engine of our own: {error}")
    try:
        import_images(made.url)
        yield made
        assert made.process is not None
        made.process.send_signal(signal.SIGCONT)
        if made.process.poll() is not None:
            restart(made)
        remove_all(made.url)
    finally:
        made.stop()


async def away(here: Node) -> str:
    """Describe a node whose engine is away; return the sentence."""
    with pytest.raises(TemporaryError) as caught:
        await here.executor.describe()
    return str(caught.value)


async def outage(here: Node, seconds: float) -> float:
    """Let an outage last, and return how many calls of the engine a second it brought."""
    before = here.calls
    await asyncio.sleep(seconds)
    return (here.calls - before) / seconds


async def test_tasks_of_an_engine_that_is_stopped_end_as_their_containers_did(own: Engine) -> None:
    async with node(own.url) as here:
        here.count_calls()
        obedient, brief = await asyncio.gather(
            here.run(), here.run("trap 'exit 0' TERM; sleep 100000 & wait")
        )
        assert own.process is not None
        own.process.terminate()
        assert (await obedient.until(State.FAILED, 30)).container.exit_code == 7
        assert (await brief.until(State.COMPLETE, 30)).container.exit_code == 0
        await in_thread(own.process.wait)
        assert re.fullmatch(
            r"the Docker engine at unix://\S+ cannot be reached: [A-Z][a-z ]+", await away(here)
        )
        waiting = await here.drive(here.task("exit 0"))
        assert await outage(here, 2) <= 5
        assert waiting.status.state == State.PREPARING
        assert "cannot be reached" in waiting.status.err
        await in_thread(restart, own)
        assert (await waiting.until(State.COMPLETE)).err == ""
        await here.executor.describe()


async def test_tasks_of_an_engine_that_was_killed_end_when_it_is_back(own: Engine) -> None:
    async with node(own.url) as here:
        here.count_calls()
        driven = await asyncio.gather(*(here.run() for _ in range(3)))
        own.kill()
        assert await outage(here, 3) <= 2
        assert "cannot be reached" in await away(here)
        assert [one.status.state for one in driven] == [State.RUNNING] * 3
        await in_thread(restart, own)
        for one in driven:
            status = await one.until(State.FAILED, 30)
            assert status.container.exit_code in (7, 137, 255), status
        await here.executor.describe()
        assert (await (await here.drive(here.task("exit 0"))).until(State.COMPLETE)).err == ""


@pytest.mark.parametrize("own", [("--live-restore",)], indirect=True)
async def test_containers_that_survive_their_engine_are_found_again(own: Engine) -> None:
    async with node(own.url) as here:
        here.count_calls()
        survivor, victim, stopped = await asyncio.gather(
            here.run(), here.run(when_told("exit 4")), here.run(OBEDIENT)
        )
        pid = survivor.status.container.pid
        own.kill()
        await tell(victim)
        stopped.order(State.SHUTDOWN)
        assert await outage(here, 2.5) <= 5
        assert victim.status.state == State.RUNNING
        await in_thread(restart, own)
        assert (await victim.until(State.FAILED)).container.exit_code == 4
        await stopped.until(State.SHUTDOWN)
        status = await survivor.controller.container_status()
        assert status is not None
        assert (survivor.status.state, status.pid) == (State.RUNNING, pid)


async def test_a_frozen_engine_loses_nothing(own: Engine) -> None:
    async with node(own.url, timeout=2) as here:
        here.count_calls()
        survivor, victim, stopped = await asyncio.gather(
            here.run(), here.run(when_told("exit 5")), here.run(OBEDIENT)
        )
        assert own.process is not None
        own.process.send_signal(signal.SIGSTOP)
        await tell(victim)
        stopped.order(State.SHUTDOWN)
        starting = await here.drive(here.task(OBEDIENT))
        assert await outage(here, 3.5) <= 5
        sentence = await away(here)
        assert re.fullmatch(r"the Docker engine at unix://\S+ did not answer in time", sentence)
        assert victim.status.state == State.RUNNING
        own.process.send_signal(signal.SIGCONT)
        assert (await victim.until(State.FAILED)).container.exit_code == 5
        assert (await stopped.until(State.SHUTDOWN, 30)).container.exit_code == 7
        await starting.until(State.RUNNING)
        assert survivor.status.state == State.RUNNING
        await here.executor.describe()
        # And leaving it while it is frozen takes no longer than a moment.
        own.process.send_signal(signal.SIGSTOP)
        describing = asyncio.create_task(here.executor.describe())
        survivor.order(State.SHUTDOWN)
        await asyncio.sleep(0.2)
        describing.cancel()
        began = time.monotonic()
        await here.stop()
        here.driven.clear()
        assert time.monotonic() - began < 1.5 * SCALE
    assert all(thread.daemon for thread in engine_threads())
