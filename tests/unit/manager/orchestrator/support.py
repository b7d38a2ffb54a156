"""Builders, and a small swarm on virtual time: store, leader loops, fake allocator, scheduler and worker."""

import asyncio
import contextlib
import datetime
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from swarmkit.aio import TaskOwner
from swarmkit.api import messages as api
from swarmkit.manager.tasks import ended, wanted
from swarmkit.store import O, Store, Tx, Watch, by
from tests.fakes.loop import EPOCH, VirtualClock

State = api.TaskState
T = TypeVar("T")
Loop = Callable[[], Coroutine[Any, Any, None]]


def make_service(
    id: str = "svc",
    *,
    replicas: int | None = None,
    image: str = "v1",
    version: int | None = 0,
    condition: "api.RestartPolicy.RestartCondition.ValueType | None" = None,
    delay: float = 0.0,
    attempts: int = 0,
    window: float = 0.0,
    constraints: Sequence[str] = (),
) -> api.Service:
    """A replicated service if ``replicas`` is given, else a global one."""
    service = api.Service(id=id)
    service.spec.annotations.name = f"name-of-{id}"
    service.spec.task.container.image = image
    if replicas is None:
        getattr(service.spec, "global").SetInParent()
    else:
        service.spec.replicated.replicas = replicas
    if version is not None:
        service.spec_version.index = version
    if constraints:
        service.spec.task.placement.constraints.extend(constraints)
    policy = service.spec.task.restart
    policy.condition = api.RestartPolicy.ANY if condition is None else condition
    policy.delay.FromMicroseconds(round(delay * 1e6))
    policy.max_attempts = attempts
    if window:
        policy.window.FromMicroseconds(round(window * 1e6))
    return service


def make_node(
    id: str,
    *,
    state: "api.NodeStatus.State.ValueType" = api.NodeStatus.READY,
    availability: "api.NodeSpec.Availability.ValueType" = api.NodeSpec.ACTIVE,
    labels: dict[str, str] | None = None,
) -> api.Node:
    node = api.Node(id=id)
    node.status.state = state
    node.spec.availability = availability
    node.spec.annotations.labels.update(labels or {})
    return node


def make_task(
    service: api.Service,
    id: str,
    *,
    slot: int = 0,
    node: str = "",
    state: api.TaskState.ValueType = State.RUNNING,
    desired: api.TaskState.ValueType = State.RUNNING,
    at: float | None = 0.0,
) -> api.Task:
    """A task of ``service`` as it is, whose status is ``at`` seconds old at the epoch of virtual time."""
    task = api.Task(id=id, service_id=service.id, slot=slot, node_id=node, desired_state=desired)
    task.service_annotations.CopyFrom(service.spec.annotations)
    task.spec.CopyFrom(service.spec.task)
    if service.HasField("spec_version"):
        task.spec_version.CopyFrom(service.spec_version)
    task.endpoint.SetInParent()
    task.status.state = state
    if at is not None:
        task.status.timestamp.FromDatetime(EPOCH + datetime.timedelta(seconds=at))
    return task


def counter(prefix: str = "task") -> Callable[[], str]:
    numbers = itertools.count(1)
    return lambda: f"{prefix}{next(numbers):04}"


