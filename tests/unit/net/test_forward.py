"""Where a call runs, on virtual time (contract/raft-store-manager.md, 16; contract/security.md, 15.2)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
import pytest_asyncio

from swarmkit.ca.credentials import Credentials, CredentialsHolder
from swarmkit.net.authorization import TABLE, Peer
from swarmkit.net.errors import RpcError
from swarmkit.net.forward import (
    LOST_TEXT,
    NO_LEADER_SECONDS,
    NO_LEADER_TEXT,
    REPEATABLE,
    RETRY_SECONDS,
    STOPPING_TEXT,
    Failure,
    Forwarder,
    Incoming,
    failure_of,
    outgoing_metadata,
    refuse_second_redirect,
)
from swarmkit.net.remotes import Remote
from swarmkit.net.upstream import SUPERSEDED_GRACE_SECONDS, PassedCall
from tests.fakes.leaders import FakeLeaders
from tests.fakes.loop import VirtualClock
from tests.unit.net.fake_upstream import FakeChannel, rpc_error

WRITE = "/docker.swarmkit.v1.Control/CreateService"
READ = "/docker.swarmkit.v1.Control/ListServices"
OPEN = "/docker.swarmkit.v1.NodeCA/IssueNodeCertificate"
A, B = Remote("manager-a", "10.0.0.1:4242"), Remote("manager-b", "10.0.0.2:4242")
OWN = Credentials(b"", b"", b"", "manager-x", "swarm-manager", "cluster-1")
WORKER = Peer("w1", frozenset({"swarm-worker", "extra"}), "cluster-1", "10.0.0.9:9")
REFUSED = rpc_error(grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses; last error: refused")
BROKEN = rpc_error(grpc.StatusCode.UNAVAILABLE, "Socket closed")
NOT_THERE = rpc_error(grpc.StatusCode.RESOURCE_EXHAUSTED, "more than one redirect to leader from: 10.0.0.9:9")


class FakeContext:
    """The server side of one call."""

    def __init__(self, remaining: float | None) -> None:
        self._remaining = remaining

    def time_remaining(self) -> float | None:
        return self._remaining


class Desk:
    """A forwarder whose channels are fakes, one for each leader it ever connects to."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.leaders = FakeLeaders()
        self.holder = CredentialsHolder(OWN)
        self.channels: list[FakeChannel] = []
        self.behave: dict[Remote, Callable[[], Awaitable[bytes]]] = {}
        self.forwarder = Forwarder(self.leaders, self.holder, clock, self._connect)
        self.ran_here = 0

    def _connect(self, leader: Remote, credentials: Credentials) -> Any:
        channel = FakeChannel(leader, credentials, self.behave.get(leader, answer))
        self.channels.append(channel)
        return channel

    def at(self, leader: Remote) -> int:
        """How many calls reached a manager."""
        return sum(len(channel.calls) for channel in self.channels if channel.leader == leader)

    async def call(
        self,
        method: str = WRITE,
        remaining: float | None = None,
        metadata: tuple[tuple[str, str], ...] = (),
        confirm: bool = False,
    ) -> Any:
        async def run_here() -> str:
            self.ran_here += 1
            return "here"

        context: Any = FakeContext(remaining)
        passed = PassedCall(method, (False, False), b"request", context, metadata)
        return await self.forwarder.place(Incoming(passed, WORKER, "10.0.0.1:1", confirm, run_here))

    def begin(self, *args: Any, **options: Any) -> "asyncio.Task[Any]":
        return asyncio.get_running_loop().create_task(self.call(*args, **options))

    async def refusal(self, *args: Any, **options: Any) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(RpcError) as caught:
            await self.call(*args, **options)
        return caught.value.code, caught.value.text


async def answer() -> bytes:
    return b"answer"


def failing(error: BaseException) -> Callable[[], Awaitable[bytes]]:
    async def fail() -> bytes:
        raise error

    return fail


async def never() -> bytes:
    await asyncio.Event().wait()
    return b""


