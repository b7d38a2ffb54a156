"""The whole agent under seeded chaos: failing operations, lost sessions, gaps, crashes of the agent.

A small manager keeps what it was told, as a real one does, and checks on the way that no task's state ever
goes back. In the end every task must stand where it was ordered to.
"""

import asyncio
import random
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from swarmkit.agent.agent import Agent, AgentConfig
from swarmkit.agent.exec import Controller, DependencyStore, TemporaryError
from swarmkit.agent.manager import ManagerError
from swarmkit.aio import cancel_and_wait
from swarmkit.api import messages as api
from swarmkit.executors.simulated import SimulatedExecutor
from swarmkit.executors.simulated.executor import SimulatedController
from tests.fakes.agent_executor import until
from tests.fakes.agent_manager import FakeBroker, FakeConnection, FakeManager, connect, incremental, make_task
from tests.fakes.loop import VirtualClock

State = api.TaskState


class Swarm:
    """The managers' store, as far as one node's tasks go."""

    def __init__(self, source: random.Random) -> None:
        self.source = source
        self.tasks: dict[str, api.Task] = {}
        self.sessions = 0

    def record(self, task_id: str, status: api.TaskStatus) -> None:
        """Take a status as dispatchers do: unknown tasks and lower states are passed over."""
        task = self.tasks.get(task_id)
        if task is not None and status.state >= task.status.state:
            task.status.CopyFrom(status)

    def settled(self) -> bool:
        """Whether every task stands where it was ordered to."""
        return all(
            task.status.state == State.RUNNING
            if task.desired_state == State.RUNNING
            else task.status.state >= State.COMPLETE
            for task in self.tasks.values()
        )


class ChaoticManager(FakeManager):
    """Loses calls, breaks streams and skips messages as long as ``calm`` is not set."""

    calm = False
    skipping = True

    def __init__(self, swarm: Swarm) -> None:
        swarm.sessions += 1
        super().__init__(f"session-{swarm.sessions}")
        self.swarm = swarm
        self.seen: dict[str, api.TaskState.ValueType] = {}

    def misfortune(self, chance: float) -> bool:
        return not ChaoticManager.calm and self.swarm.source.random() < chance

    async def update_task_status(self, request: api.UpdateTaskStatusRequest) -> None:
        await asyncio.sleep(0.05 * self.swarm.source.random())
        if self.misfortune(0.2):
            raise ManagerError("UNAVAILABLE", "lost on the way")
        for update in request.updates:
            assert update.status.state >= self.seen.get(update.task_id, State.NEW), "a state went back"
            self.seen[update.task_id] = update.status.state
            self.swarm.record(update.task_id, update.status)
        if self.misfortune(0.2):
            raise ManagerError("UNAVAILABLE", "lost on the way back")

    async def assignments(
        self, request: api.AssignmentsRequest
    ) -> AsyncGenerator[api.AssignmentsMessage, None]:
        """Send the set, then what changed, now and then skipping a message."""
        sent = {
            task_id: api.Task.FromString(t.SerializeToString()) for task_id, t in self.swarm.tasks.items()
        }
        message = incremental(*sent.values(), results_in="1")
        message.type = api.AssignmentsMessage.COMPLETE
        yield message
        counter = 1
        while True:
            await asyncio.sleep(0.1)
            if self.misfortune(0.02):
                raise ManagerError("ABORTED", "dispatcher is stopped")
            changed = [
                task
                for task_id, task in self.swarm.tasks.items()
                if task_id not in sent or sent[task_id].desired_state != task.desired_state
            ]
            gone = [task_id for task_id in sent if task_id not in self.swarm.tasks]
            if not changed and not gone:
                continue
            counter += 1
            skipped = ChaoticManager.skipping and self.swarm.source.random() < 0.2
            message = incremental(
                *changed,
                remove=[api.Assignment(task=api.Task(id=task_id)) for task_id in gone],
                applies_to=str(counter - 1),
                results_in=str(counter),
            )
            for task in changed:
                sent[task.id] = api.Task.FromString(task.SerializeToString())
            for task_id in gone:
                del sent[task_id]
            if not skipped:
                yield message


