"""Calls through a follower, over real connections (contract/security.md, 15.2 and tests 53, 80 to 83)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from swarmkit.api import messages as api
from swarmkit.api.control_pb2_grpc import ControlStub
from swarmkit.api.dispatcher_pb2_grpc import DispatcherStub
from swarmkit.api.logbroker_pb2_grpc import LogBrokerStub
from swarmkit.net.errors import failed_precondition
from swarmkit.net.forward import LOST_TEXT, STOPPING_TEXT
from swarmkit.net.remotes import Remote
from tests.fakes.leaders import FakeLeaders
from tests.fakes.pki import CLUSTER, FakeAuthority
from tests.unit.net.harness import ServedApi, eventually, failure, health, issue

pytestmark = pytest.mark.real_time

ECHO = "docker.swarmkit.v1.Watch"


def add_echo(servicer: Any, server: Any) -> None:
    """Register a call with streams both ways: it must pass though the wire contract has none."""
    handler = grpc.stream_stream_rpc_method_handler(
        servicer, api.PublishLogsMessage.FromString, api.PublishLogsMessage.SerializeToString
    )
    server.add_registered_method_handlers(ECHO, {"Watch": handler})


async def echo(requests: AsyncIterator[Any], _context: Any) -> AsyncIterator[Any]:
    async for message in requests:
        yield message
    yield api.PublishLogsMessage(subscription_id="the end")


class Swarm:
    """Managers that know each other; ``lead`` names who leads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = FakeAuthority()
        self.managers: list[ServedApi] = []
        self.leaders: list[FakeLeaders] = []

    async def start(self, stack: contextlib.AsyncExitStack, count: int) -> None:
        for number in range(count):
            leaders = FakeLeaders()
            manager = ServedApi(
                self.folder, node_id=f"manager-{number}", authority=self.authority, leaders=leaders
            )
            manager.server.add(add_echo, echo, forward={"Watch"})
            await stack.enter_async_context(manager)
            self.managers.append(manager)
            self.leaders.append(leaders)

    def remote(self, number: int) -> Remote:
        return Remote(f"manager-{number}", self.managers[number].remote.address)

    def lead(self, number: int) -> None:
        for index, leaders in enumerate(self.leaders):
            leaders.set(None if index == number else self.remote(number), leading=index == number)


@pytest_asyncio.fixture
async def swarm(tmp_path: Path) -> AsyncIterator[Swarm]:
    """Manager 0 leads, 1 and 2 follow."""
    made = Swarm(tmp_path)
    async with contextlib.AsyncExitStack() as stack:
        await made.start(stack, 3)
        made.lead(0)
        yield made


@pytest.fixture
def leader(swarm: Swarm) -> ServedApi:
    return swarm.managers[0]


@pytest.fixture
def follower(swarm: Swarm) -> ServedApi:
    return swarm.managers[1]


async def beat(channel: grpc.aio.Channel, **options: Any) -> api.HeartbeatResponse:
    options.setdefault("timeout", 10)
    return await DispatcherStub(channel).Heartbeat(api.HeartbeatRequest(), **options)


async def create(channel: grpc.aio.Channel, name: str = "web", timeout: float | None = 10) -> object:
    request = api.CreateServiceRequest()
    request.spec.annotations.name = name
    return await ControlStub(channel).CreateService(request, timeout=timeout)


async def read(channel: grpc.aio.Channel) -> object:
    return await ControlStub(channel).ListServices(api.ListServicesRequest(), timeout=10)


async def test_the_leader_acts_for_the_worker_that_called_a_follower(
    leader: ServedApi, follower: ServedApi
) -> None:
    async with follower.channel(follower.authority.worker("worker-1")) as channel:
        await beat(channel)
    caller = leader.dispatcher.caller
    assert (caller.node_id, caller.roles) == ("worker-1", frozenset({"swarm-worker"}))
    assert (caller.organization, caller.forwarded_by) == (CLUSTER, "manager-1")
    assert caller.from_loopback
    assert caller.remote_addr not in (leader.remote.address, follower.remote.address)


