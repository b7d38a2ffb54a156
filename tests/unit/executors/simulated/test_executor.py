"""Simulated workloads: times and failures as scripted, on virtual time."""

import asyncio
import random

import pytest

from swarmkit.agent.dependencies import Dependencies
from swarmkit.agent.exec import AlreadyDoneError, Controller, ExecutorError, TaskExitError
from swarmkit.api import messages as api
from swarmkit.executors.simulated import Behaviour, EnvironmentPolicy, SimulatedExecutor
from tests.fakes.agent_manager import make_task
from tests.fakes.loop import VirtualClock


@pytest.fixture
def executor(clock: VirtualClock) -> SimulatedExecutor:
    return SimulatedExecutor("sim-1", clock, seed=3)


async def controller(executor: SimulatedExecutor, *env: str, task_id: str = "t") -> Controller:
    task = make_task(task_id)
    task.spec.container.env.extend(env)
    return await executor.controller(task, Dependencies().restricted_to(task))


async def test_operations_take_the_times_the_environment_names(
    executor: SimulatedExecutor, clock: VirtualClock
) -> None:
    made = await controller(executor, "SIM_PREPARE=1.5", "SIM_START=2", "SIM_RUN=10", "OTHER=x")
    await made.prepare()
    assert clock.monotonic() == pytest.approx(1.5)
    await made.start()
    assert clock.monotonic() == pytest.approx(3.5)
    await made.wait()
    assert clock.monotonic() == pytest.approx(13.5)


async def test_by_default_nothing_takes_time_and_the_workload_runs_for_ever(
    executor: SimulatedExecutor, clock: VirtualClock
) -> None:
    made = await controller(executor)
    await made.prepare()
    await made.start()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(made.wait(), 1e6)


async def test_an_exit_code_is_an_error(executor: SimulatedExecutor) -> None:
    made = await controller(executor, "SIM_RUN=1", "SIM_EXIT_CODE=9")
    await made.prepare()
    await made.start()
    with pytest.raises(TaskExitError, match="9") as caught:
        await made.wait()
    assert caught.value.exit_code == 9


async def test_an_exit_while_nobody_waited_is_found(executor: SimulatedExecutor, clock: VirtualClock) -> None:
    made = await controller(executor, "SIM_RUN=5")
    await made.prepare()
    await made.start()
    await asyncio.sleep(50)
    await made.wait()
    assert clock.monotonic() == pytest.approx(50)


async def test_shutdown_takes_its_time_and_ends_a_wait(
    executor: SimulatedExecutor, clock: VirtualClock
) -> None:
    made = await controller(executor, "SIM_STOP=3")
    await made.shutdown()
    await made.prepare()
    await made.start()
    wait = asyncio.ensure_future(made.wait())
    await made.shutdown()
    assert clock.monotonic() == pytest.approx(3)
    with pytest.raises(TaskExitError):
        await wait
    status = await made.container_status()
    assert status is not None
    assert (status.container_id, status.pid, status.exit_code) == ("simulated-t", 0, 143)


async def test_failures_follow_the_probabilities_and_the_seed(clock: VirtualClock) -> None:
    async def outcomes(seed: int) -> list[bool]:
        executor = SimulatedExecutor("sim", clock, seed)
        results = []
        for number in range(200):
            made = await controller(executor, "SIM_FAIL_PREPARE=0.3", task_id=f"task-{number}")
            try:
                await made.prepare()
                results.append(True)
            except ExecutorError:
                results.append(False)
        return results

    first = await outcomes(1)
    assert 30 < first.count(False) < 90
    assert await outcomes(1) == first
    assert await outcomes(2) != first


async def test_a_failing_start_is_an_error(executor: SimulatedExecutor) -> None:
    made = await controller(executor, "SIM_FAIL_START=1")
    await made.prepare()
    with pytest.raises(ExecutorError, match="simulated failure to start"):
        await made.start()


async def test_a_range_of_seconds_is_drawn_from() -> None:
    task = make_task("t")
    task.spec.container.env.append("SIM_PREPARE=2-4")
    drawn = [EnvironmentPolicy().behaviour(task, random.Random(n)).prepare for n in range(50)]
    assert min(drawn) >= 2
    assert max(drawn) <= 4
    assert len(set(drawn)) > 40


@pytest.mark.parametrize("entry", ["SIM_RUN=soon", "SIM_PREPARE=-1", "SIM_START=nan", "SIM_STOP=1-x"])
async def test_a_senseless_behaviour_is_refused(executor: SimulatedExecutor, entry: str) -> None:
    with pytest.raises(ExecutorError, match=entry.partition("=")[0]):
        await controller(executor, entry)


async def test_other_runtimes_are_refused(executor: SimulatedExecutor) -> None:
    task = make_task("t")
    task.spec.attachment.container_id = "c"
    with pytest.raises(ExecutorError, match="exec: unsupported runtime"):
        await executor.controller(task, Dependencies().restricted_to(task))


async def test_workloads_outlive_their_controllers(executor: SimulatedExecutor) -> None:
    made = await controller(executor)
    await made.prepare()
    await made.start()
    again = await controller(executor)
    with pytest.raises(AlreadyDoneError):
        await again.prepare()
    with pytest.raises(AlreadyDoneError):
        await again.start()


async def test_remove_forgets_the_workload_and_a_wait_on_nothing_fails(executor: SimulatedExecutor) -> None:
    made = await controller(executor)
    await made.prepare()
    await made.start()
    await made.remove()
    await made.remove()
    assert executor.workloads == {}
    assert await made.container_status() is None
    with pytest.raises(ExecutorError, match="there is no simulated workload"):
        await made.wait()


async def test_a_sweep_forgets_what_no_task_accounts_for(executor: SimulatedExecutor) -> None:
    for task_id in ("kept", "orphan"):
        await (await controller(executor, task_id=task_id)).prepare()
    await executor.sweep({"kept"})
    assert set(executor.workloads) == {"kept"}


async def test_a_policy_of_ones_own_chooses(clock: VirtualClock) -> None:
    class Slow:
        def behaviour(self, task: api.Task, source: random.Random) -> Behaviour:
            return Behaviour(prepare=7)

    made = await controller(SimulatedExecutor("sim", clock, policy=Slow()))
    await made.prepare()
    assert clock.monotonic() == pytest.approx(7)


async def test_the_node_is_described_as_told(clock: VirtualClock) -> None:
    resources = api.Resources(nano_cpus=10**9, memory_bytes=1 << 30)
    described = await SimulatedExecutor("sim-7", clock, resources=resources).describe()
    assert (described.hostname, described.resources) == ("sim-7", resources)
