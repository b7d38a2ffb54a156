import asyncio
from typing import Any

import pytest

from swarmkit.agent.exec import AlreadyDoneError, TaskExitError, TemporaryError
from swarmkit.api import messages as api
from swarmkit.executors.docker.controller import DestroyedError, DockerController
from swarmkit.executors.docker.errors import EngineError, Kind
from swarmkit.executors.docker.mounts import MountError
from tests.fakes.engine import FakeEngine
from tests.fakes.loop import VirtualClock
from tests.unit.executors.docker.controllers import NAME, controller_of, make, running


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


@pytest.mark.parametrize("labels", [None, {}])
async def test_a_container_of_that_name_without_labels_is_foreign_too(
    engine: FakeEngine, controller: DockerController, labels: Any
) -> None:
    await controller.prepare()
    engine.containers[NAME]["Config"]["Labels"] = labels
    with pytest.raises(EngineError, match="belongs to somebody else"):
        await controller.prepare()


async def test_a_name_that_is_just_being_freed_is_tried_again(
    engine: FakeEngine, controller: DockerController
) -> None:
    engine.fail("create", Kind.NAME_IN_USE, "is already in use")
    with pytest.raises(TemporaryError, match="is being removed"):
        await controller.prepare()
    await controller.prepare()


async def test_a_mount_that_cannot_be_made_is_refused_before_anything_is_pulled(
    engine: FakeEngine, clock: VirtualClock
) -> None:
    cluster = api.Mount(type=api.Mount.CLUSTER, source="v", target="/v")
    with pytest.raises(MountError, match="cluster volumes are not supported"):
        await make(engine, clock, mounts=[cluster]).prepare()
    assert engine.count("pull") == 0


async def test_volumes_with_a_driver_and_missing_directories_are_made_before_the_container(
    engine: FakeEngine, clock: VirtualClock
) -> None:
    volume = api.Mount(type=api.Mount.VOLUME, source="v", target="/v")
    volume.volume_options.driver_config.name = "local"
    bind = api.Mount(type=api.Mount.BIND, source="/made", target="/b")
    bind.bind_options.createmountpoint = True
    plain = api.Mount(type=api.Mount.BIND, source="/there", target="/p")
    await make(engine, clock, mounts=[volume, bind, plain]).prepare()
    assert [call for call in engine.calls if call[0] in ("create_volume", "make_directory")] == [
        ("make_directory", "/made"),
        ("create_volume", "v"),
    ]
    assert engine.calls[-1] == ("create", NAME)


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


async def test_creating_goes_on_when_preparing_is_cancelled_and_removing_waits_for_it(
    engine: FakeEngine, controller: DockerController
) -> None:
    gate = engine.hold("create")
    preparing = asyncio.create_task(controller.prepare())
    await asyncio.sleep(1)
    preparing.cancel()
    await asyncio.wait([preparing])
    removing = asyncio.create_task(controller.remove())
    await asyncio.sleep(1)
    assert engine.count("remove") == 0
    gate.set()
    await removing
    assert engine.containers == {}


async def test_what_was_just_created_is_started_without_a_question(
    engine: FakeEngine, controller: DockerController
) -> None:
    await controller.prepare()
    await controller.start()
    assert [call[0] for call in engine.calls] == ["api_version", "pull", "create", "start", "inspect"]


async def test_start_after_a_restart_of_the_daemon_finds_the_container_running(
    engine: FakeEngine, clock: VirtualClock
) -> None:
    await running(make(engine, clock))
    with pytest.raises(AlreadyDoneError):
        await make(engine, clock).start()
    assert engine.count("start") == 1


async def test_a_start_without_an_answer_is_looked_at_before_it_is_tried_again(
    engine: FakeEngine, controller: DockerController
) -> None:
    await controller.prepare()
    engine.fail("start", Kind.TIMED_OUT, "did not answer in time")
    with pytest.raises(TemporaryError):
        await controller.start()
    engine.containers[NAME]["State"].update(Status="running", Pid=42)
    with pytest.raises(AlreadyDoneError):
        await controller.start()
    assert engine.count("start") == 1


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
    await controller.container_status()
    gate = engine.hold("start")
    asyncio.get_running_loop().call_later(0.01, gate.set)

    def refused(name: str) -> None:
        engine.containers[name]["State"]["ExitCode"] = 127
        raise EngineError(Kind.FATAL, "no such file")

    engine.on_start = refused
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


async def test_a_container_that_recovered_while_the_engine_was_away_ended_by_itself(
    engine: FakeEngine, clock: VirtualClock
) -> None:
    controller = make(engine, clock, healthcheck=api.HealthConfig(test=["CMD", "x"]))
    await controller.prepare()
    engine.set_health(NAME, "healthy")
    await controller.start()
    engine.set_health(NAME, "unhealthy")
    engine.fail("stop", Kind.UNREACHABLE, "refused")
    with pytest.raises(TemporaryError):
        await controller.wait()
    engine.set_health(NAME, "healthy")
    waiting = asyncio.create_task(controller.wait())
    await asyncio.sleep(1)
    engine.end(NAME, 0)
    await waiting


