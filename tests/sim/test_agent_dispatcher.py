"""Agents against the real dispatcher, on virtual time: many nodes, leaders that come and go."""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import TypeVar

import grpc.aio
import pytest

from swarmkit.agent.agent import Agent, AgentConfig
from swarmkit.agent.manager import Connection, ManagerError
from swarmkit.aio import cancel_and_wait
from swarmkit.api import messages as api
from swarmkit.executors.simulated import SimulatedExecutor
from swarmkit.net.caller import WORKER_ROLE, Caller, as_caller
from swarmkit.net.errors import RpcError
from tests.fakes.agent_executor import until
from tests.fakes.loop import VirtualClock
from tests.unit.manager.dispatcher.bench import Bench, Stream, cluster, node, task

State = api.TaskState
M = TypeVar("M")


class Wire:
    """A node's connection to the dispatcher: calls its service as the node, without a network."""

    address = "leader"

    def __init__(self, bench: Bench, node_id: str) -> None:
        self._service = bench.service
        self._caller = Caller(node_id, frozenset({WORKER_ROLE}), "swarm", "10.0.0.7:4789")

    @property
    def channel(self) -> grpc.aio.Channel:
        raise AssertionError("there is no channel")

    async def close(self, success: bool) -> None:
        await asyncio.sleep(0)

    def session(self, request: api.SessionRequest) -> AsyncGenerator[api.SessionMessage, None]:
        return self._stream(self._service.Session(request, None))

    async def heartbeat(self, request: api.HeartbeatRequest) -> api.HeartbeatResponse:
        try:
            with as_caller(self._caller):
                return await self._service.Heartbeat(request, None)
        except RpcError as error:
            raise ManagerError(error.code.name, error.text) from error

    def assignments(self, request: api.AssignmentsRequest) -> AsyncGenerator[api.AssignmentsMessage, None]:
        return self._stream(self._service.Assignments(request, None))

    def tasks(self, request: api.TasksRequest) -> AsyncGenerator[api.TasksMessage, None]:
        return self._stream(self._service.Tasks(request, None))

    async def update_task_status(self, request: api.UpdateTaskStatusRequest) -> None:
        try:
            with as_caller(self._caller):
                await self._service.UpdateTaskStatus(request, None)
        except RpcError as error:
            raise ManagerError(error.code.name, error.text) from error

    async def subscriptions(self) -> AsyncGenerator[api.SubscriptionMessage, None]:
        nothing: list[api.SubscriptionMessage] = []
        for message in nothing:
            yield message
        await asyncio.Event().wait()

    async def publish_logs(self, messages: Sequence[api.PublishLogsMessage]) -> None:
        raise AssertionError("nobody subscribes here")

    async def _stream(self, messages: AsyncIterator[M]) -> AsyncGenerator[M, None]:
        stream = Stream(messages, self._caller)
        try:
            while True:
                yield await stream.next()
        except RpcError as error:
            raise ManagerError(error.code.name, error.text) from error
        except EOFError:
            return
        finally:
            await stream.cancel()