async def test_an_anonymous_joiner_stays_anonymous_on_its_way(leader: ServedApi, follower: ServedApi) -> None:
    leader.node_ca.answer = "new"
    async with follower.anonymous() as channel:
        assert (await issue(channel)).node_id == "new"
    caller = leader.node_ca.caller
    assert caller.anonymous
    assert caller.forwarded_by == "manager-1"
    assert caller.from_loopback


async def test_a_call_over_a_followers_socket_is_that_manager_to_the_leader(
    leader: ServedApi, follower: ServedApi
) -> None:
    async with follower.local() as channel:
        await create(channel, "web")
        await issue(channel)
    assert leader.control_api.created == ["web"]
    for caller in (leader.control_api.caller, leader.node_ca.caller):
        assert (caller.node_id, caller.roles) == ("manager-1", frozenset({"swarm-manager"}))
        assert not caller.local
        assert not caller.forwarded_by
    marks = [key for key, _ in leader.control_api.metadata if key.startswith("forwarded")]
    assert marks == []
    assert ("redirect", follower.remote.address) in leader.control_api.metadata


async def test_control_over_tls_is_passed_on_too(leader: ServedApi, follower: ServedApi) -> None:
    async with follower.channel(follower.authority.manager("manager-7")) as channel:
        await create(channel)
    assert leader.control_api.caller.node_id == "manager-7"
    assert follower.control_api.created == []


async def test_a_workers_own_forwarded_values_never_arrive(leader: ServedApi, follower: ServedApi) -> None:
    hostile = (
        ("forwarded_cert_cn", "manager-0"),
        ("forwarded_cert_org", "other"),
        ("forwarded_cert_ou", "swarm-manager"),
        ("remote_addr", "1.2.3.4:5"),
    )
    async with follower.channel(follower.authority.worker("worker-1")) as channel:
        await beat(channel, metadata=hostile)
        assert leader.dispatcher.caller.node_id == "worker-1"
        assert leader.dispatcher.caller.roles == frozenset({"swarm-worker"})
        assert leader.dispatcher.caller.remote_addr != "1.2.3.4:5"
        marked = await failure(beat(channel, metadata=(("forwarded_cert", "true"), *hostile)))
        assert marked.code() is grpc.StatusCode.PERMISSION_DENIED
        looped = await failure(beat(channel, metadata=(("redirect", "1.2.3.4:5"),)))
        assert looped.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_health_answers_where_it_is_asked(follower: ServedApi) -> None:
    async with follower.local() as channel:
        answer = await health(channel, "ControlAPI")
    assert answer.status == api.HealthCheckResponse.NOT_SERVING


async def test_a_removed_node_is_told_so_through_a_follower(leader: ServedApi, follower: ServedApi) -> None:
    leader.removed.add("worker-1")
    async with follower.channel(follower.authority.worker("worker-1")) as channel:
        refused = await failure(beat(channel))
    assert refused.code() is grpc.StatusCode.PERMISSION_DENIED
    assert refused.details() == "Permission denied: node worker-1 was removed from swarm"


async def test_a_demoted_manager_opens_no_managers_door_directly_or_through_a_follower(
    leader: ServedApi, follower: ServedApi
) -> None:
    leader.demoted.add("manager-7")
    old = leader.authority.manager("manager-7")
    for manager in (leader, follower):
        async with manager.channel(old) as channel:
            refused = await failure(create(channel))
            assert refused.code() is grpc.StatusCode.PERMISSION_DENIED
            assert (refused.details() or "").endswith("node manager-7 is no longer a manager")
            await beat(channel)  # it still is a node
    assert leader.control_api.created == []


