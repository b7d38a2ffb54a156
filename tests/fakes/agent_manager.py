"""A manager as a session of the agent sees it, on virtual time, and a broker that hands it out."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Generic, TypeVar

import grpc.aio

from swarmkit.agent.manager import Connection, ManagerError
from swarmkit.api import messages as api

T = TypeVar("T")


class FakeStream(Generic[T]):
    """Yields what is put; an exception put is raised, None ends the stream."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[T | Exception | None] = asyncio.Queue()
        self.closed = False

    def put(self, item: T | Exception | None) -> None:
        self._queue.put_nowait(item)

    async def __call__(self) -> AsyncGenerator[T, None]:
        try:
            while True:
                item = await self._queue.get()
                if item is None:
                    return
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self.closed = True


class FakeManager:
    """One session's worth of a manager. Registers at once, beats, and sends an empty complete set."""

    def __init__(self, session_id: str = "session-1") -> None:
        self.session_id = session_id
        self.requests: list[api.SessionRequest] = []
        self.sessions: FakeStream[api.SessionMessage] = FakeStream()
        self.assignment_streams: list[FakeStream[api.AssignmentsMessage]] = []
        self.task_stream: FakeStream[api.TasksMessage] = FakeStream()
        self.subscription_stream: FakeStream[api.SubscriptionMessage] = FakeStream()
        self.beats: list[float] = []
        self.statuses: list[tuple[str, api.TaskStatus]] = []
        self.published: list[api.PublishLogsMessage] = []
        self.period = 5.0
        self.silent = False
        self.no_assignments = False
        self.status_errors: list[ManagerError] = []
        self.heartbeat_error: ManagerError | None = None
        self.reported = asyncio.Event()

    def message(self, **fields: object) -> api.SessionMessage:
        return api.SessionMessage(session_id=self.session_id, **fields)  # type: ignore[arg-type]

    async def session(self, request: api.SessionRequest) -> AsyncGenerator[api.SessionMessage, None]:
        self.requests.append(request)
        if not self.silent:
            yield self.message()
        async for message in self.sessions():
            yield message

    async def heartbeat(self, request: api.HeartbeatRequest) -> api.HeartbeatResponse:
        assert request.session_id == self.session_id
        self.beats.append(asyncio.get_running_loop().time())
        if self.heartbeat_error is not None:
            raise self.heartbeat_error
        response = api.HeartbeatResponse()
        response.period.FromMicroseconds(int(self.period * 1e6))
        return response

    async def assignments(
        self, request: api.AssignmentsRequest
    ) -> AsyncGenerator[api.AssignmentsMessage, None]:
        if self.no_assignments:
            raise ManagerError("UNIMPLEMENTED", "unknown method Assignments")
        stream: FakeStream[api.AssignmentsMessage] = FakeStream()
        self.assignment_streams.append(stream)
        async for message in stream():
            yield message

    async def tasks(self, request: api.TasksRequest) -> AsyncGenerator[api.TasksMessage, None]:
        async for message in self.task_stream():
            yield message

    async def update_task_status(self, request: api.UpdateTaskStatusRequest) -> None:
        await asyncio.sleep(0.001)
        if self.status_errors:
            raise self.status_errors.pop(0)
        self.statuses += [(update.task_id, update.status) for update in request.updates]
        self.reported.set()

    async def subscriptions(self) -> AsyncGenerator[api.SubscriptionMessage, None]:
        async for message in self.subscription_stream():
            yield message

    async def publish_logs(self, messages: Sequence[api.PublishLogsMessage]) -> None:
        self.published += messages

    def last_state(self, task_id: str) -> api.TaskState.ValueType | None:
        states = [status.state for reported, status in self.statuses if reported == task_id]
        return states[-1] if states else None


class FakeConnection:
    """A connection without a channel: the fake manager stands behind ``connect``."""

    address = "manager:4242"

    def __init__(self, manager: FakeManager) -> None:
        self.manager = manager
        self.closed: bool | None = None

    @property
    def channel(self) -> grpc.aio.Channel:
        raise AssertionError("the fake has no channel")

    async def close(self, success: bool) -> None:
        self.closed = success


class FakeBroker:
    """Hands out the managers given, the last one for ever; an exception in the list is raised."""

    def __init__(self, *managers: FakeManager | Exception) -> None:
        self._managers = list(managers)
        self.connections: list[FakeConnection] = []
        self.selections: list[float] = []
        self.lists: list[list[api.WeightedPeer]] = []

    async def select(self) -> FakeConnection:
        self.selections.append(asyncio.get_running_loop().time())
        manager = self._managers.pop(0) if len(self._managers) > 1 else self._managers[0]
        if isinstance(manager, Exception):
            raise manager
        connection = FakeConnection(manager)
        self.connections.append(connection)
        return connection

    def managers(self, listed: Sequence[api.WeightedPeer]) -> None:
        self.lists.append(list(listed))


def connect(connection: Connection) -> FakeManager:
    assert isinstance(connection, FakeConnection)
    return connection.manager


def complete(
    *tasks: api.Task,
    secrets: Sequence[api.Secret] = (),
    configs: Sequence[api.Config] = (),
    results_in: str = "1",
) -> api.AssignmentsMessage:
    message = incremental(*tasks, secrets=secrets, configs=configs, results_in=results_in)
    message.type = api.AssignmentsMessage.COMPLETE
    return message


def incremental(
    *tasks: api.Task,
    secrets: Sequence[api.Secret] = (),
    configs: Sequence[api.Config] = (),
    remove: Sequence[api.Assignment] = (),
    applies_to: str = "",
    results_in: str = "",
) -> api.AssignmentsMessage:
    message = api.AssignmentsMessage(
        type=api.AssignmentsMessage.INCREMENTAL, applies_to=applies_to, results_in=results_in
    )
    for secret in secrets:
        message.changes.add(assignment=api.Assignment(secret=secret))
    for config in configs:
        message.changes.add(assignment=api.Assignment(config=config))
    for task in tasks:
        message.changes.add(assignment=api.Assignment(task=task))
    for assignment in remove:
        message.changes.add(assignment=assignment, action=api.AssignmentChange.REMOVE)
    return message


def make_task(
    task_id: str,
    state: api.TaskState.ValueType = api.TaskState.ASSIGNED,
    desired: api.TaskState.ValueType = api.TaskState.RUNNING,
) -> api.Task:
    task = api.Task(id=task_id, service_id="service", node_id="node", desired_state=desired)
    task.status.state = state
    task.status.message = "scheduler assigned task to node"
    task.spec.container.image = "redis:3.0.5"
    return task
