"""How a container ends: shutdown, terminate, remove, close (contract/executor.md, 11)."""

import asyncio

import pytest

from swarmkit.agent.exec import TemporaryError
from swarmkit.executors.docker.controller import ControllerClosedError, DockerController
from swarmkit.executors.docker.errors import Kind
from tests.fakes.engine import FakeEngine
from tests.fakes.loop import VirtualClock
from tests.unit.executors.docker.controllers import NAME, make, running


async def test_a_container_is_not_stopped_before_the_cancelled_start_has_ended(
    engine: FakeEngine, controller: DockerController
) -> None:
    await controller.prepare()
    gate = engine.hold("start")
    starting = asyncio.create_task(controller.start())
    await asyncio.sleep(1)
    starting.cancel()
    await asyncio.wait([starting])
    stopping = asyncio.create_task(controller.shutdown())
    await asyncio.sleep(1)
    gate.set()
    await stopping
    assert engine.containers[NAME]["State"]["Status"] == "exited"


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


async def test_remove_by_force_what_cannot_be_stopped(
    engine: FakeEngine, controller: DockerController
) -> None:
    await running(controller)
    engine.fail("stop", Kind.FATAL, "cannot stop: permission denied")
    await controller.remove()
    assert engine.containers == {}


async def test_terminate_kills_without_waiting_for_the_stop_under_way(
    engine: FakeEngine, controller: DockerController
) -> None:
    await running(controller)
    engine.hold("stop")
    stopping = asyncio.create_task(controller.shutdown())
    await asyncio.sleep(1)
    await controller.terminate()
    assert engine.containers[NAME]["State"]["ExitCode"] == 137
    stopping.cancel()
    await asyncio.wait([stopping])
    await controller.terminate()
    del engine.containers[NAME]
    await controller.terminate()


@pytest.mark.parametrize("operation", ["shutdown", "terminate", "remove", "close"])
async def test_what_ends_a_task_cancels_its_pull(
    engine: FakeEngine, clock: VirtualClock, operation: str
) -> None:
    controller = make(engine, clock, image="new")
    engine.hold("pull")
    preparing = asyncio.create_task(controller.prepare())
    await asyncio.sleep(1)
    preparing.cancel()
    await asyncio.wait([preparing])
    assert engine.cancelled == []
    await getattr(controller, operation)()
    await asyncio.sleep(1)
    assert engine.cancelled == ["new"]


async def test_closing_frees_who_waits(engine: FakeEngine, controller: DockerController) -> None:
    await running(controller)
    waiting = asyncio.create_task(controller.wait())
    await asyncio.sleep(1)
    await controller.close()
    with pytest.raises(ControllerClosedError):
        await waiting
    assert engine.events.watched == 0


async def test_closing_frees_who_waits_for_the_engine(
    engine: FakeEngine, controller: DockerController
) -> None:
    await running(controller)
    engine.hold("stop")
    stopping = [asyncio.create_task(controller.shutdown()) for _ in range(2)]
    await asyncio.sleep(1)
    await controller.close()
    for task in stopping:
        with pytest.raises(ControllerClosedError):
            await task


async def test_a_closed_controller_refuses_everything(
    engine: FakeEngine, controller: DockerController
) -> None:
    await controller.close()
    for operation in (
        controller.prepare,
        controller.start,
        controller.wait,
        controller.shutdown,
        controller.terminate,
        controller.remove,
        controller.close,
        controller.port_status,
        controller.container_status,
    ):
        with pytest.raises(ControllerClosedError, match="exec: controller closed"):
            await operation()
    assert engine.calls == []