async def test_a_demoted_manager_forwards_for_nobody(leader: ServedApi, follower: ServedApi) -> None:
    leader.demoted.add("manager-1")
    async with follower.channel(follower.authority.worker()) as channel:
        refused = await failure(beat(channel))
    assert (refused.details() or "").endswith("node manager-1 is no longer a manager")


async def test_a_follower_that_does_not_know_the_newest_manager_leaves_it_to_the_leader(
    leader: ServedApi, follower: ServedApi
) -> None:
    follower.demoted.add("manager-7")
    async with follower.channel(follower.authority.manager("manager-7")) as channel:
        await create(channel)
        # What is served where it arrives is checked there.
        assert (await failure(health(channel))).code() is grpc.StatusCode.PERMISSION_DENIED
    assert leader.control_api.caller.node_id == "manager-7"


async def test_a_stream_of_answers_is_passed_on_message_by_message(
    leader: ServedApi, follower: ServedApi
) -> None:
    async with follower.channel(follower.authority.worker("worker-1")) as channel:
        stream = DispatcherStub(channel).Session(api.SessionRequest(), timeout=10)
        assert [message.session_id async for message in stream] == ["worker-1", "worker-1"]
        assert await stream.code() is grpc.StatusCode.OK
    assert leader.dispatcher.session_ended.is_set()


async def test_a_stream_of_requests_is_passed_on_whole(leader: ServedApi, follower: ServedApi) -> None:
    async def messages() -> AsyncIterator[api.PublishLogsMessage]:
        for number in range(50):
            yield api.PublishLogsMessage(subscription_id=str(number))

    async with follower.channel(follower.authority.worker("worker-1")) as channel:
        await LogBrokerStub(channel).PublishLogs(messages(), timeout=10)
    assert leader.log_broker.published == [f"worker-1:{number}" for number in range(50)]


async def test_every_message_of_streams_both_ways_is_passed_on(follower: ServedApi) -> None:
    async with follower.local() as channel:
        stream: Any = channel.stream_stream(
            f"/{ECHO}/Watch", api.PublishLogsMessage.SerializeToString, api.PublishLogsMessage.FromString
        )(timeout=10)
        for number in range(20):  # in turns: neither side waits for the end of the other
            await stream.write(api.PublishLogsMessage(subscription_id=str(number)))
            assert (await stream.read()).subscription_id == str(number)
        await stream.done_writing()
        assert (await stream.read()).subscription_id == "the end"
        assert await stream.read() is grpc.aio.EOF


async def test_neither_request_nor_answer_is_parsed_on_the_way(
    leader: ServedApi, follower: ServedApi
) -> None:
    nonsense = b"\xff\xff\xff"
    async with follower.local() as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/docker.swarmkit.v1.Control/CreateService"
        )
        refused = await failure(call(nonsense, timeout=10))
    assert refused.code() is grpc.StatusCode.INTERNAL
    assert (refused.details() or "").startswith("the request cannot be parsed")
    counted = ("/docker.swarmkit.v1.Control/CreateService", "INTERNAL")
    assert leader.server.counts[counted] == 1


async def test_an_answer_of_any_size_comes_back(leader: ServedApi, follower: ServedApi) -> None:
    leader.node_ca.answer = "y" * (5 * 2**20)
    async with follower.anonymous() as channel:
        assert (await issue(channel)).node_id == leader.node_ca.answer


async def test_the_leaders_error_is_the_callers_in_calls_and_in_streams(
    leader: ServedApi, follower: ServedApi
) -> None:
    async def fail() -> None:
        raise failed_precondition("not while it rains")

    leader.dispatcher.behave = fail
    async with follower.channel(follower.authority.worker()) as channel:
        seen = await failure(beat(channel))
        stream = DispatcherStub(channel).Session(api.SessionRequest(), timeout=10)
        await stream.read()
        streamed = await failure(stream.read())
    for error in (seen, streamed):
        assert (error.code(), error.details()) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            "not while it rains",
        )


