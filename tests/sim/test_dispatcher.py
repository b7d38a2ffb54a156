"""A dispatcher and many nodes in bad weather: cut connections, lost calls, changes of leadership.

Whatever happened, once it is calm every node is READY, holds exactly what the store assigns to it, and the
store knows the last state each node reached.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Sequence

import pytest

from swarmkit.api import messages as api
from swarmkit.net.caller import WORKER_ROLE, Caller, as_caller
from swarmkit.net.errors import RpcError
from swarmkit.store import Tx
from tests.fakes.loop import VirtualClock
from tests.unit.manager.dispatcher.bench import Bench, cluster, node, status, task
from tests.unit.manager.dispatcher.received import Received

SECRETS = [f"secret-{number}" for number in range(5)]
RUNNING = api.TaskState.RUNNING
SHUTDOWN = api.TaskState.SHUTDOWN


class _CutError(Exception):
    """The connection is gone."""


class Weather:
    """Decides what goes wrong; nothing does once it is calm."""

    def __init__(self, rng: random.Random, mean_connection_seconds: float) -> None:
        self.rng = rng
        self.mean = mean_connection_seconds
        self.calm = asyncio.Event()

    async def cut(self) -> None:
        """Break a connection after a random time, never once it is calm."""
        left = self.rng.expovariate(1 / self.mean)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.calm.wait(), left)
        if self.calm.is_set():
            await asyncio.get_running_loop().create_future()
        raise _CutError

    def loses(self) -> bool:
        return not self.calm.is_set() and self.rng.random() < 0.02


class Agent:
    """A node: it keeps a session, applies assignments, moves its tasks on and reports them."""

    def __init__(self, bench: Bench, node_id: str, weather: Weather) -> None:
        self.bench = bench
        self.node_id = node_id
        self.weather = weather
        self.caller = Caller(node_id, frozenset({WORKER_ROLE}), "swarm", "10.9.8.7:1")
        self.session_id = ""
        self.received = Received()
        self.statuses: dict[str, api.TaskStatus] = {}
        self.sessions = 0

    async def run(self) -> None:
        with as_caller(self.caller):
            while True:
                try:
                    async with asyncio.TaskGroup() as group:
                        group.create_task(self.weather.cut())
                        group.create_task(self._session())
                except* (_CutError, RpcError):
                    pass
                await asyncio.sleep(self.weather.rng.uniform(0, 5))

    async def _session(self) -> None:
        request = api.SessionRequest(session_id=self.session_id)
        async with contextlib.aclosing(self.bench.service.Session(request, None)) as messages:
            first = await anext(messages)
            assert first.node.status.state == api.NodeStatus.READY
            self.session_id = first.session_id
            self.sessions += 1
            async with asyncio.TaskGroup() as group:
                group.create_task(self._beat())
                group.create_task(self._work())
                async for message in messages:
                    assert message.managers

    async def _beat(self) -> None:
        while True:
            self._transmit()
            request = api.HeartbeatRequest(session_id=self.session_id)
            reply = await self.bench.service.Heartbeat(request, None)
            self._transmit()
            await asyncio.sleep(reply.period.ToNanoseconds() / 1e9)

    async def _work(self) -> None:
        await self._report(list(self.statuses))
        request = api.AssignmentsRequest(session_id=self.session_id)
        async with contextlib.aclosing(self.bench.service.Assignments(request, None)) as messages:
            async for message in messages:
                self.received.apply(message)
                await self._advance()

    async def _advance(self) -> None:
        """Take every task one way further and report those that moved."""
        moved = []
        for task_id in self.statuses.keys() - self.received.tasks.keys():
            del self.statuses[task_id]
        for task_id, assigned in self.received.tasks.items():
            state = self.statuses[task_id].state if task_id in self.statuses else assigned.status.state
            if state > RUNNING:
                continue
            wanted = SHUTDOWN if assigned.desired_state > RUNNING else RUNNING
            if state < wanted:
                failed = self.weather.rng.random() < 0.1
                self.statuses[task_id] = status(api.TaskState.FAILED if failed else wanted)
                moved.append(task_id)
        await self._report(moved)

    async def _report(self, task_ids: Sequence[str]) -> None:
        if not task_ids:
            return
        self._transmit()
        request = api.UpdateTaskStatusRequest(session_id=self.session_id)
        for task_id in task_ids:
            request.updates.add(task_id=task_id, status=self.statuses[task_id])
        await self.bench.service.UpdateTaskStatus(request, None)
        self._transmit()

    def _transmit(self) -> None:
        if self.weather.loses():
            raise _CutError

    def check(self) -> None:
        reader = self.bench.store.view()
        assert self.bench.node(self.node_id).status.state == api.NodeStatus.READY
        self.received.check(reader, self.node_id)
        for task_id, reported in self.statuses.items():
            assert self.bench.task(task_id).status.state == reported.state


async def workload(bench: Bench, nodes: Sequence[str], rng: random.Random, steps: int) -> None:
    """Assign, stop and delete tasks all over the swarm, a batch every half second."""
    for _ in range(steps):
        created = []
        for _ in range(max(len(nodes) // 10, 3)):
            made = task(f"{rng.getrandbits(64):016x}", node_id=rng.choice(nodes), state=api.TaskState.PENDING)
            for secret_id in rng.sample(SECRETS, rng.randint(0, 2)):
                made.spec.container.secrets.add(secret_id=secret_id)
            created.append(made)

        def write(tx: Tx, created: list[api.Task] = created) -> None:
            for made in created:
                copy = api.Task()
                copy.CopyFrom(tx.create(made))
                copy.status.state = api.TaskState.ASSIGNED
                tx.update(copy)
            tasks = tx.find(api.Task)
            for stored in rng.sample(tasks, len(tasks) // 20):
                if stored.desired_state <= RUNNING:
                    copy = api.Task()
                    copy.CopyFrom(stored)
                    copy.desired_state = SHUTDOWN
                    tx.update(copy)
                elif stored.status.state > RUNNING:
                    tx.delete(api.Task, stored.id)

        await bench.store.update(write)
        await asyncio.sleep(0.5)


@contextlib.asynccontextmanager
async def swarm(
    clock: VirtualClock, count: int, weather: Weather
) -> AsyncIterator[tuple[Bench, list[Agent]]]:
    """Run ``count`` agents against one dispatcher."""
    bench = Bench(clock)
    await bench.create(cluster())
    for secret_id in SECRETS:
        secret = api.Secret(id=secret_id)
        secret.spec.annotations.name = secret_id
        await bench.create(secret)
    await bench.create(*(node(f"node-{number:04}") for number in range(count)))
    await bench.start()
    agents = [Agent(bench, f"node-{number:04}", weather) for number in range(count)]
    running = [asyncio.get_running_loop().create_task(agent.run()) for agent in agents]
    try:
        yield bench, agents
    finally:
        for each in running:
            each.cancel()
        outcomes = await asyncio.gather(*running, return_exceptions=True)
        await bench.close()
        assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
async def test_nodes_hold_what_the_store_says_after_cuts_losses_and_changes_of_leadership(
    clock: VirtualClock, seed: int
) -> None:
    rng = random.Random(seed)
    weather = Weather(rng, mean_connection_seconds=15)
    async with swarm(clock, 60, weather) as (bench, agents):
        names = [agent.node_id for agent in agents]
        for _ in range(3):
            await workload(bench, names, rng, steps=40)
            await bench.stop()
            await asyncio.sleep(rng.uniform(0, 3))
            await bench.start()
        weather.calm.set()
        await asyncio.sleep(60)
        for agent in agents:
            agent.check()
        assert sum(agent.sessions for agent in agents) > 4 * len(agents)
        assert sum(len(agent.received.tasks) for agent in agents) > 100


@pytest.mark.slow
async def test_two_thousand_nodes_in_bad_weather(clock: VirtualClock) -> None:
    rng = random.Random(99)
    weather = Weather(rng, mean_connection_seconds=60)
    async with swarm(clock, 2000, weather) as (bench, agents):
        await workload(bench, [agent.node_id for agent in agents], rng, steps=12)
        weather.calm.set()
        await asyncio.sleep(20)
        for agent in agents:
            agent.check()
        assert sum(len(agent.received.tasks) for agent in agents) > 1000
        # All watchers belong to open streams: one each, and the dispatcher's own.
        assert len(bench.store._hub) == len(agents) + 1