class Broker:
    """Always the one leader."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.listed: list[api.WeightedPeer] = []

    async def select(self) -> Wire:
        return self._wire

    def managers(self, listed: Sequence[api.WeightedPeer]) -> None:
        self.listed = list(listed)


def connect(connection: Connection) -> Wire:
    assert isinstance(connection, Wire)
    return connection


class Swarm:
    """One dispatcher and many agents."""

    def __init__(self, clock: VirtualClock, nodes: int, tasks: int) -> None:
        self.clock = clock
        self.bench = Bench(clock)
        self.nodes = [f"node-{number:03d}" for number in range(nodes)]
        self.tasks_per_node = tasks
        self.executors = {name: SimulatedExecutor(name, clock, seed=1) for name in self.nodes}
        self.brokers = {name: Broker(Wire(self.bench, name)) for name in self.nodes}
        self.running: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        await self.bench.create(cluster(), *(node(name) for name in self.nodes))
        for name in self.nodes:
            made = [task(f"{name}-{number}", name) for number in range(self.tasks_per_node)]
            for each in made:
                each.spec.container.env.extend(["SIM_PREPARE=0-2", "SIM_START=0-1", "SIM_STOP=0-1"])
            await self.bench.create(*made)
        await self.bench.start()
        for name in self.nodes:
            self.start_agent(name)

    def start_agent(self, name: str) -> None:
        agent = Agent(
            AgentConfig(database=None, hostname=name),
            self.executors[name],
            self.brokers[name],
            lambda: None,
            lambda change: None,
            self.clock,
            random.Random(name),
            connect,
        )
        self.running[name] = asyncio.ensure_future(agent.run())

    async def close(self) -> None:
        for each in self.running.values():
            await cancel_and_wait(each)
        await self.bench.close()

    def states(self) -> set[api.TaskState.ValueType]:
        return {each.status.state for each in self.bench.store.view().find(api.Task)}

    def node_states(self) -> set[api.NodeStatus.State.ValueType]:
        return {each.status.state for each in self.bench.store.view().find(api.Node)}


@pytest.fixture
async def swarm(clock: VirtualClock) -> AsyncIterator[Swarm]:
    made = Swarm(clock, nodes=20, tasks=5)
    await made.start()
    yield made
    await made.close()


async def test_every_task_of_every_node_runs_and_stops_as_ordered(swarm: Swarm) -> None:
    await until(lambda: swarm.states() == {State.RUNNING}, 30)
    assert swarm.node_states() == {api.NodeStatus.READY}
    stored = swarm.bench.node("node-007")
    assert stored.description.hostname == "node-007"
    assert [peer.peer.node_id for peer in swarm.brokers["node-007"].listed] == ["leader"]
    for each in swarm.bench.store.view().find(api.Task):
        await swarm.bench.change(api.Task, each.id, lambda t: setattr(t, "desired_state", State.SHUTDOWN))
    await until(lambda: swarm.states() == {State.SHUTDOWN}, 30)


async def test_a_change_of_leader_loses_no_node_and_no_task(swarm: Swarm) -> None:
    await until(lambda: swarm.states() == {State.RUNNING}, 30)
    containers = {name: set(executor.workloads) for name, executor in swarm.executors.items()}
    await swarm.bench.stop()
    for each in swarm.bench.store.view().find(api.Task)[::2]:
        await swarm.bench.change(api.Task, each.id, lambda t: setattr(t, "desired_state", State.SHUTDOWN))
    await asyncio.sleep(15)
    await swarm.bench.start()
    assert swarm.node_states() == {api.NodeStatus.UNKNOWN}
    await until(lambda: swarm.node_states() == {api.NodeStatus.READY}, 25)
    await until(lambda: swarm.states() == {State.RUNNING, State.SHUTDOWN}, 30)
    await asyncio.sleep(60)
    assert swarm.node_states() == {api.NodeStatus.READY}
    assert {name: set(executor.workloads) for name, executor in swarm.executors.items()} == containers


async def test_a_deleted_task_is_removed_from_its_node(swarm: Swarm) -> None:
    await until(lambda: swarm.states() == {State.RUNNING}, 30)
    await swarm.bench.delete(api.Task, "node-003-2")
    await until(lambda: "node-003-2" not in swarm.executors["node-003"].workloads, 30)
    assert len(swarm.executors["node-003"].workloads) == 4


async def test_an_agent_that_lost_its_memory_takes_its_workloads_up_again(swarm: Swarm) -> None:
    await until(lambda: swarm.states() == {State.RUNNING}, 30)
    await cancel_and_wait(swarm.running["node-004"])
    await until(lambda: swarm.bench.node("node-004").status.state == api.NodeStatus.DOWN, 30)
    before = dict(swarm.executors["node-004"].workloads)
    swarm.start_agent("node-004")
    await until(lambda: swarm.node_states() == {api.NodeStatus.READY}, 30)
    await asyncio.sleep(30)
    assert swarm.executors["node-004"].workloads == before
    assert swarm.states() == {State.RUNNING}
