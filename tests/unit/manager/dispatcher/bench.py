"""A dispatcher on virtual time, and workers that talk to it as if over the network."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from typing import Any, Generic, TypeVar

from swarmkit.api import messages as api
from swarmkit.manager.dispatcher import Dispatcher, DispatcherConfig, DispatcherService
from swarmkit.manager.dispatcher.errors import DispatcherStoppedError
from swarmkit.net.caller import WORKER_ROLE, Caller, as_caller
from swarmkit.net.errors import RpcError
from swarmkit.store import O, Store
from tests.fakes.loop import VirtualClock

M = TypeVar("M")
LEADER = "leader"


class Stream(Generic[M]):
    """A server stream read by a task of its own, as grpc does; ``error`` is what ended it."""

    def __init__(self, messages: AsyncIterator[M], caller: Caller) -> None:
        self.received: list[M] = []
        self.error: RpcError | None = None
        self.ended = asyncio.Event()
        self._news = asyncio.Event()
        self._taken = 0
        self._task = asyncio.get_running_loop().create_task(self._read(messages, caller))

    async def _read(self, messages: AsyncIterator[M], caller: Caller) -> None:
        try:
            with as_caller(caller):
                async for message in messages:
                    self.received.append(message)
                    self._news.set()
        except RpcError as error:
            self.error = error
        finally:
            self.ended.set()
            self._news.set()

    async def next(self) -> M:
        """Return the next message; raise what ended the stream if it ended first."""
        while len(self.received) == self._taken:
            if self.ended.is_set():
                raise self.error or EOFError
            self._news.clear()
            await self._news.wait()
        self._taken += 1
        return self.received[self._taken - 1]

    async def end(self) -> RpcError | None:
        """Wait for the end and return the error."""
        await self.ended.wait()
        return self.error

    async def cancel(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


class Worker:
    """A node's side of the wire."""

    def __init__(self, bench: "Bench", node_id: str, addr: str = "10.0.0.7:4789") -> None:
        self.bench = bench
        self.node_id = node_id
        self.caller = Caller(node_id, frozenset({WORKER_ROLE}), "swarm", addr)
        self.session_id = ""

    def open_session(self, session_id: str = "", hostname: str | None = None) -> Stream[api.SessionMessage]:
        request = api.SessionRequest(session_id=session_id)
        if hostname is not None:
            request.description.hostname = hostname
        return self._stream(self.bench.service.Session(request, None))

    async def register(self, session_id: str = "", hostname: str | None = None) -> Stream[api.SessionMessage]:
        """Open a session and take its first message."""
        stream = self.open_session(session_id, hostname)
        self.session_id = (await stream.next()).session_id
        return stream

    def assignments(self, session_id: str | None = None) -> Stream[api.AssignmentsMessage]:
        chosen = self.session_id if session_id is None else session_id
        return self._stream(self.bench.service.Assignments(api.AssignmentsRequest(session_id=chosen), None))

    def tasks(self, session_id: str | None = None) -> Stream[api.TasksMessage]:
        chosen = self.session_id if session_id is None else session_id
        return self._stream(self.bench.service.Tasks(api.TasksRequest(session_id=chosen), None))

    async def heartbeat(self, session_id: str | None = None) -> float:
        chosen = self.session_id if session_id is None else session_id
        with as_caller(self.caller):
            reply = await self.bench.service.Heartbeat(api.HeartbeatRequest(session_id=chosen), None)
        return reply.period.ToNanoseconds() / 1e9

    async def report(
        self, *updates: tuple[str, api.TaskStatus | None], session_id: str | None = None
    ) -> None:
        chosen = self.session_id if session_id is None else session_id
        request = api.UpdateTaskStatusRequest(session_id=chosen)
        for task_id, status in updates:
            request.updates.add(task_id=task_id, status=status)
        with as_caller(self.caller):
            await self.bench.service.UpdateTaskStatus(request, None)

    async def report_unpublished(self, *volume_ids: str, session_id: str | None = None) -> None:
        chosen = self.session_id if session_id is None else session_id
        request = api.UpdateVolumeStatusRequest(session_id=chosen)
        for volume_id in volume_ids:
            request.updates.add(id=volume_id, unpublished=True)
        with as_caller(self.caller):
            await self.bench.service.UpdateVolumeStatus(request, None)

    def _stream(self, messages: AsyncIterator[M]) -> Stream[M]:
        stream = Stream(messages, self.caller)
        self.bench.streams.append(stream)
        return stream


