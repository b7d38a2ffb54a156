import asyncio
from typing import Any, cast

import pytest

from swarmkit.agent.exec import AlreadyDoneError, TaskExitError, TemporaryError
from swarmkit.api import messages as api
from swarmkit.executors.docker.controller import ControllerClosedError, DestroyedError, DockerController
from swarmkit.executors.docker.errors import EngineError, Kind
from swarmkit.executors.docker.pulls import Pulls
from tests.fakes.engine import FakeEngine
from tests.fakes.loop import VirtualClock

NAME = "web.1.t1"


@pytest.fixture
async def engine() -> FakeEngine:
    return FakeEngine()


def make(engine: FakeEngine, clock: VirtualClock, **spec: Any) -> DockerController:
    task = api.Task(id="t1", slot=1)
    task.service_annotations.name = "web"
    task.spec.container.CopyFrom(api.ContainerSpec(image=spec.pop("image", "busybox"), **spec))
    fake = cast(Any, engine)
    return DockerController(
        task, task.spec.container, fake, cast(Any, engine.events), Pulls(fake, clock), clock
    )


@pytest.fixture
def controller(engine: FakeEngine, clock: VirtualClock) -> DockerController:
    return make(engine, clock)


async def running(controller: DockerController) -> None:
    await controller.prepare()
    await controller.start()


async def test_prepare_pulls_once_and_creates_once(engine: FakeEngine, controller: DockerController) -> None:
    await controller.prepare()
    assert engine.count("pull") == engine.count("create") == 1
    assert list(engine.containers) == [NAME]


async def test_a_container_of_ours_that_exists_counts_as_prepared(
    engine: FakeEngine, controller: DockerController
) -> None:
    await controller.prepare()
    with pytest.raises(AlreadyDoneError):
        await controller.prepare()


async def test_a_foreign_container_of_that_name_is_fatal(
    engine: FakeEngine, controller: DockerController
) -> None:
    await controller.prepare()
    engine.containers[NAME]["Config"]["Labels"]["com.docker.swarm.task.id"] = "other"
    with pytest.raises(EngineError, match="belongs to somebody else"):
        await controller.prepare()


async def test_a_failed_pull_does_not_matter_if_the_image_is_here(
    engine: FakeEngine, controller: DockerController
) -> None:
    engine.fail("pull", Kind.FATAL, "manifest unknown")
    await controller.prepare()
    assert NAME in engine.containers


async def test_a_failed_pull_of_an_absent_image_fails_with_the_engines_words(
    engine: FakeEngine, clock: VirtualClock
) -> None:
    engine.fail("pull", Kind.FATAL, "manifest unknown")
    with pytest.raises(EngineError, match="No such image: nope"):
        await make(engine, clock, image="nope").prepare()


async def test_a_cancelled_prepare_leaves_the_pull_and_the_next_one_joins_it(
    engine: FakeEngine, clock: VirtualClock
) -> None:
    gate = engine.hold("pull")
    controller = make(engine, clock, image="new")
    first = asyncio.create_task(controller.prepare())
    await asyncio.sleep(1)
    first.cancel()
    await asyncio.wait([first])
    second = asyncio.create_task(controller.prepare())
    await asyncio.sleep(1)
    engine.images.add("new")
    gate.set()
    await second
    assert engine.count("pull") == 1


async def test_a_silent_registry_does_not_keep_a_present_image_waiting(
    engine: FakeEngine, controller: DockerController
) -> None:
    engine.hold("pull")
    engine.registry_answers = False
    await asyncio.wait_for(controller.prepare(), 10)
    assert NAME in engine.containers


async def test_an_image_named_by_digest_is_not_pulled_again(engine: FakeEngine, clock: VirtualClock) -> None:
    reference = f"busybox@sha256:{'a' * 64}"
    engine.images.add(reference)
    await make(engine, clock, image=reference).prepare()
    assert engine.count("pull") == 0


async def test_start_starts_a_created_container_once(
    engine: FakeEngine, controller: DockerController
) -> None:
    await running(controller)
    with pytest.raises(AlreadyDoneError):
        await controller.start()
    assert engine.count("start") == 1


async def test_a_start_that_fails_carries_the_engines_words_and_exit_code(
    engine: FakeEngine, controller: DockerController
) -> None:
    await controller.prepare()
    engine.containers[NAME]["State"]["ExitCode"] = 127
    engine.fail("start", Kind.FATAL, "no such file")
    with pytest.raises(TaskExitError, match="starting container failed: no such file") as caught:
        await controller.start()
    assert caught.value.exit_code == 127


async def test_a_health_check_holds_the_start_until_healthy(engine: FakeEngine, clock: VirtualClock) -> None:
    controller = make(engine, clock, healthcheck=api.HealthConfig(test=["CMD", "x"]))
    await controller.prepare()
    engine.containers[NAME]["State"]["Health"] = {"Status": "starting"}
    starting = asyncio.create_task(controller.start())
    await asyncio.sleep(5)
    assert not starting.done()
    engine.set_health(NAME, "healthy")
    await starting


