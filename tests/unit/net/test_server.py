"""The wrapper around every handler, on real connections (contract/security.md, 15; tests 18, 22, 53, 81)."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from swarmkit.api import messages as api
from swarmkit.api.ca_pb2_grpc import CAStub
from swarmkit.api.control_pb2_grpc import ControlStub
from swarmkit.api.dispatcher_pb2_grpc import DispatcherStub
from swarmkit.api.logbroker_pb2_grpc import LogBrokerStub
from swarmkit.api.raft_pb2_grpc import RaftMembershipStub
from swarmkit.clock import SystemClock
from swarmkit.net import channels
from swarmkit.net.errors import RpcError, failed_precondition
from swarmkit.net.server import ANONYMOUS_CALLS, MAX_RECEIVE_BYTES, ApiServer
from tests.unit.net.harness import ServedApi, eventually, failure, health, issue

pytestmark = pytest.mark.real_time

HEARTBEAT = "/docker.swarmkit.v1.Dispatcher/Heartbeat"


@pytest_asyncio.fixture
async def served(tmp_path: Path) -> AsyncIterator[ServedApi]:
    async with ServedApi(tmp_path) as api_server:
        yield api_server


async def beat(channel: grpc.aio.Channel, **options: Any) -> api.HeartbeatResponse:
    return await DispatcherStub(channel).Heartbeat(api.HeartbeatRequest(), timeout=10, **options)


async def test_a_node_calls_under_the_identity_of_its_certificate(served: ServedApi) -> None:
    async with served.channel(served.authority.worker("worker-1")) as channel:
        await beat(channel)
    caller = served.dispatcher.caller
    assert (caller.node_id, caller.roles) == ("worker-1", frozenset({"swarm-worker"}))
    assert caller.from_loopback
    assert not caller.local


async def test_a_call_over_the_control_socket_is_this_managers_own(served: ServedApi) -> None:
    async with served.local() as channel:
        await beat(channel)
        assert (await health(channel, "ControlAPI")).status == api.HealthCheckResponse.NOT_SERVING
        assert (await failure(health(channel, "Raft"))).code() is grpc.StatusCode.NOT_FOUND
    caller = served.dispatcher.caller
    assert caller.local
    assert (caller.node_id, caller.roles) == ("manager-1", frozenset({"swarm-manager"}))
    assert caller.remote_addr == served.remote.address


async def test_health_on_the_port_is_for_managers_and_knows_raft(served: ServedApi) -> None:
    async with served.channel(served.authority.manager("manager-2")) as channel:
        assert (await health(channel)).status == api.HealthCheckResponse.SERVING
        assert (await health(channel, "Raft")).status == api.HealthCheckResponse.NOT_SERVING
        unknown = await failure(health(channel, "ControlAPI"))
    assert (unknown.code(), unknown.details()) == (grpc.StatusCode.NOT_FOUND, "unknown service")
    async with served.channel(served.authority.worker()) as channel:
        assert (await failure(health(channel))).code() is grpc.StatusCode.PERMISSION_DENIED


async def test_without_a_certificate_open_calls_answer_and_guarded_ones_refuse(served: ServedApi) -> None:
    async with served.anonymous() as channel:
        await issue(channel)
        refused = await failure(beat(channel))
    assert served.node_ca.caller.anonymous
    assert served.node_ca.caller.from_loopback
    assert refused.code() is grpc.StatusCode.PERMISSION_DENIED
    assert refused.details() == (
        "Permission denied: unauthorized peer role: "
        "rpc error: code = PermissionDenied desc = no client certificates in request"
    )


async def test_a_removed_node_is_refused_from_then_on_over_its_open_connection(served: ServedApi) -> None:
    async with served.channel(served.authority.worker("worker-1")) as channel:
        await beat(channel)
        served.removed.add("worker-1")
        refused = await failure(beat(channel))
        await issue(channel)
    assert "node worker-1 was removed from swarm" in (refused.details() or "")
    assert served.node_ca.caller.anonymous


async def test_a_worker_cannot_pass_itself_off_as_a_forwarded_manager(served: ServedApi) -> None:
    metadata = (
        ("forwarded_cert", "true"),
        ("forwarded_cert_cn", "manager-1"),
        ("forwarded_cert_org", served.holder.current.organization),
        ("forwarded_cert_ou", "swarm-manager"),
    )
    async with served.channel(served.authority.worker()) as channel:
        assert (await failure(beat(channel, metadata=metadata))).code() is grpc.StatusCode.PERMISSION_DENIED
    async with served.channel(served.authority.manager("manager-2")) as channel:
        await beat(channel, metadata=metadata)
    assert served.dispatcher.caller.node_id == "manager-1"
    assert served.dispatcher.caller.forwarded_by == "manager-2"


async def test_a_stream_of_answers_keeps_its_caller_and_ends_cleanly(served: ServedApi) -> None:
    async with served.channel(served.authority.worker("worker-1")) as channel:
        stream = DispatcherStub(channel).Session(api.SessionRequest(), timeout=10)
        assert [message.session_id async for message in stream] == ["worker-1", "worker-1"]
    assert served.dispatcher.session_ended.is_set()


async def test_a_stream_of_requests_has_its_caller(served: ServedApi) -> None:
    async def messages() -> AsyncIterator[api.PublishLogsMessage]:
        for number in range(3):
            yield api.PublishLogsMessage(subscription_id=str(number))

    async with served.channel(served.authority.worker("worker-1")) as channel:
        await LogBrokerStub(channel).PublishLogs(messages(), timeout=10)
    assert served.log_broker.published == ["worker-1:0", "worker-1:1", "worker-1:2"]


async def test_a_stream_whose_client_leaves_is_ended_at_once(served: ServedApi) -> None:
    served.dispatcher.behave = asyncio.Event().wait  # type: ignore[assignment]
    channel = served.channel(served.authority.worker())
    stream = DispatcherStub(channel).Session(api.SessionRequest())
    await stream.read()
    await served.dispatcher.session_open.wait()
    await channel.close()
    async with asyncio.timeout(10):
        await served.dispatcher.session_ended.wait()
    await eventually(lambda: served.server.counts["/docker.swarmkit.v1.Dispatcher/Session", "CANCELLED"] == 1)


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (
            failed_precondition("not while it rains"),
            grpc.StatusCode.FAILED_PRECONDITION,
            "not while it rains",
        ),
        (RpcError(grpc.StatusCode.ABORTED, "x" * 9000), grpc.StatusCode.ABORTED, "x" * 1999 + "…"),
        (
            TimeoutError("secret"),
            grpc.StatusCode.DEADLINE_EXCEEDED,
            "the manager could not finish this in time",
        ),
        (
            ValueError("secret"),
            grpc.StatusCode.INTERNAL,
            "internal error: the manager's log has the details",
        ),
    ],
)
async def test_what_a_handler_raises_becomes_a_status_and_nothing_leaks(
    served: ServedApi, caplog: pytest.LogCaptureFixture, error: Exception, code: grpc.StatusCode, text: str
) -> None:
    async def fail() -> None:
        raise error

    served.dispatcher.behave = fail
    async with served.channel(served.authority.worker()) as channel:
        seen = await failure(beat(channel))
        stream = DispatcherStub(channel).Session(api.SessionRequest(), timeout=10)
        await stream.read()
        streamed = await failure(stream.read())
    assert (seen.code(), seen.details()) == (streamed.code(), streamed.details()) == (code, text)
    assert served.server.counts[HEARTBEAT, code.name] == 1
    unexpected = isinstance(error, ValueError)
    traced = [record for record in caplog.records if record.exc_info]
    assert bool(traced) is unexpected
    assert all(record.levelno == logging.ERROR for record in traced)


async def test_a_call_of_the_contract_that_is_not_served_says_so_but_only_to_those_who_may(
    served: ServedApi,
) -> None:
    async with served.local() as channel:
        refused = await failure(ControlStub(channel).ListNodes(api.ListNodesRequest(), timeout=10))
        assert refused.code() is grpc.StatusCode.UNIMPLEMENTED
        assert refused.details() == "this manager does not serve Control/ListNodes"
    async with served.channel(served.authority.manager("manager-2")) as channel:
        refused = await failure(RaftMembershipStub(channel).Join(api.JoinRequest(), timeout=10))
        assert refused.code() is grpc.StatusCode.UNIMPLEMENTED
        assert "can be a worker of this swarm, not a manager" in (refused.details() or "")
        unlock = await failure(CAStub(channel).GetUnlockKey(api.GetUnlockKeyRequest(), timeout=10))
        assert unlock.code() is grpc.StatusCode.UNIMPLEMENTED
    async with served.channel(served.authority.worker()) as channel:
        refused = await failure(ControlStub(channel).ListNodes(api.ListNodesRequest(), timeout=10))
        assert refused.code() is grpc.StatusCode.PERMISSION_DENIED
        stream = DispatcherStub(channel).Assignments(api.AssignmentsRequest(), timeout=10)
        assert await stream.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_method_nobody_knows_is_unimplemented(served: ServedApi) -> None:
    async with served.local() as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/docker.swarmkit.v1.Control/Explode"
        )
        assert (await failure(call(b"", timeout=10))).code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_servicer_without_entries_in_the_table_cannot_be_added(served: ServedApi) -> None:
    def register(servicer: object, server: Any) -> None:
        server.add_registered_method_handlers("some.Service", {"Call": servicer})

    server = ApiServer(served.holder, SystemClock(), is_blacklisted=lambda _: False)
    with pytest.raises(ValueError, match=r"/some\.Service/Call has no entry in the authorisation table"):
        server.add(register, object())


async def test_nobody_is_served_who_did_not_come_through_a_gateway(served: ServedApi) -> None:
    directory = served.server._directory
    assert directory is not None
    for name in ("local", "remote"):
        async with channels.unix_channel(directory / name) as channel:
            refused = await failure(issue(channel))
        assert refused.details() == "Permission denied: this server is reached through its gateway only"


async def test_requests_up_to_4_mib_pass_and_larger_ones_are_refused(served: ServedApi) -> None:
    async with served.local() as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(HEARTBEAT)
        fits = api.HeartbeatRequest(session_id="x" * (MAX_RECEIVE_BYTES - 16)).SerializeToString()
        await call(fits, timeout=10)
        refused = await failure(call(fits + fits, timeout=10))
    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_answers_are_not_limited_in_either_direction(served: ServedApi) -> None:
    served.node_ca.answer = "y" * (MAX_RECEIVE_BYTES + 2**20)
    async with served.channel(served.authority.worker()) as remote, served.local() as local:
        for channel in (remote, local):
            assert (await issue(channel)).node_id == served.node_ca.answer


async def test_a_connection_without_certificate_has_a_bounded_number_of_calls(served: ServedApi) -> None:
    served.node_ca.release.clear()
    async with served.anonymous() as channel:
        waiting = [asyncio.ensure_future(issue(channel)) for _ in range(ANONYMOUS_CALLS)]
        await eventually(lambda: served.node_ca.waiting == ANONYMOUS_CALLS)
        one_more = await failure(issue(channel))
        served.node_ca.release.set()
        await asyncio.gather(*waiting)
        await issue(channel)
    assert one_more.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_stop_lets_calls_in_flight_end_and_refuses_new_ones(tmp_path: Path) -> None:
    async with ServedApi(tmp_path, stop_grace_seconds=5) as served:
        served.node_ca.release.clear()
        async with served.anonymous() as channel:
            call = asyncio.ensure_future(issue(channel))
            await eventually(lambda: served.node_ca.waiting == 1)
            stopping = asyncio.ensure_future(served.server.stop())
            await asyncio.sleep(0.05)
            async with served.anonymous() as late:
                assert (await failure(issue(late))).code() is grpc.StatusCode.UNAVAILABLE
            served.node_ca.release.set()
            await call
            await stopping
    assert not served.socket_path.exists()


async def test_stop_cuts_what_does_not_end_by_itself(tmp_path: Path) -> None:
    served = ServedApi(tmp_path, stop_grace_seconds=0.1)
    async with served:
        served.dispatcher.behave = asyncio.Event().wait  # type: ignore[assignment]
        async with served.channel(served.authority.worker()) as channel:
            stream = DispatcherStub(channel).Session(api.SessionRequest())
            await stream.read()
            async with asyncio.timeout(5):
                await served.server.stop()
            assert (await failure(stream.read())).code() in (
                grpc.StatusCode.UNAVAILABLE,
                grpc.StatusCode.CANCELLED,
            )
    assert served.dispatcher.session_ended.is_set()