class Bench:
    """A store without replication, a dispatcher on it, and what the tests do to both."""

    def __init__(self, clock: VirtualClock, config: DispatcherConfig | None = None) -> None:
        self.clock = clock
        self.store = Store(clock)
        self.peers = [api.Peer(node_id=LEADER, addr="10.0.0.1:4242")]
        self.peers_changed: list[Callable[[], None]] = []
        self.dispatcher = Dispatcher(
            self.store, clock, random.Random(7), LEADER, lambda: self.peers, self._subscribe, config
        )
        self.service = DispatcherService(self.dispatcher)
        self.streams: list[Stream[Any]] = []
        self.beats: list[asyncio.Task[None]] = []
        self._running: asyncio.Task[None] | None = None

    def _subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        self.peers_changed.append(callback)
        return lambda: self.peers_changed.remove(callback)

    async def start(self) -> None:
        """Lead: return when the dispatcher serves."""
        self._running = asyncio.get_running_loop().create_task(self.dispatcher.run())
        while not self.serving:
            await asyncio.sleep(0)
            if self._running.done():
                await self._running

    @property
    def serving(self) -> bool:
        try:
            return self.dispatcher.tenure.serving
        except DispatcherStoppedError:
            return False

    async def stop(self) -> None:
        """Stop leading."""
        assert self._running is not None
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    async def close(self) -> None:
        for beat in self.beats:
            beat.cancel()
        await asyncio.gather(*self.beats, return_exceptions=True)
        for stream in self.streams:
            await stream.cancel()
        if self._running is not None:
            if self.serving:
                self.dispatcher.tenure.nodes.check_invariants()
            await self.stop()
        assert not self.peers_changed

    # The store

    async def create(self, *objects: Any) -> None:
        for item in objects:
            await self.store.update(lambda tx, item=item: tx.create(item))  # type: ignore[misc]

    async def change(self, kind: type[O], id: str, change: Callable[[O], object]) -> None:
        """Apply ``change`` to a copy of the stored object and write it, changed or not."""
        copy: Any = kind()
        copy.CopyFrom(self.get(kind, id))
        change(copy)
        await self.store.update(lambda tx: tx.update(copy))

    async def rewrite(self, kind: type[O], id: str) -> None:
        await self.change(kind, id, lambda stored: None)

    async def delete(self, kind: type[Any], id: str) -> None:
        await self.store.update(lambda tx: tx.delete(kind, id))

    def get(self, kind: type[O], id: str) -> O:
        stored = self.store.view().get(kind, id)
        assert stored is not None
        return stored

    def node(self, node_id: str) -> api.Node:
        return self.get(api.Node, node_id)

    def task(self, task_id: str) -> api.Task:
        return self.get(api.Task, task_id)

    async def worker(self, node_id: str = "worker") -> Worker:
        """Store a node and return its worker, not registered yet."""
        await self.create(node(node_id))
        return Worker(self, node_id)


def node(node_id: str, state: int = api.NodeStatus.UNKNOWN) -> api.Node:
    made = api.Node(id=node_id)
    made.status.state = state  # type: ignore[assignment]
    made.description.hostname = f"host-{node_id}"
    return made


def task(task_id: str, node_id: str = "worker", state: int = api.TaskState.ASSIGNED) -> api.Task:
    made = api.Task(id=task_id, node_id=node_id, desired_state=api.TaskState.RUNNING)
    made.status.state = state  # type: ignore[assignment]
    made.spec.container.image = "redis:3.0.5"
    return made


def status(state: int, message: str = "") -> api.TaskStatus:
    made = api.TaskStatus(message=message)
    made.state = state  # type: ignore[assignment]
    return made


def cluster() -> api.Cluster:
    made = api.Cluster(id="cluster")
    made.spec.annotations.name = "default"
    made.spec.dispatcher.heartbeat_period.seconds = 5
    made.root_ca.ca_cert = b"-----BEGIN CERTIFICATE-----\nfirst\n"
    made.network_bootstrap_keys.add(subsystem="networking:gossip", key=b"k" * 16, lamport_time=1)
    return made