async def test_the_callers_deadline_holds_at_the_leader(leader: ServedApi, follower: ServedApi) -> None:
    async with follower.local() as channel:
        await create(channel, timeout=7)
        assert leader.control_api.time_remaining is not None
        assert 5 < leader.control_api.time_remaining < 7.1  # gRPC rounds up on the way
        await create(channel, timeout=None)
        assert leader.control_api.time_remaining is None


@pytest.mark.parametrize("end", ["deadline", "cancel"])
async def test_a_caller_that_gives_up_ends_its_call_at_the_leader(
    leader: ServedApi, follower: ServedApi, end: str
) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with follower.local() as channel:
        await create(channel)  # what a first call takes to connect is no part of the deadline
        leader.control_api.behave = hang
        call = asyncio.ensure_future(create(channel, timeout=0.5 if end == "deadline" else 30))
        await begun.wait()
        if end == "cancel":
            call.cancel()
        await asyncio.wait([call])
        await ended.wait()


async def test_a_stream_whose_client_leaves_ends_at_the_leader(
    leader: ServedApi, follower: ServedApi
) -> None:
    leader.dispatcher.behave = asyncio.Event().wait  # type: ignore[assignment]
    channel = follower.channel(follower.authority.worker())
    stream = DispatcherStub(channel).Session(api.SessionRequest())
    await stream.read()
    await channel.close()
    await leader.dispatcher.session_ended.wait()
    counted = ("/docker.swarmkit.v1.Dispatcher/Session", "CANCELLED")
    await eventually(lambda: follower.server.counts[counted] == leader.server.counts[counted] == 1)


async def test_a_stale_idea_of_the_leader_costs_a_wait_not_the_call(swarm: Swarm) -> None:
    swarm.lead(2)
    swarm.leaders[1].set(swarm.remote(0))
    async with swarm.managers[1].local() as channel:
        call = asyncio.ensure_future(create(channel, "web"))
        refused = ("/docker.swarmkit.v1.Control/CreateService", "RESOURCE_EXHAUSTED")
        await eventually(lambda: swarm.managers[0].server.counts[refused] > 0)
        swarm.lead(2)
        await call
    assert [manager.control_api.created for manager in swarm.managers] == [[], [], ["web"]]


async def test_a_call_waits_through_an_election_and_then_goes_to_the_new_leader(swarm: Swarm) -> None:
    for leaders in swarm.leaders:
        leaders.set()
    async with swarm.managers[1].local() as channel:
        call = asyncio.ensure_future(create(channel, "web"))
        await asyncio.sleep(0.1)
        swarm.lead(2)
        await call
    assert swarm.managers[2].control_api.created == ["web"]


async def test_a_call_that_waited_runs_here_as_if_it_had_come_directly(swarm: Swarm) -> None:
    manager = swarm.managers[1]
    for leaders in swarm.leaders:
        leaders.set()
    async with manager.channel(manager.authority.worker("worker-1")) as remote, manager.local() as local:
        calls = [asyncio.ensure_future(beat(remote)), asyncio.ensure_future(create(local))]
        await asyncio.sleep(0.1)
        swarm.lead(1)
        await asyncio.gather(*calls)
    assert manager.dispatcher.caller.node_id == "worker-1"
    assert not manager.dispatcher.caller.forwarded_by
    assert manager.control_api.caller.local


async def test_a_node_demoted_during_the_wait_is_refused_when_its_turn_comes(swarm: Swarm) -> None:
    manager = swarm.managers[1]
    for leaders in swarm.leaders:
        leaders.set()
    async with manager.channel(manager.authority.manager("manager-7")) as channel:
        call = asyncio.ensure_future(failure(create(channel)))
        await asyncio.sleep(0.1)
        manager.demoted.add("manager-7")
        swarm.lead(1)
        assert ((await call).details() or "").endswith("node manager-7 is no longer a manager")