class Swarm:
    """A store without replication, whose changes are awaited or not as tests like."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.store = Store(self.clock)
        self.new_id = counter()

    async def create(self, *objects: O) -> None:
        def write(tx: Tx) -> None:
            for item in objects:
                tx.create(item)

        await self.store.update(write)

    async def edit(self, kind: type[O], id: str, change: Callable[[O], object]) -> O:
        def write(tx: Tx) -> O:
            stored = tx.get(kind, id)
            assert stored is not None
            copy: Any = kind()
            copy.CopyFrom(stored)
            change(copy)
            written: O = tx.update(copy)
            return written

        return await self.store.update(write)

    async def delete(self, kind: type[Any], id: str) -> None:
        await self.store.update(lambda tx: tx.delete(kind, id))

    async def observe(self, task_id: str, state: api.TaskState.ValueType) -> None:
        """Report a state as a worker would, applied now; ignored if the task is gone or further."""

        def write(tx: Tx) -> None:
            task = tx.get(api.Task, task_id)
            if task is None or task.status.state > state:
                return
            copy = api.Task()
            copy.CopyFrom(task)
            copy.status.state = state
            copy.status.applied_at.FromDatetime(self.clock.now())
            tx.update(copy)

        await self.store.update(write)

    async def roll_out(self, service_id: str, change: Callable[[api.Service], object]) -> None:
        """Change a service's spec as the API does: keep the previous one, new version, status cleared."""

        def write(service: api.Service) -> None:
            previous = api.ServiceSpec()
            previous.CopyFrom(service.spec)
            service.previous_spec.CopyFrom(previous)
            if service.HasField("spec_version"):
                service.previous_spec_version.CopyFrom(service.spec_version)
            service.spec_version.index = service.meta.version.index + 1
            service.ClearField("update_status")
            change(service)

        await self.edit(api.Service, service_id, write)

    def task(self, task_id: str) -> api.Task:
        task = self.store.view().get(api.Task, task_id)
        assert task is not None
        return task

    def has_task(self, task_id: str) -> bool:
        return self.store.view().get(api.Task, task_id) is not None

    def tasks(self, service_id: str = "svc") -> list[api.Task]:
        return self.store.view().find(api.Task, by.service(service_id))

    def wanted(self, service_id: str = "svc") -> list[api.Task]:
        return [task for task in self.tasks(service_id) if wanted(task)]

    def new_tasks(self, service_id: str = "svc") -> list[api.Task]:
        """The tasks that were created by a loop under test."""
        return [task for task in self.tasks(service_id) if task.id.startswith("task")]

    def service(self, service_id: str = "svc") -> api.Service:
        service = self.store.view().get(api.Service, service_id)
        assert service is not None
        return service

    async def settle(self, seconds: float = 0.001) -> None:
        """Let everything happen that happens within ``seconds``."""
        await self.clock.sleep(seconds)

    @contextlib.asynccontextmanager
    async def running(self, *loops: Loop) -> AsyncIterator[None]:
        """Run leader loops, let them start, and end them; one that fails fails the test."""
        failures: list[BaseException] = []
        owner = TaskOwner("test", failures.append)
        try:
            for number, loop in enumerate(loops):
                owner.spawn(loop(), str(number))
            await self.settle()
            yield
        finally:
            await owner.close()
        assert not failures


class Worker:
    """Allocator, scheduler and agents in one: moves tasks towards what is desired, as fast as it can.

    Attributes:
        outcome: the state a task reaches instead of RUNNING.
        stops: whether a task that shall end does.
        nodes: nodes for tasks that have none, in turn, if they take tasks; without any, tasks need no node.
        running_at_once: most tasks seen RUNNING at the same time.
    """

    def __init__(self, swarm: Swarm, nodes: Sequence[str] = ()) -> None:
        self.swarm = swarm
        self.outcome: Callable[[api.Task], api.TaskState.ValueType] = lambda task: State.RUNNING
        self.stops: Callable[[api.Task], bool] = lambda task: True
        self.nodes = list(nodes)
        self._turn = 0
        self.running_at_once = 0

    async def run(self) -> None:
        tasks, watcher = self.swarm.store.view_and_watch(
            lambda reader: reader.find(api.Task), Watch(api.Task), Watch(api.Node)
        )
        with watcher:
            for task in tasks:
                await self._step(task.id)
            async for commit in watcher:
                for event in commit.events:
                    if isinstance(event.object, api.Task):
                        await self._step(event.object.id)
                    else:  # perhaps there is room now
                        for task in self.swarm.store.view().find(api.Task, by.node("")):
                            await self._step(task.id)

    def _takes_tasks(self, node_id: str) -> bool:
        node = self.swarm.store.view().get(api.Node, node_id)
        return (
            node is not None
            and node.status.state == api.NodeStatus.READY
            and node.spec.availability == api.NodeSpec.ACTIVE
        )

    def _pick_node(self) -> str:
        for _ in self.nodes:
            self._turn += 1
            node_id = self.nodes[self._turn % len(self.nodes)]
            if self._takes_tasks(node_id):
                return node_id
        return ""

    async def _step(self, task_id: str) -> None:
        await self.swarm.store.update(lambda tx: self._write(tx, task_id))
        running = self.swarm.store.view().count(api.Task, by.task_state(State.RUNNING))
        self.running_at_once = max(self.running_at_once, running)
        await asyncio.sleep(0)

    def _write(self, tx: Tx, task_id: str) -> None:
        task = tx.get(api.Task, task_id)
        state = self._next(task) if task is not None and not ended(task) else None
        if task is None or state is None or state <= task.status.state:
            return
        node_id = task.node_id or self._pick_node()
        if self.nodes and not node_id:
            return
        copy = api.Task()
        copy.CopyFrom(task)
        copy.node_id = node_id
        copy.status.state = state
        copy.status.applied_at.FromDatetime(self.swarm.clock.now())
        tx.update(copy)

    def _next(self, task: api.Task) -> api.TaskState.ValueType | None:
        if task.desired_state >= State.SHUTDOWN:
            placed = task.status.state >= State.ASSIGNED
            return State.SHUTDOWN if placed and self.stops(task) else None
        if task.status.state < State.READY:
            return State.READY
        if task.desired_state >= State.RUNNING and task.status.state < State.RUNNING:
            return self.outcome(task)
        return None