@pytest_asyncio.fixture
async def desk(clock: VirtualClock) -> AsyncIterator[Desk]:
    made = Desk(clock)
    made.forwarder.start()
    yield made
    await made.forwarder.close()
    assert all(channel.closed for channel in made.channels)


def test_what_may_be_repeated_changes_nothing_and_is_unary() -> None:
    names = {method.rpartition("/")[2] for method in REPEATABLE}
    assert names - {"GetRootCACertificate", "GetUnlockKey", "NodeCertificateStatus"} == {
        *(f"Get{kind}" for kind in ("Node", "Task", "Service", "Network", "Cluster")),
        *(f"Get{kind}" for kind in ("Secret", "Config", "Extension", "Resource", "Volume")),
        *(f"List{kind}s" for kind in ("Node", "Task", "Service", "Network", "Cluster")),
        *(f"List{kind}s" for kind in ("Secret", "Config", "Resource", "Volume")),
        "ListServiceStatuses",
    }
    assert set(TABLE) > REPEATABLE


def test_the_forwarded_keys_are_the_peers_whatever_the_caller_sent() -> None:
    sent: list[tuple[str, str | bytes]] = [
        ("redirect", "1.2.3.4:5"),
        ("remote_addr", "1.2.3.4:5"),
        ("forwarded_cert", "false"),
        ("forwarded_cert_cn", "manager-a"),
        ("forwarded_cert_ou", "swarm-manager"),
        ("trace-id", "7"),
        ("blob-bin", b"\x00\xff"),
    ]
    assert outgoing_metadata(WORKER, "", sent) == [
        ("trace-id", "7"),
        ("blob-bin", b"\x00\xff"),
        ("redirect", "10.0.0.9:9"),
        ("forwarded_cert", "true"),
        ("forwarded_cert_cn", "w1"),
        ("forwarded_cert_org", "cluster-1"),
        ("forwarded_cert_ou", "extra"),
        ("forwarded_cert_ou", "swarm-worker"),
        ("remote_addr", "10.0.0.9:9"),
    ]


def test_a_caller_without_certificate_gets_blank_forwarded_keys() -> None:
    assert outgoing_metadata(Peer(remote_addr="10.0.0.9:9"), "", []) == [
        ("redirect", "10.0.0.9:9"),
        ("forwarded_cert", "true"),
        ("forwarded_cert_cn", ""),
        ("forwarded_cert_org", ""),
        ("remote_addr", "10.0.0.9:9"),
    ]


def test_a_call_over_the_control_socket_goes_out_as_the_managers_own() -> None:
    local = Peer(local=True)
    sent = [("forwarded_cert", "true"), ("forwarded_cert_cn", "w1"), ("trace-id", "7")]
    assert outgoing_metadata(local, "10.0.0.1:1", sent) == [("trace-id", "7"), ("redirect", "10.0.0.1:1")]


def test_headers_of_the_connection_and_of_grpc_are_not_copied() -> None:
    sent = [(name, "x") for name in (":path", "grpc-timeout", "grpc-encoding", "user-agent", "te", "host")]
    assert outgoing_metadata(Peer(local=True), "a", sent) == [("redirect", "a")]


@pytest.mark.parametrize(
    ("metadata", "origins"),
    [
        ([("redirect", "10.0.0.9:9")], "10.0.0.9:9"),
        ([("redirect", "a"), ("redirect", "b")], "a, b"),
        ([("forwarded_cert", "true")], "unknown"),
        ([("forwarded_cert", "no"), ("forwarded_cert", "true")], "unknown"),
    ],
)
def test_either_mark_of_a_redirect_refuses_a_second_one(
    metadata: list[tuple[str, str | bytes]], origins: str
) -> None:
    with pytest.raises(RpcError, match=f"^more than one redirect to leader from: {origins}$") as caught:
        refuse_second_redirect(metadata)
    assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    refuse_second_redirect([("trace-id", "7")])


