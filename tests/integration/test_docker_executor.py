"""The Docker executor on a real engine, its controllers driven by the agent's task manager."""

import asyncio
import contextlib
import re
import time
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from swarmkit.api import messages as api
from swarmkit.executors.docker.controller import ControllerClosedError
from tests.engine import Engine
from tests.integration.containers import (
    OBEDIENT,
    STUBBORN,
    Driven,
    Node,
    State,
    client,
    eventually,
    in_thread,
    look,
    node,
    tell,
    when_told,
)
from tests.ports import free_port
from tests.scale import SCALE

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("tidied")]


# The way of one task


async def test_a_task_goes_through_its_states_and_leaves_nothing(here: Node, engine: Engine) -> None:
    task = here.task('test "$GREETING $DOCKER_RESOURCE_GPU $DOCKER_RESOURCE_SSD" = "it.1 a,b 3"')
    task.spec.container.env.append("GREETING={{.Service.Name}}.{{.Task.Slot}}")
    for gpu in ("a", "b"):
        task.assigned_generic_resources.add().named_resource_spec.CopyFrom(
            api.NamedGenericResource(kind="gpu", value=gpu)
        )
    task.assigned_generic_resources.add().discrete_resource_spec.CopyFrom(
        api.DiscreteGenericResource(kind="ssd", value=3)
    )
    driven = await here.drive(task)
    status = await driven.until(State.COMPLETE)
    assert driven.states == [
        State.ASSIGNED, State.ACCEPTED, State.PREPARING, State.READY, State.STARTING, State.RUNNING,
        State.COMPLETE,
    ]  # fmt: skip
    assert (status.message, status.err) == ("finished", "")
    found = await look(engine, f"it.1.{task.id}")
    assert status.container == api.ContainerStatus(container_id=found["Id"])
    assert found["Config"]["Labels"]["com.docker.swarm.task.id"] == task.id
    assert found["HostConfig"]["RestartPolicy"]["Name"] == "no"
    await driven.controller.remove()
    await driven.controller.remove()
    with pytest.raises(Exception, match="No such container"):
        await look(engine, found["Id"])
    await driven.manager.close()
    await driven.controller.close()
    with pytest.raises(ControllerClosedError):
        await driven.controller.close()


@pytest.mark.parametrize(
    ("script", "spec", "state", "code", "error"),
    [
        ("exit 0", {}, State.COMPLETE, 0, ""),
        ("exit 1", {}, State.FAILED, 1, r"task: non-zero exit \(1\)"),
        ("exec sh -c 'exit 255'", {}, State.FAILED, 255, r"task: non-zero exit \(255\)"),
        ("", {"command": ["/nothing"]}, State.FAILED, 127, "starting container failed: .*no such file"),
        (
            "",
            {"command": ["/etc/passwd"]},
            State.FAILED,
            126,
            "starting container failed: .*permission denied",
        ),
        (
            "",
            {"user": "mallory"},
            State.FAILED,
            128,
            "starting container failed: unable to find user mallory",
        ),
        ("", {"groups": ["mallory"]}, State.FAILED, 128, "starting container failed: .*group mallory"),
        ("", {"image": "sha256:" + "0" * 64}, State.REJECTED, 0, "No such image: sha256:0{64}"),
        ("", {"image": "NOT/An Image"}, State.REJECTED, 0, "invalid reference format"),
        (
            "",
            {"capability_add": ["CAP_FLY"]},
            State.REJECTED,
            0,
            "invalid CapAdd: unknown capability: .CAP_FLY",
        ),
    ],
)
async def test_each_way_to_end_has_its_state_its_code_and_its_words(
    here: Node, script: str, spec: dict[str, object], state: "State.ValueType", code: int, error: str
) -> None:
    driven = await here.drive(here.task(script, **spec))
    status = await driven.until(state)
    assert status.container.exit_code == code
    assert re.match(error or "$", status.err), status.err
    assert "\n" not in status.err


async def test_a_killed_container_ends_with_137(here: Node, engine: Engine) -> None:
    driven = await here.run()
    with contextlib.closing(client(engine.url)) as asked:
        await in_thread(asked.kill, driven.status.container.container_id)
    status = await driven.until(State.FAILED)
    assert (status.container.exit_code, status.err) == (137, "task: non-zero exit (137)")