class FlakyController(SimulatedController):
    """A simulated controller whose engine is now and then not there."""

    source: random.Random

    async def _flicker(self) -> None:
        await asyncio.sleep(0.2 * self.source.random())
        if not ChaoticManager.calm and self.source.random() < 0.2:
            raise TemporaryError("engine unreachable")

    async def prepare(self) -> None:
        await self._flicker()
        await super().prepare()

    async def start(self) -> None:
        await self._flicker()
        await super().start()

    async def shutdown(self) -> None:
        await self._flicker()
        await super().shutdown()


class FlakyExecutor(SimulatedExecutor):
    """Gives out flaky controllers."""

    async def controller(self, task: api.Task, dependencies: DependencyStore) -> Controller:
        made = FlakyController(
            task.id, self._policy.behaviour(task, self.source), self.workloads, self._clock
        )
        made.source = self.source
        return made

    source: random.Random


class Broker(FakeBroker):
    """A new chaotic manager for every session; sometimes none."""

    def __init__(self, swarm: Swarm) -> None:
        super().__init__()
        self._swarm = swarm

    async def select(self) -> FakeConnection:
        if not ChaoticManager.calm and self._swarm.source.random() < 0.2:
            raise RuntimeError("no remote hosts provided")
        self._managers = [ChaoticManager(self._swarm)]
        return await super().select()


async def orders(swarm: Swarm, name: str) -> None:
    """Create, stop and delete tasks for a while."""
    source = swarm.source
    for number in range(50):
        await asyncio.sleep(source.random())
        task = make_task(f"{name}-{number:03d}")
        swarm.tasks[task.id] = task
        running = [t for t in swarm.tasks.values() if t.desired_state == State.RUNNING]
        if running and source.random() < 0.3:
            source.choice(running).desired_state = State.SHUTDOWN
        if swarm.tasks and source.random() < 0.2:
            del swarm.tasks[source.choice(sorted(swarm.tasks))]


@pytest.mark.parametrize("seed", range(4))
async def test_every_order_is_carried_out_whatever_fails(
    seed: int, clock: VirtualClock, tmp_path: Path
) -> None:
    ChaoticManager.calm, ChaoticManager.skipping = False, True
    swarm = Swarm(random.Random(seed))
    executor = FlakyExecutor("sim", clock, seed)
    executor.source = swarm.source

    def start() -> "asyncio.Task[None]":
        agent = Agent(
            AgentConfig(database=tmp_path / "worker" / "tasks.db"),
            executor,
            Broker(swarm),
            lambda: None,
            lambda change: None,
            clock,
            random.Random(seed),
            connect,
        )
        return asyncio.ensure_future(agent.run())

    ordering = asyncio.ensure_future(orders(swarm, "storm"))
    running = start()
    for _ in range(6):
        await asyncio.sleep(10 * swarm.source.random())
        await crash(running, tmp_path)
        running = start()
    await ordering
    ChaoticManager.calm = True  # from here on one session, in which messages are still skipped
    try:
        await orders(swarm, "calm")
        ChaoticManager.skipping = False
        swarm.tasks["last"] = make_task("last")
        await until(swarm.settled, 120)
        wanted = {t.id for t in swarm.tasks.values() if t.desired_state == State.RUNNING}
        await until(lambda: live_workloads(executor) == wanted, 60)
    finally:
        await cancel_and_wait(running)


async def crash(running: "asyncio.Task[None]", directory: Path) -> None:
    """Let the agent die where it stands: the workloads live on, the disk has what it had at this moment."""
    image = {file: file.read_bytes() for file in (directory / "worker").iterdir()}
    await cancel_and_wait(running)
    for file in (directory / "worker").iterdir():
        file.unlink()
    for file, content in image.items():
        file.write_bytes(content)


def live_workloads(executor: SimulatedExecutor) -> set[str]:
    return {task_id for task_id, w in executor.workloads.items() if w.started and w.exit_code is None}