@pytest.mark.parametrize(
    ("code", "details", "failure"),
    [
        (grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses; last error: ...", "NEVER_RAN"),
        (grpc.StatusCode.UNAVAILABLE, "DNS resolution failed for x", "NEVER_RAN"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "more than one redirect to leader from: a", "NEVER_RAN"),
        (grpc.StatusCode.UNAVAILABLE, "Socket closed", "LOST"),
        (grpc.StatusCode.UNAVAILABLE, "Cancelling all calls", "LOST"),
        (grpc.StatusCode.CANCELLED, "", "LOST"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "too many", "ANSWERED"),
        (grpc.StatusCode.NOT_FOUND, "failed to connect to all addresses", "ANSWERED"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", "ANSWERED"),
    ],
)
def test_only_what_was_certainly_not_executed_counts_as_never_run(
    code: grpc.StatusCode, details: str, failure: str
) -> None:
    assert failure_of(rpc_error(code, details)) is Failure[failure]


async def test_a_call_runs_here_while_this_manager_leads(desk: Desk) -> None:
    desk.leaders.set(leading=True)
    assert await desk.call() == "here"
    assert desk.leaders.confirmations == 0


async def test_a_call_goes_to_the_known_leader_with_the_callers_deadline_and_identity(desk: Desk) -> None:
    desk.leaders.set(A)
    assert await desk.call(remaining=7.5, metadata=(("trace-id", "7"),)) == b"answer"
    [call] = desk.channels[0].calls
    assert (call.method, call.request, call.timeout) == (WRITE, b"request", 7.5)
    assert ("trace-id", "7") in call.metadata
    assert ("forwarded_cert_cn", "w1") in call.metadata


async def test_the_channel_is_kept_for_the_next_call_and_carries_the_own_credentials(desk: Desk) -> None:
    desk.leaders.set(A)
    await desk.call()
    await desk.call()
    assert [(channel.leader, channel.credentials) for channel in desk.channels] == [(A, OWN)]


@pytest.mark.parametrize("change", ["leader", "address", "credentials"])
async def test_the_channel_is_dropped_when_leader_address_or_credentials_change(
    desk: Desk, change: str
) -> None:
    desk.leaders.set(A)
    await desk.call()
    if change == "credentials":
        desk.holder.replace(Credentials(b"new", b"", b"", "manager-x", "swarm-manager", "cluster-1"))
    else:
        desk.leaders.set(B if change == "leader" else Remote(A.node_id, "10.0.0.7:4242"))
    await desk.call()
    await asyncio.sleep(0)
    assert [channel.closed for channel in desk.channels] == [True, False]


async def test_a_call_under_way_survives_new_credentials_and_then_its_channel_goes(desk: Desk) -> None:
    done = asyncio.Event()

    async def later() -> bytes:
        await done.wait()
        return b"late"

    desk.behave[A] = later
    desk.leaders.set(A)
    call = desk.begin()
    await asyncio.sleep(0.1)
    desk.holder.replace(Credentials(b"new", b"", b"", "manager-x", "swarm-manager", "cluster-1"))
    other = desk.begin()
    await asyncio.sleep(30)
    assert len(desk.channels) == 2
    assert not desk.channels[0].closed
    done.set()
    assert [await call, await other] == [b"late", b"late"]
    await asyncio.sleep(0.1)
    assert [channel.closed for channel in desk.channels] == [True, False]


async def test_a_call_that_meets_an_election_waits_for_the_new_leader(
    desk: Desk, clock: VirtualClock
) -> None:
    desk.leaders.leaderless_since = clock.monotonic()
    begun = clock.monotonic()
    call = desk.begin(remaining=20.0)
    await asyncio.sleep(2.25)
    desk.leaders.set(B)
    assert await call == b"answer"
    assert clock.monotonic() - begun == pytest.approx(2.25)


async def test_a_call_runs_here_if_this_manager_wins_the_election(desk: Desk) -> None:
    call = desk.begin()
    await asyncio.sleep(1)
    desk.leaders.set(leading=True)
    assert await call == "here"


async def test_a_swarm_without_a_leader_for_10_seconds_fails_calls_at_once(
    desk: Desk, clock: VirtualClock
) -> None:
    desk.leaders.leaderless_since = clock.monotonic()
    no_leader = (grpc.StatusCode.UNAVAILABLE, NO_LEADER_TEXT)
    begun = clock.monotonic()
    assert await desk.refusal(remaining=60.0) == no_leader
    assert clock.monotonic() - begun == pytest.approx(NO_LEADER_SECONDS)
    assert await desk.refusal(remaining=60.0) == no_leader
    assert clock.monotonic() - begun == pytest.approx(NO_LEADER_SECONDS)


async def test_the_callers_deadline_ends_the_wait(desk: Desk, clock: VirtualClock) -> None:
    desk.leaders.leaderless_since = begun = clock.monotonic()
    assert (await desk.refusal(remaining=1.25))[0] is grpc.StatusCode.DEADLINE_EXCEEDED
    assert clock.monotonic() - begun == pytest.approx(1.25)


async def test_a_caller_without_deadline_waits_no_longer_than_a_swarm_may_be_leaderless(
    desk: Desk, clock: VirtualClock
) -> None:
    begun = clock.monotonic()
    call = asyncio.ensure_future(desk.refusal())
    while not call.done():
        assert clock.monotonic() - begun < 2 * NO_LEADER_SECONDS
        await asyncio.sleep(1.3)
        desk.leaders.leaderless_since = clock.monotonic()  # elections follow each other
        desk.leaders.set()
    assert await call == (grpc.StatusCode.UNAVAILABLE, NO_LEADER_TEXT)
    assert clock.monotonic() - begun < NO_LEADER_SECONDS + 1.3


async def test_a_call_that_was_passed_on_is_not_passed_on_again(desk: Desk) -> None:
    desk.leaders.set(A)
    code, _ = await desk.refusal(metadata=(("redirect", "10.0.0.9:9"),))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert desk.channels == []


async def test_a_call_that_was_passed_on_waits_for_a_manager_that_takes_over(desk: Desk) -> None:
    desk.leaders.set(A, taking_over=True)  # what it knew of a leader before is void
    call = desk.begin(metadata=(("redirect", "10.0.0.9:9"),))
    await asyncio.sleep(1)
    desk.leaders.set(leading=True)
    assert await call == "here"
    desk.leaders.set(taking_over=True)
    call = desk.begin(metadata=(("redirect", "10.0.0.9:9"),))
    await asyncio.sleep(1)
    desk.leaders.set(A)
    with pytest.raises(RpcError, match="more than one redirect"):
        await call
    assert desk.channels == []


async def test_a_leader_answers_what_must_be_certain_only_when_it_is(desk: Desk) -> None:
    desk.leaders.set(leading=True)
    assert await desk.call(READ, confirm=True) == "here"
    assert desk.leaders.confirmations == 1
    desk.leaders.certain = False
    call = desk.begin(READ, confirm=True)
    await asyncio.sleep(0.1)
    assert desk.ran_here == 1
    desk.leaders.set(B)
    assert await call == b"answer"
    assert desk.ran_here == 1


@pytest.mark.parametrize("error", [REFUSED, NOT_THERE])
@pytest.mark.parametrize("method", [WRITE, READ, OPEN])
async def test_a_call_that_certainly_did_not_run_is_repeated_at_the_next_leader(
    desk: Desk, clock: VirtualClock, method: str, error: grpc.aio.AioRpcError
) -> None:
    desk.behave[A] = failing(error)
    desk.leaders.set(A)
    begun = clock.monotonic()
    call = desk.begin(method)
    await asyncio.sleep(RETRY_SECONDS / 2)
    desk.leaders.set(B)
    assert await call == b"answer"
    assert (desk.at(A), desk.at(B)) == (1, 1)
    assert clock.monotonic() - begun == pytest.approx(RETRY_SECONDS / 2)


async def test_a_leader_that_cannot_be_connected_is_tried_anew_at_a_measured_pace(
    desk: Desk, clock: VirtualClock
) -> None:
    desk.behave[A] = failing(REFUSED)
    desk.leaders.set(A)
    code, text = await desk.refusal()
    assert code is grpc.StatusCode.UNAVAILABLE
    assert text == "the leader cannot be reached: cannot connect to 10.0.0.1:4242: " + (
        REFUSED.details() or ""
    )
    tries = NO_LEADER_SECONDS / RETRY_SECONDS + 1
    assert len(desk.channels) == desk.at(A) == tries  # a channel of its own each: gRPC would not try at once


async def test_a_read_under_which_the_leader_is_lost_is_repeated_at_the_next_one(desk: Desk) -> None:
    desk.behave[A] = failing(BROKEN)
    desk.leaders.set(A)
    call = desk.begin(READ)
    await asyncio.sleep(0.1)
    desk.leaders.set(B)
    assert await call == b"answer"


@pytest.mark.parametrize("method", [WRITE, OPEN])
async def test_a_write_under_which_the_leader_is_lost_is_not_repeated_and_says_why(
    desk: Desk, method: str
) -> None:
    desk.behave[A] = failing(BROKEN)
    desk.leaders.set(A)
    code, text = await desk.refusal(method)
    assert code is grpc.StatusCode.UNAVAILABLE
    assert text.startswith(LOST_TEXT)
    assert desk.at(A) == 1


async def test_the_leaders_own_error_is_the_callers(desk: Desk) -> None:
    desk.behave[A] = failing(rpc_error(grpc.StatusCode.ALREADY_EXISTS, "name\nconflicts"))
    desk.leaders.set(A)
    assert await desk.refusal() == (grpc.StatusCode.ALREADY_EXISTS, "name\nconflicts")
    assert desk.at(A) == 1


async def test_a_leader_that_hangs_is_given_up_when_another_one_leads(
    desk: Desk, clock: VirtualClock
) -> None:
    desk.behave[A] = never
    desk.leaders.set(A)
    read, write = desk.begin(READ), desk.begin(WRITE)
    await asyncio.sleep(5)
    desk.leaders.set()
    await asyncio.sleep(5)
    assert not read.done()
    assert not write.done()
    begun = clock.monotonic()
    desk.leaders.set(B)
    assert await read == b"answer"
    with pytest.raises(RpcError, match=LOST_TEXT):
        await write
    assert clock.monotonic() - begun == pytest.approx(SUPERSEDED_GRACE_SECONDS)
    await asyncio.sleep(0.1)
    assert desk.channels[0].closed


async def test_an_answer_that_was_on_its_way_when_another_manager_won_still_arrives(desk: Desk) -> None:
    async def late() -> bytes:
        await asyncio.sleep(SUPERSEDED_GRACE_SECONDS / 2)
        return b"late"

    desk.behave[A] = late
    desk.leaders.set(A)
    call = desk.begin(WRITE)
    await asyncio.sleep(0)
    desk.leaders.set(B)
    assert await call == b"late"


async def test_a_caller_that_gives_up_ends_the_call_at_the_leader(desk: Desk) -> None:
    desk.behave[A] = never
    desk.leaders.set(A)
    call = desk.begin(READ)
    await asyncio.sleep(0.1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert desk.channels[0].calls[0].task.cancelled()


async def test_a_manager_that_stops_lets_nobody_wait(desk: Desk, clock: VirtualClock) -> None:
    call = desk.begin(remaining=60.0)
    await asyncio.sleep(0.1)
    begun = clock.monotonic()
    desk.forwarder.stop()
    with pytest.raises(RpcError, match=STOPPING_TEXT):
        await call
    assert clock.monotonic() - begun <= RETRY_SECONDS
    desk.leaders.set(A)
    assert await desk.refusal() == (grpc.StatusCode.UNAVAILABLE, STOPPING_TEXT)
    assert desk.channels == []


async def test_a_leader_with_a_malformed_address_counts_as_one_that_cannot_be_reached(desk: Desk) -> None:
    forwarder = Forwarder(desk.leaders, desk.holder, desk.clock)
    desk.forwarder, given = forwarder, desk.forwarder
    desk.leaders.set(Remote("manager-a", "nonsense"))
    code, text = await desk.refusal()
    desk.forwarder = given
    await forwarder.close()
    assert code is grpc.StatusCode.UNAVAILABLE
    assert text.startswith("the leader cannot be reached: 'nonsense'")