async def test_a_deposed_leader_that_does_not_know_it_answers_no_control_call(swarm: Swarm) -> None:
    swarm.leaders[0].certain = False
    async with swarm.managers[0].local() as channel:
        call = asyncio.ensure_future(read(channel))
        await eventually(lambda: swarm.leaders[0].confirmations > 0)
        swarm.lead(2)
        await call
    assert [manager.control_api.reads for manager in swarm.managers] == [0, 0, 1]


async def test_every_control_call_is_confirmed_before_it_runs_and_no_other(swarm: Swarm) -> None:
    manager = swarm.managers[0]
    async with manager.local() as channel:
        await read(channel)
        await create(channel)
        await beat(channel)
        await issue(channel)
    assert swarm.leaders[0].confirmations == 2


@pytest.mark.parametrize("kind", ["read", "write"])
async def test_a_leader_that_dies_under_a_call(swarm: Swarm, kind: str) -> None:
    begun = asyncio.Event()

    async def hang() -> None:
        begun.set()
        await asyncio.Event().wait()

    swarm.managers[0].control_api.behave = hang
    async with swarm.managers[1].local() as channel:
        call = read(channel) if kind == "read" else failure(create(channel))
        answer = asyncio.ensure_future(call)
        await begun.wait()
        await swarm.managers[0].server.stop()
        await asyncio.sleep(0.1)
        swarm.lead(2)
        error = await answer
    reads = [manager.control_api.reads for manager in swarm.managers]
    created = [manager.control_api.created for manager in swarm.managers]
    if kind == "read":
        assert reads == [1, 0, 1]
    else:
        assert isinstance(error, grpc.aio.AioRpcError)
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert (error.details() or "").startswith(LOST_TEXT)
        assert created == [["web"], [], []]


async def test_a_stream_under_which_the_leader_dies_ends_with_an_error(swarm: Swarm) -> None:
    swarm.managers[0].dispatcher.behave = asyncio.Event().wait  # type: ignore[assignment]
    async with swarm.managers[1].channel(swarm.authority.worker()) as channel:
        stream = DispatcherStub(channel).Session(api.SessionRequest(), timeout=10)
        await stream.read()
        await swarm.managers[0].server.stop()
        assert (await failure(stream.read())).code() is grpc.StatusCode.UNAVAILABLE


async def test_a_leader_that_is_not_running_is_never_sent_anything_and_its_calls_are_repeated(
    swarm: Swarm,
) -> None:
    await swarm.managers[0].server.stop()
    async with swarm.managers[1].local() as channel:
        call = asyncio.ensure_future(create(channel))
        await asyncio.sleep(0.2)
        swarm.lead(2)
        await call
    assert swarm.managers[2].control_api.created == ["web"]


async def test_a_manager_with_another_node_id_at_the_leaders_address_gets_no_call(swarm: Swarm) -> None:
    swarm.leaders[1].set(Remote("manager-0", swarm.managers[2].remote.address))
    async with swarm.managers[1].local() as channel:
        assert (await failure(create(channel, timeout=0.7))).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    refused = [key for key in swarm.managers[2].server.counts if "Create" in key[0]]
    assert refused == []


async def test_stop_ends_streams_at_the_leader_at_once_and_leaves_nothing(
    swarm: Swarm, leader: ServedApi, follower: ServedApi
) -> None:
    leader.dispatcher.behave = asyncio.Event().wait  # type: ignore[assignment]
    before = asyncio.all_tasks()
    async with follower.channel(follower.authority.worker()) as channel:
        stream = DispatcherStub(channel).Session(api.SessionRequest(), timeout=20)
        await stream.read()
        stopping = asyncio.ensure_future(follower.server.stop())
        error = await failure(stream.read())
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert (error.details() or "").endswith(STOPPING_TEXT)
        await stopping
        await leader.dispatcher.session_ended.wait()
    await eventually(lambda: not [t for t in asyncio.all_tasks() - before if "forward" in t.get_name()])
    assert follower.server._forwarder._links._all == set()