async def test_a_container_that_uses_too_much_memory_ends_with_137(here: Node) -> None:
    task = here.task("tail /dev/zero")
    task.spec.resources.limits.memory_bytes = 8 << 20
    task.spec.resources.swap_bytes.value = 0
    status = await (await here.drive(task)).until(State.FAILED)
    assert (status.container.exit_code, status.err) == (137, "task: non-zero exit (137)")


async def test_a_container_removed_behind_our_back_fails_the_task(here: Node, engine: Engine) -> None:
    driven = await here.drive(here.task("sleep 100000"))
    with contextlib.closing(client(engine.url)) as asked:
        await driven.until(State.RUNNING)
        await in_thread(asked.pause, driven.status.container.container_id)
        await in_thread(lambda: asked.remove_container(driven.status.container.container_id, force=True))
    status = await driven.until(State.FAILED)
    assert status.err in ("dockerexec: container destroyed", "task: non-zero exit (137)")


async def test_a_foreign_container_of_the_same_name_rejects_the_task(here: Node, engine: Engine) -> None:
    task = here.task()
    with contextlib.closing(client(engine.url)) as asked:
        labels = {"com.docker.swarm.service.name": "it"}
        foreign = asked.create_container_from_config(  # type: ignore[no-untyped-call]
            {"Image": "busybox:test", "Labels": labels}, f"it.1.{task.id}"
        )
        status = await (await here.drive(task)).until(State.REJECTED)
        assert "belongs to somebody else" in status.err
        assert asked.inspect_container(foreign["Id"])["State"]["Status"] == "created"


# Stopping


async def test_the_stop_signal_is_sent_and_the_containers_own_code_reported(here: Node) -> None:
    driven = await here.run("trap 'exit 3' USR1; sleep 100000 & wait", stop_signal="SIGUSR1")
    driven.order(State.SHUTDOWN)
    status = await driven.until(State.SHUTDOWN)
    assert (status.container.exit_code, status.message, status.err) == (3, "shutdown", "")
    assert status.container.pid == 0


async def test_a_container_that_ignores_the_signal_is_killed_after_its_grace_period(here: Node) -> None:
    driven = await here.run(STUBBORN, stop_grace_period=Duration(seconds=1, nanos=500_000_000))
    began = time.monotonic()
    await driven.controller.shutdown()
    # Not the ten seconds of a task that says nothing.
    assert 2 <= time.monotonic() - began < 8 * SCALE
    status = await driven.controller.container_status()
    assert status is not None
    assert status.exit_code == 137


async def test_a_long_stop_is_ended_by_a_kill(here: Node) -> None:
    driven = await here.run(STUBBORN, stop_grace_period=Duration(seconds=60))
    driven.order(State.SHUTDOWN)
    await asyncio.sleep(1.5)
    await driven.controller.terminate()
    assert (await driven.until(State.SHUTDOWN, 5)).container.exit_code == 137


async def test_what_was_never_started_or_is_gone_is_shut_down_and_removed_alike(here: Node) -> None:
    controller = await here.controller(here.task())
    for operation in (controller.shutdown, controller.terminate, controller.remove):
        await operation()
    await controller.prepare()
    await controller.shutdown()
    await controller.terminate()
    await controller.remove()
    assert await controller.container_status() is None


async def test_two_removals_at_once_both_succeed(here: Node) -> None:
    driven = await here.run(STUBBORN, stop_grace_period=Duration())
    other = await here.controller(driven.task)
    await driven.manager.close()
    await asyncio.gather(driven.controller.remove(), other.remove())
    assert await other.container_status() is None


# Health


def check(script: str, retries: int = 1) -> api.HealthConfig:
    every = Duration(nanos=500_000_000)
    return api.HealthConfig(test=["CMD-SHELL", script], interval=every, retries=retries)


async def begun(driven: Driven) -> int:
    """Wait until a task's container runs, though the task may not yet; return its process."""

    async def pid() -> int:
        status = await driven.controller.container_status()
        return 0 if status is None else status.pid

    async def runs() -> bool:
        return await pid() > 0

    await driven.until(State.STARTING)
    await eventually(runs)
    return await pid()


