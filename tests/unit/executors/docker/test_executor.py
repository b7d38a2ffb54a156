import asyncio
from typing import Any, cast

import pytest

from swarmkit.agent.exec import Executor, Sweeper, TemporaryError
from swarmkit.api import messages as api
from swarmkit.api.template import TemplateError
from swarmkit.executors.docker.container import UnsupportedTaskError
from swarmkit.executors.docker.controller import DockerController
from swarmkit.executors.docker.errors import Kind
from swarmkit.executors.docker.executor import DockerExecutor
from tests.fakes.engine import FakeEngine
from tests.fakes.loop import VirtualClock

NO_DEPENDENCIES = cast(Any, None)


@pytest.fixture
async def executor(engine: FakeEngine, clock: VirtualClock) -> DockerExecutor:
    made = DockerExecutor("unix:///nowhere", clock)
    made._engine = cast(Any, engine)
    await made.configure(api.Node(id="n1"))
    return made


def task(**spec: Any) -> api.Task:
    made = api.Task(id="t1", slot=1, node_id="n1")
    made.service_annotations.name = "web"
    made.spec.container.CopyFrom(api.ContainerSpec(**{"image": "busybox", **spec}))
    return made


def put(engine: FakeEngine, name: str, task_id: str, node_id: str = "n1") -> None:
    labels = {"com.docker.swarm.task.id": task_id, "com.docker.swarm.node.id": node_id}
    engine.containers[name] = {
        "Id": name,
        "Config": {"Labels": labels},
        "State": {"Status": "running", "Pid": 1, "ExitCode": 0},
    }


async def test_it_is_an_executor_that_sweeps(executor: DockerExecutor) -> None:
    seam: Executor = executor
    assert isinstance(seam, Sweeper)


async def test_the_engine_describes_the_node(executor: DockerExecutor) -> None:
    described = await executor.describe()
    assert (described.hostname, described.platform.os) == ("host", "linux")
    assert described.resources.nano_cpus == 2_000_000_000
    assert [plugin.name for plugin in described.engine.plugins] == ["overlay"]


async def test_a_plugin_list_that_fails_is_left_out(engine: FakeEngine, executor: DockerExecutor) -> None:
    engine.fail("plugins", Kind.FATAL, "plugins are not for you")
    assert (await executor.describe()).hostname == "host"


async def test_an_engine_that_is_away_is_a_temporary_matter_and_works_again_afterwards(
    engine: FakeEngine, executor: DockerExecutor
) -> None:
    engine.away = True
    with pytest.raises(TemporaryError, match=r"^the Docker engine at unix:///fake.sock cannot be reached: "):
        await executor.describe()
    engine.away = False
    assert (await executor.describe()).hostname == "host"


async def test_templates_see_the_node_as_last_described(executor: DockerExecutor) -> None:
    wanted = task(hostname="{{.Node.Hostname}}-{{.Task.Slot}}")
    before = await executor.controller(wanted, NO_DEPENDENCIES)
    await executor.describe()
    after = await executor.controller(wanted, NO_DEPENDENCIES)
    assert isinstance(before, DockerController)
    assert isinstance(after, DockerController)
    assert (before._spec.hostname, after._spec.hostname) == ("-1", "host-1")
    assert wanted.spec.container.hostname == "{{.Node.Hostname}}-{{.Task.Slot}}"


async def test_a_template_that_cannot_be_expanded_rejects_the_task(executor: DockerExecutor) -> None:
    with pytest.raises(TemplateError, match="expanding env failed"):
        await executor.controller(task(env=["A={{.Nothing}}"]), NO_DEPENDENCIES)


def with_network() -> api.Task:
    made = task()
    made.networks.add().addresses.append("10.0.1.4/24")
    return made


@pytest.mark.parametrize(
    ("refused", "text"),
    [
        (api.Task(id="t1"), "exec: unsupported runtime"),
        (task(image=""), "dockerexec: image required"),
        (task(secrets=[api.SecretReference(secret_id="s")]), "cannot give secrets or configs"),
        (task(configs=[api.ConfigReference(config_id="c")]), "cannot give secrets or configs"),
        (with_network(), "cannot attach containers to swarm networks"),
        (
            task(privileges=api.Privileges(credential_spec=api.Privileges.CredentialSpec(config="c"))),
            "credential spec from a config",
        ),
        (task(isolation=cast(Any, 99)), "does not know isolation 99"),
    ],
)
async def test_what_cannot_be_run_as_promised_is_refused_in_one_sentence(
    executor: DockerExecutor, refused: api.Task, text: str
) -> None:
    with pytest.raises(UnsupportedTaskError, match=text):
        await executor.controller(refused, NO_DEPENDENCIES)


async def test_a_sweep_stops_and_removes_what_no_task_accounts_for(
    engine: FakeEngine, executor: DockerExecutor
) -> None:
    put(engine, "kept", "t1")
    put(engine, "orphan", "t2")
    put(engine, "of another node", "t3", node_id="n2")
    await executor.sweep({"t1"})
    await asyncio.sleep(1)
    assert sorted(engine.containers) == ["kept", "of another node"]
    assert engine.calls == [
        ("containers_labelled", "com.docker.swarm.node.id=n1"),
        ("stop", "orphan", "10"),
        ("remove", "orphan"),
    ]


async def test_an_orphan_that_is_slow_to_stop_keeps_nobody_waiting(
    engine: FakeEngine, executor: DockerExecutor
) -> None:
    gate = engine.hold("stop")
    put(engine, "slow", "t1")
    put(engine, "slow too", "t2")
    async with asyncio.timeout(1):
        await executor.sweep(())
    await asyncio.sleep(1)
    assert engine.count("stop") == 2
    gate.set()
    await asyncio.sleep(1)
    assert engine.containers == {}


async def test_a_sweep_before_the_node_is_known_touches_nothing(
    engine: FakeEngine, clock: VirtualClock
) -> None:
    executor = DockerExecutor("unix:///nowhere", clock)
    executor._engine = cast(Any, engine)
    put(engine, "orphan", "t2", node_id="")
    await executor.sweep(())
    assert engine.calls == []


async def test_a_sweep_without_an_engine_is_to_be_tried_again(
    engine: FakeEngine, executor: DockerExecutor
) -> None:
    engine.away = True
    with pytest.raises(TemporaryError):
        await executor.sweep(())


async def test_an_orphan_that_cannot_be_removed_is_logged_and_the_others_go(
    engine: FakeEngine, executor: DockerExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    put(engine, "a", "t1")
    put(engine, "b", "t2")
    engine.fail("remove", Kind.FATAL, "device or resource busy")
    await executor.sweep(())
    await asyncio.sleep(1)
    assert len(engine.containers) == 1
    assert "cannot remove a container without a task" in caplog.text
