import asyncio
from typing import Any, cast

import pytest

from swarmkit.executors.docker.errors import EngineError, Kind
from swarmkit.executors.docker.pulls import ANSWER_DEADLINE, Pulls
from tests.fakes.engine import FakeEngine
from tests.fakes.loop import VirtualClock

DIGEST = f"busybox@sha256:{'a' * 64}"


@pytest.fixture
async def pulls(engine: FakeEngine, clock: VirtualClock) -> Pulls:
    return Pulls(cast(Any, engine), clock)


def begin(pulls: Pulls, image: str, holder: str = "t1", auth: str = "") -> "asyncio.Task[None]":
    return asyncio.create_task(pulls.pull(image, auth, holder))


async def test_every_call_pulls_though_the_image_is_here(engine: FakeEngine, pulls: Pulls) -> None:
    await pulls.pull("busybox", "auth", "t1")
    await pulls.pull("busybox", "auth", "t1")
    assert engine.calls == [("pull", "busybox", "auth")] * 2


@pytest.mark.parametrize("image", ["sha256:" + "a" * 64, "a" * 64])
async def test_an_image_id_is_not_pulled(engine: FakeEngine, pulls: Pulls, image: str) -> None:
    await pulls.pull(image, "", "t1")
    assert engine.calls == []


async def test_a_digest_is_pulled_only_if_it_is_not_here(engine: FakeEngine, pulls: Pulls) -> None:
    await pulls.pull(DIGEST, "", "t1")
    assert engine.count("pull") == 1
    engine.images.add(DIGEST)
    await pulls.pull(DIGEST, "", "t1")
    assert engine.count("pull") == 1


async def test_tasks_that_want_the_same_image_share_one_pull(engine: FakeEngine, pulls: Pulls) -> None:
    gate = engine.hold("pull")
    tasks = [begin(pulls, "busybox", f"t{n}") for n in range(30)]
    other = begin(pulls, "busybox", "t99", auth="somebody else")
    await asyncio.sleep(1)
    assert engine.count("pull") == 2
    gate.set()
    await asyncio.gather(other, *tasks)


async def test_a_download_is_waited_for_though_an_older_image_is_here(
    engine: FakeEngine, pulls: Pulls
) -> None:
    gate = engine.hold("pull")
    task = begin(pulls, "busybox")
    await asyncio.sleep(600)
    assert not task.done()
    gate.set()
    await task


async def test_a_registry_that_does_not_answer_delays_a_present_image_once(
    engine: FakeEngine, pulls: Pulls, clock: VirtualClock
) -> None:
    engine.hold("pull")
    engine.registry_answers = False
    await pulls.pull("busybox", "", "t1")
    assert clock.monotonic() == ANSWER_DEADLINE
    await pulls.pull("busybox", "", "t2")
    assert clock.monotonic() == ANSWER_DEADLINE
    assert engine.count("pull") == 1
    await pulls.close()


async def test_an_absent_image_is_waited_for_however_long_the_registry_takes(
    engine: FakeEngine, pulls: Pulls
) -> None:
    gate = engine.hold("pull")
    engine.registry_answers = False
    task = begin(pulls, "absent")
    await asyncio.sleep(60)
    assert not task.done()
    gate.set()
    await task


async def test_a_failed_pull_is_logged_with_its_reason_and_forgotten(
    engine: FakeEngine, pulls: Pulls, caplog: pytest.LogCaptureFixture
) -> None:
    engine.fail("pull", Kind.FATAL, "manifest unknown")
    await pulls.pull("busybox", "", "t1")
    (record,) = caplog.records
    assert getattr(record, "fields", {})["error"] == "manifest unknown"
    await pulls.pull("busybox", "", "t1")
    assert engine.count("pull") == 2


async def test_a_cancelled_caller_leaves_the_pull_running(engine: FakeEngine, pulls: Pulls) -> None:
    gate = engine.hold("pull")
    first = begin(pulls, "busybox")
    await asyncio.sleep(1)
    first.cancel()
    await asyncio.wait([first])
    assert engine.cancelled == []
    second = begin(pulls, "busybox")
    await asyncio.sleep(1)
    gate.set()
    await second
    assert engine.count("pull") == 1


async def test_a_pull_is_cancelled_when_its_last_holder_lets_go(engine: FakeEngine, pulls: Pulls) -> None:
    engine.hold("pull")
    tasks = [begin(pulls, "busybox", holder) for holder in ("t1", "t2")]
    await asyncio.sleep(1)
    pulls.release("t1")
    pulls.release("somebody")
    await asyncio.sleep(1)
    assert engine.cancelled == []
    pulls.release("t2")
    await asyncio.gather(*tasks)
    assert engine.cancelled == ["busybox"]


async def test_a_pull_wanted_again_while_it_is_being_cancelled_begins_anew(
    engine: FakeEngine, pulls: Pulls
) -> None:
    gate = engine.hold("pull")
    first = begin(pulls, "busybox")
    await asyncio.sleep(1)
    pulls.release("t1")
    second = begin(pulls, "busybox")
    await first
    await asyncio.sleep(1)
    assert not second.done()
    gate.set()
    await second
    assert engine.count("pull") == 2


async def test_an_engine_that_is_away_is_told_when_it_is_asked_for_the_image(
    engine: FakeEngine, pulls: Pulls
) -> None:
    engine.away = True
    with pytest.raises(EngineError):
        await pulls.pull(DIGEST, "", "t1")


async def test_closing_cancels_the_pulls(engine: FakeEngine, pulls: Pulls) -> None:
    engine.hold("pull")
    task = begin(pulls, "busybox")
    await asyncio.sleep(1)
    await pulls.close()
    await task
    assert engine.cancelled == ["busybox"]