async def test_a_task_runs_only_when_its_container_is_healthy(here: Node, engine: Engine) -> None:
    driven = await here.drive(here.task(when_told("touch /ok"), healthcheck=check("test -e /ok", 99)))
    pid = await begun(driven)
    name = f"it.1.{driven.task.id}"
    assert (await look(engine, name))["State"]["Health"]["Status"] == "starting"
    assert driven.status.state == State.STARTING
    await tell(driven, pid)
    await driven.until(State.RUNNING)
    assert (await look(engine, name))["State"]["Health"]["Status"] == "healthy"


async def test_an_unhealthy_container_is_stopped_and_its_task_fails(here: Node, engine: Engine) -> None:
    script = f"touch /ok; {when_told('rm /ok')}"
    driven = await here.drive(here.task(script, healthcheck=check("test -e /ok")))
    await driven.until(State.RUNNING)
    await tell(driven)
    status = await driven.until(State.FAILED)
    assert (status.container.exit_code, status.err) == (7, "dockerexec: unhealthy container")
    assert (await look(engine, f"it.1.{driven.task.id}"))["State"]["Status"] == "exited"


async def test_a_container_that_never_gets_healthy_never_runs(here: Node) -> None:
    driven = await here.drive(here.task(OBEDIENT, healthcheck=check("false")))
    status = await driven.until(State.FAILED)
    assert status.err == "dockerexec: unhealthy container"
    assert State.RUNNING not in driven.states


# The daemon is started anew


async def again(first: Driven, anew: Node) -> Driven:
    """Take a task up where its stored status says."""
    return await anew.drive(first.manager.task, first.status)


async def test_a_new_daemon_takes_up_each_task_where_it_was(engine: Engine) -> None:
    async with node(engine.url) as old:
        running = await old.run()
        ended_well, ended_badly = await asyncio.gather(old.run("sleep 1.5"), old.run("sleep 1.5; exit 9"))
        prepared, started = old.task(OBEDIENT), old.task(OBEDIENT)
        for task in (prepared, started):
            await (await old.controller(task)).prepare()
        await (await old.controller(started)).start()
        ids = {t.id: (await look(engine, f"it.1.{t.id}"))["Id"] for t in (prepared, started, running.task)}
    await asyncio.sleep(1)
    async with node(engine.url, old.id) as new:
        resumed = [
            await new.drive(prepared, api.TaskStatus(state=State.PREPARING)),
            await new.drive(started, api.TaskStatus(state=State.STARTING)),
            await again(running, new),
        ]
        for driven in resumed:
            assert (await driven.until(State.RUNNING)).container.container_id == ids[driven.task.id]
        assert (await (await again(ended_well, new)).until(State.COMPLETE)).container.exit_code == 0
        assert (await (await again(ended_badly, new)).until(State.FAILED)).container.exit_code == 9
        gone = await new.drive(old.task(), api.TaskStatus(state=State.RUNNING))
        assert (await gone.until(State.FAILED)).err == "dockerexec: container destroyed"


async def test_a_new_daemon_goes_on_waiting_for_health(engine: Engine) -> None:
    async with node(engine.url) as old:
        script = when_told("touch /ok")
        first = await old.drive(old.task(script, healthcheck=check("test -e /ok", 99)))
        pid = await begun(first)
    async with node(engine.url, old.id) as new:
        second = await again(first, new)
        await asyncio.sleep(0.3)
        assert second.status.state == State.STARTING
        await tell(second, pid)
        await second.until(State.RUNNING)
        assert (await look(engine, f"it.1.{first.task.id}"))["State"]["Health"]["Status"] == "healthy"


async def test_containers_without_a_task_are_removed_and_others_left(engine: Engine) -> None:
    async with node(engine.url) as other, node(engine.url) as here:
        kept, orphan, running_orphan = here.task(), here.task(), here.task(OBEDIENT)
        foreign = other.task()
        for made, where in ((kept, here), (orphan, here), (running_orphan, here), (foreign, other)):
            await (await where.controller(made)).prepare()
        await (await here.controller(running_orphan)).start()
        await here.executor.sweep({kept.id})

        async def left() -> set[str]:
            with contextlib.closing(client(engine.url)) as asked:
                found = await in_thread(lambda: asked.containers(all=True))
            return {one["Labels"].get("com.docker.swarm.task.id", "") for one in found}

        async def swept() -> bool:
            return not {orphan.id, running_orphan.id} & await left()

        await eventually(swept)
        assert {kept.id, foreign.id} <= await left()


# Ports, mounts, limits