async def test_an_unhealthy_container_whose_stop_had_no_answer_still_failed_for_its_health(
    engine: FakeEngine, clock: VirtualClock
) -> None:
    controller = make(engine, clock, healthcheck=api.HealthConfig(test=["CMD", "x"]))
    await controller.prepare()
    engine.set_health(NAME, "healthy")
    await controller.start()
    engine.set_health(NAME, "unhealthy")
    engine.fail("stop", Kind.TIMED_OUT, "did not answer in time")
    with pytest.raises(TemporaryError):
        await controller.wait()
    engine.end(NAME, 137)
    with pytest.raises(TaskExitError, match="unhealthy container") as caught:
        await controller.wait()
    assert caught.value.exit_code == 137


async def test_an_unhealthy_container_that_is_removed_meanwhile_is_destroyed(
    engine: FakeEngine, clock: VirtualClock
) -> None:
    controller = make(engine, clock, healthcheck=api.HealthConfig(test=["CMD", "x"]))
    await controller.prepare()
    engine.set_health(NAME, "unhealthy")
    gate = engine.hold("stop")
    starting = asyncio.create_task(controller.start())
    await asyncio.sleep(1)
    del engine.containers[NAME]
    gate.set()
    with pytest.raises(DestroyedError):
        await starting


async def test_waiting_for_what_never_ran_does_not_last_for_ever(
    engine: FakeEngine, controller: DockerController
) -> None:
    await controller.prepare()
    with pytest.raises(TaskExitError, match="is not started"):
        await controller.wait()


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


async def test_a_lost_event_delays_the_end_by_a_minute_at_most(
    engine: FakeEngine, controller: DockerController, clock: VirtualClock
) -> None:
    await running(controller)
    waiting = asyncio.create_task(controller.wait())
    await asyncio.sleep(1)
    engine.events.deaf = True
    engine.end(NAME, 0)
    await waiting
    assert clock.monotonic() <= 61


async def test_an_engine_that_is_away_is_a_temporary_matter(
    engine: FakeEngine, controller: DockerController
) -> None:
    engine.away = True
    for operation in (controller.prepare, controller.start, controller.shutdown, controller.remove):
        with pytest.raises(TemporaryError, match="cannot be reached"):
            await operation()
    assert await controller.container_status() is None


async def test_a_short_outage_is_waited_out_and_a_death_in_it_found(
    engine: FakeEngine, controller: DockerController
) -> None:
    await running(controller)
    waiting = asyncio.create_task(controller.wait())
    await asyncio.sleep(1)
    before = engine.count("inspect")
    engine.away = True
    engine.events.wake_all()
    await asyncio.sleep(45)
    assert engine.count("inspect") - before <= 6
    engine.end(NAME, 3)
    engine.away = False
    engine.events.wake_all()
    with pytest.raises(TaskExitError, match="non-zero exit"):
        await waiting


async def test_an_outage_of_a_minute_is_told_and_the_wait_goes_on(
    engine: FakeEngine, controller: DockerController, clock: VirtualClock
) -> None:
    await running(controller)
    engine.away = True
    before = engine.count("inspect")
    with pytest.raises(TemporaryError, match="cannot be reached"):
        await controller.wait()
    assert 60 <= clock.monotonic() <= 70
    assert engine.count("inspect") - before <= 8
    engine.away = False
    engine.end(NAME, 0)
    await controller.wait()


async def test_the_status_after_a_step_costs_no_further_question(
    engine: FakeEngine, controller: DockerController
) -> None:
    await running(controller)
    before = engine.count("inspect")
    await controller.container_status()
    assert engine.count("inspect") == before
    await asyncio.sleep(1)
    engine.end(NAME, 7)
    status = await controller.container_status()
    assert status is not None
    assert (status.pid, status.exit_code) == (0, 7)


async def test_the_status_after_a_shutdown_is_asked_for(
    engine: FakeEngine, controller: DockerController
) -> None:
    await running(controller)
    await controller.shutdown()
    status = await controller.container_status()
    assert status is not None
    assert status.exit_code == 143


async def test_ports_are_told_only_for_tasks_that_publish_on_the_host(
    engine: FakeEngine, controller: DockerController, clock: VirtualClock
) -> None:
    await running(controller)
    engine.containers[NAME]["NetworkSettings"] = {"Ports": {"80/tcp": [{"HostPort": "32768"}]}}
    assert await controller.port_status() is None
    task = api.Task(id="t1", slot=1)
    task.service_annotations.name = "web"
    task.endpoint.ports.add(target_port=80, publish_mode=api.PortConfig.HOST)
    ports = await controller_of(task, engine, clock).port_status()
    assert ports is not None
    assert [(port.target_port, port.published_port) for port in ports.ports] == [(80, 32768)]


async def test_status_shows_id_pid_and_exit_code(engine: FakeEngine, controller: DockerController) -> None:
    await running(controller)
    status = await controller.container_status()
    assert status == api.ContainerStatus(container_id=f"id-{NAME}", pid=42)
