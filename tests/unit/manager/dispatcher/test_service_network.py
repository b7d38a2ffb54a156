"""The service behind the real gateway and gRPC: what only the network can show."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import TypeVar

import grpc
import pytest
import pytest_asyncio

from swarmkit.api import messages as api
from swarmkit.api.dispatcher_pb2_grpc import DispatcherStub, add_DispatcherServicer_to_server
from swarmkit.api.logbroker_pb2_grpc import LogBrokerStub, add_LogBrokerServicer_to_server
from swarmkit.ca.credentials import CredentialsHolder
from swarmkit.clock import SystemClock
from swarmkit.manager.logbroker import LogBroker
from swarmkit.net import channels
from swarmkit.net.server import ApiServer
from tests.fakes.loop import VirtualClock
from tests.fakes.pki import FakeAuthority
from tests.scale import SCALE
from tests.unit.manager.dispatcher.bench import Bench, cluster, node, status, task

M = TypeVar("M")
pytestmark = [pytest.mark.real_time, pytest.mark.slow]
WORKER = "worker-1"


async def eventually(check: Callable[[], bool]) -> None:
    """Wait until ``check`` holds."""
    async with asyncio.timeout(10 * SCALE):
        while not check():  # noqa: ASYNC110 - the network decides when
            await asyncio.sleep(0.01)


async def take(stream: AsyncIterable[M]) -> M:
    """Return the next message."""
    async for message in stream:
        return message
    raise EOFError


class Served:
    """A dispatcher and a log broker behind a port, and a worker's channel to it."""

    def __init__(self) -> None:
        self.bench = Bench(VirtualClock())  # on this loop it goes with real time
        self.broker = LogBroker()
        self.authority = FakeAuthority()
        self.server = ApiServer(
            CredentialsHolder(self.authority.manager("manager-1")), SystemClock(), stop_grace_seconds=0.2
        )

    async def start(self) -> None:
        await self.bench.create(cluster(), node(WORKER), task("t", node_id=WORKER))
        await self.bench.start()
        self.listening = asyncio.get_running_loop().create_task(self.broker.run())
        self.server.add(add_DispatcherServicer_to_server, self.bench.service)
        self.server.add(add_LogBrokerServicer_to_server, self.broker)
        await self.server.start()
        remote = await self.server.listen_remote("127.0.0.1:0")
        self.channel = channels.secure_channel(remote.address, self.authority.worker(WORKER))
        self.stub = DispatcherStub(self.channel)

    async def stop(self) -> None:
        await self.channel.close()
        await self.bench.close()
        self.listening.cancel()
        await asyncio.gather(self.listening, return_exceptions=True)
        await self.server.stop()


@pytest_asyncio.fixture
async def served() -> AsyncIterator[Served]:
    made = Served()
    await made.start()
    yield made
    await made.stop()


async def test_a_worker_registers_is_assigned_a_task_and_reports_it(served: Served) -> None:
    session = served.stub.Session(api.SessionRequest())
    first = await take(session)
    assert (first.node.id, first.node.status.addr) == (WORKER, "127.0.0.1")
    beat = await served.stub.Heartbeat(api.HeartbeatRequest(session_id=first.session_id))
    assert beat.period.ToNanoseconds() > 0
    assignments = served.stub.Assignments(api.AssignmentsRequest(session_id=first.session_id))
    complete = await take(assignments)
    assert [change.assignment.task.id for change in complete.changes] == ["t"]
    report = api.UpdateTaskStatusRequest(session_id=first.session_id)
    report.updates.add(task_id="t", status=status(api.TaskState.RUNNING))
    await served.stub.UpdateTaskStatus(report)
    await eventually(lambda: served.bench.task("t").status.state == api.TaskState.RUNNING)
    session.cancel()
    assignments.cancel()


async def test_streams_end_with_their_codes_when_leadership_ends(served: Served) -> None:
    session = served.stub.Session(api.SessionRequest())
    session_id = (await take(session)).session_id
    assignments = served.stub.Assignments(api.AssignmentsRequest(session_id=session_id))
    subscriptions = LogBrokerStub(served.channel).ListenSubscriptions(api.ListenSubscriptionsRequest())
    await take(assignments)
    await asyncio.sleep(0.1)
    assert not subscriptions.done()
    await served.bench.stop()
    served.listening.cancel()
    last = await take(session)
    assert last.node.id == WORKER
    assert await session.code() is grpc.StatusCode.ABORTED
    assert await session.details() == "node must disconnect"
    assert await assignments.code() is grpc.StatusCode.CANCELLED
    assert await subscriptions.code() is grpc.StatusCode.OK


async def test_a_worker_that_vanishes_leaves_no_stream_behind(served: Served) -> None:
    session = served.stub.Session(api.SessionRequest())
    session_id = (await take(session)).session_id
    watchers = len(served.bench.store._hub)
    await take(served.stub.Assignments(api.AssignmentsRequest(session_id=session_id)))
    assert len(served.bench.store._hub) == watchers + 1
    await served.channel.close()
    await eventually(
        lambda: len(served.bench.store._hub) == watchers and served.bench.dispatcher.tenure._calls == 0
    )