async def test_host_ports_are_bound_and_told_once(here: Node) -> None:
    fixed = free_port()
    task = here.task(OBEDIENT)
    for published in (fixed, 0):
        task.endpoint.ports.add(target_port=80, published_port=published, publish_mode=api.PortConfig.HOST)
    task.endpoint.ports.add(target_port=90, published_port=1234)
    first = await here.drive(task)
    told = (await first.until(State.RUNNING)).port_status.ports
    assert {port.target_port for port in told} == {80}
    assert len(told) == 2
    assert fixed in {port.published_port for port in told}
    clash = here.task(OBEDIENT)
    clash.endpoint.ports.add(target_port=80, published_port=fixed, publish_mode=api.PortConfig.HOST)
    status = await (await here.drive(clash)).until(State.FAILED)
    assert re.match(r"starting container failed: .*port is already allocated", status.err), status.err


async def test_mounts_are_made_as_specified(here: Node, engine: Engine, short_folder: Path) -> None:
    (short_folder / "given").write_text("given")
    volume = f"it-{here.id}"
    mounts = [
        api.Mount(type=api.Mount.BIND, source=str(short_folder), target="/bound", readonly=True),
        api.Mount(type=api.Mount.BIND, source=str(short_folder / "made" / "deep"), target="/made"),
        api.Mount(type=api.Mount.TMPFS, target="/scratch"),
        api.Mount(type=api.Mount.VOLUME, source=volume, target="/named"),
        api.Mount(type=api.Mount.VOLUME, target="/anonymous"),
    ]
    mounts[1].bind_options.createmountpoint = True
    mounts[2].tmpfs_options.size_bytes = 1 << 20
    mounts[2].tmpfs_options.mode = 0o1770
    mounts[3].volume_options.driver_config.name = "local"
    mounts[3].volume_options.labels["task"] = "{{.Task.ID}}"
    script = (
        "set -e; test $(cat /bound/given) = given; ! touch /bound/x 2>/dev/null; touch /made/here;"
        " test $(stat -c %a /scratch) = 1770; grep '/scratch tmpfs.*size=1024k' /proc/mounts;"
        " touch /named/kept /anonymous/lost"
    )
    driven = await here.drive(here.task(script, mounts=mounts))
    await driven.until(State.COMPLETE)
    assert (short_folder / "made" / "deep" / "here").exists()
    anonymous = next(
        mount["Name"]
        for mount in (await look(engine, f"it.1.{driven.task.id}"))["Mounts"]
        if mount["Destination"] == "/anonymous"
    )
    await driven.controller.remove()
    with contextlib.closing(client(engine.url)) as asked:
        assert asked.inspect_volume(volume)["Labels"] == {"task": driven.task.id}
        with pytest.raises(Exception, match="no such volume"):
            asked.inspect_volume(anonymous)
        asked.remove_volume(volume)


async def test_a_missing_bind_source_rejects_the_task(here: Node) -> None:
    mount = api.Mount(type=api.Mount.BIND, source="/nowhere/at/all", target="/x")
    status = await (await here.drive(here.task(mounts=[mount]))).until(State.REJECTED)
    assert "bind source path does not exist: /nowhere/at/all" in status.err


async def test_limits_hold_in_the_container(here: Node, engine: Engine) -> None:
    task = here.task(
        OBEDIENT, pidsLimit=20, ulimits=[api.ContainerSpec.Ulimit(name="nofile", soft=64, hard=64)]
    )
    task.spec.resources.limits.memory_bytes = 32 << 20
    task.spec.resources.limits.nano_cpus = 500_000_000
    driven = await here.drive(task)
    await driven.until(State.RUNNING)
    host = (await look(engine, f"it.1.{task.id}"))["HostConfig"]
    assert (host["Memory"], host["CpuPeriod"], host["CpuQuota"]) == (32 << 20, 100_000, 50_000)
    limits = await in_thread(Path(f"/proc/{driven.status.container.pid}/limits").read_text)
    assert re.search(r"Max open files +64 +64 ", limits)
    small = here.task()
    small.spec.resources.limits.memory_bytes = 4 << 20
    status = await (await here.drive(small)).until(State.REJECTED)
    assert "Minimum memory limit allowed is 6MB" in status.err
    forks = here.task("for n in 1 2 3 4 5 6; do sleep 1 & done 2>/dev/null || exit 5", pidsLimit=3)
    assert (await (await here.drive(forks)).until(State.FAILED)).container.exit_code != 0