async def test_after_a_restart_a_start_goes_on_waiting_for_healthy(
    engine: FakeEngine, clock: VirtualClock
) -> None:
    check = api.HealthConfig(test=["CMD", "x"])
    before = make(engine, clock, healthcheck=check)
    await before.prepare()
    engine.containers[NAME]["State"].update(Status="running", Health={"Status": "starting"})
    starting = asyncio.create_task(make(engine, clock, healthcheck=check).start())
    await asyncio.sleep(5)
    assert not starting.done()
    engine.set_health(NAME, "healthy")
    await starting
    assert engine.count("start") == 0


async def test_unhealthy_stops_the_container_and_fails(engine: FakeEngine, clock: VirtualClock) -> None:
    controller = make(engine, clock, healthcheck=api.HealthConfig(test=["CMD", "x"]))
    await controller.prepare()
    engine.set_health(NAME, "healthy")
    await controller.start()
    waiting = asyncio.create_task(controller.wait())
    await asyncio.sleep(1)
    engine.set_health(NAME, "unhealthy")
    with pytest.raises(TaskExitError, match="dockerexec: unhealthy container"):
        await waiting
    assert engine.count("stop") == 1


async def test_wait_returns_for_exit_code_0_and_fails_for_others(
    engine: FakeEngine, controller: DockerController
) -> None:
    await running(controller)
    waiting = asyncio.create_task(controller.wait())
    await asyncio.sleep(1)
    engine.end(NAME, 1, "oom")
    with pytest.raises(TaskExitError, match=r"task: non-zero exit \(1\): oom") as caught:
        await waiting
    assert caught.value.exit_code == 1
    engine.end(NAME, 0)
    await controller.wait()
    assert engine.events.watched == 0


async def test_a_container_removed_behind_our_back_is_destroyed(
    engine: FakeEngine, controller: DockerController
) -> None:
    await running(controller)
    waiting = asyncio.create_task(controller.wait())
    await asyncio.sleep(1)
    await engine.remove(NAME)
    with pytest.raises(DestroyedError, match="dockerexec: container destroyed"):
        await waiting


async def test_events_that_change_nothing_end_nothing(
    engine: FakeEngine, controller: DockerController
) -> None:
    await running(controller)
    waiting = asyncio.create_task(controller.wait())
    for _ in range(3):
        await asyncio.sleep(1)
        engine.events.wake_all()
    assert not waiting.done()
    waiting.cancel()
    await asyncio.wait([waiting])


async def test_an_engine_that_is_away_is_a_temporary_matter(
    engine: FakeEngine, controller: DockerController
) -> None:
    engine.away = True
    for operation in (controller.prepare, controller.start, controller.wait, controller.shutdown):
        with pytest.raises(TemporaryError, match="cannot be reached"):
            await operation()
    assert await controller.container_status() is None


async def test_shutdown_stops_with_the_grace_period(engine: FakeEngine, clock: VirtualClock) -> None:
    controller = make(engine, clock)
    await running(controller)
    await controller.shutdown()
    assert ("stop", NAME, "10") in engine.calls


async def test_shutdown_of_a_missing_container_is_fine(controller: DockerController) -> None:
    await controller.shutdown()


@pytest.mark.parametrize("kind", [Kind.NO_CONTAINER, Kind.REMOVAL_RUNS])
async def test_remove_is_fine_with_what_is_gone_or_going(
    engine: FakeEngine, controller: DockerController, kind: Kind
) -> None:
    engine.fail("remove", kind, "gone or going")
    await controller.remove()


async def test_remove_stops_and_removes(engine: FakeEngine, controller: DockerController) -> None:
    await running(controller)
    await controller.remove()
    assert engine.containers == {}
    assert engine.count("stop") == 1


async def test_remove_without_an_engine_is_to_be_tried_again(
    engine: FakeEngine, controller: DockerController
) -> None:
    await running(controller)
    engine.away = True
    with pytest.raises(TemporaryError, match="cannot be reached"):
        await controller.remove()
    engine.away = False
    await controller.remove()
    assert engine.containers == {}


async def test_a_closed_controller_refuses_everything(
    engine: FakeEngine, controller: DockerController
) -> None:
    await controller.close()
    for operation in (
        controller.prepare,
        controller.start,
        controller.wait,
        controller.shutdown,
        controller.remove,
        controller.close,
        controller.container_status,
    ):
        with pytest.raises(ControllerClosedError, match="exec: controller closed"):
            await operation()
    assert engine.calls == []


async def test_status_shows_id_pid_and_exit_code(engine: FakeEngine, controller: DockerController) -> None:
    await running(controller)
    status = await controller.container_status()
    assert status == api.ContainerStatus(container_id=f"id-{NAME}", pid=42)
