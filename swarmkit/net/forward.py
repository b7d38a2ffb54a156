"""Where a call of a leader's service runs: here, at the leader, or, for a while, nowhere yet.

Every manager answers every call. One that does not lead passes it on unparsed, in the name of the caller, and
a call that meets an election waits for its end. Source: contract/raft-store-manager.md, 16;
contract/dispatcher-agent.md, 2; contract/security.md, 15.2.
"""

import asyncio
import dataclasses
import enum
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import grpc

from swarmkit.ca.credentials import CredentialsHolder
from swarmkit.clock import Clock
from swarmkit.log import get_logger
from swarmkit.net.address import AddressError
from swarmkit.net.authorization import PACKAGE, TABLE, Peer
from swarmkit.net.channels import describe_rpc_error
from swarmkit.net.errors import RpcError
from swarmkit.net.leaders import Leaders, NotLeadingError
from swarmkit.net.remotes import Remote
from swarmkit.net.upstream import Connect, CutError, Link, Links, Metadata, PassedCall, connect_to_leader

log = get_logger(__name__)

#: How long the swarm may be without a leader before calls fail at once: 10 ticks of the original.
NO_LEADER_SECONDS = 10.0
#: Longest pause before a call looks again who leads; a change that is noticed ends it.
RETRY_SECONDS = 0.5

NO_LEADER_TEXT = (
    "The swarm does not have a leader. It's possible that too few managers are online."
    " Make sure more than half of the managers are online."
)
LOST_TEXT = (
    "the leader was lost while this call was under way, and whether it took effect is not known:"
    " look before you repeat it"
)
STOPPING_TEXT = "this manager is stopping: ask another one"
_REDIRECT_TEXT = "more than one redirect to leader from: "

#: Unary calls that change nothing: if the leader is lost under them, the next one is asked.
REPEATABLE = frozenset(
    method
    for method in TABLE
    if method.startswith((f"/{PACKAGE}.Control/Get", f"/{PACKAGE}.Control/List", f"/{PACKAGE}.CA/Get"))
) | {f"/{PACKAGE}.NodeCA/NodeCertificateStatus"}

#: What gRPC says when it found no connection to send a call over.
_NEVER_SENT = ("failed to connect to all addresses", "errors resolving", "DNS resolution failed")
#: Metadata that is the connection's or gRPC's own; ``grpc-`` and pseudo headers go by their beginning.
_RESERVED = frozenset({"connection", "content-length", "content-type", "host", "te", "user-agent"})


class Failure(enum.Enum):
    """What the failure of a passed-on call says about its effect."""

    ANSWERED = enum.auto()
    """The leader's own word: it goes to the caller as it is."""
    NEVER_RAN = enum.auto()
    """It certainly had no effect: it was never sent, or what was asked does not lead and refused it."""
    LOST = enum.auto()
    """Nobody knows: the connection broke, or the leader stopped."""


def failure_of(error: grpc.aio.AioRpcError) -> Failure:
    """Tell how a unary call failed that was passed on."""
    details = error.details() or ""
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and details.startswith(_REDIRECT_TEXT):
        return Failure.NEVER_RAN
    if error.code() is grpc.StatusCode.UNAVAILABLE and details.startswith(_NEVER_SENT):
        return Failure.NEVER_RAN
    if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return Failure.LOST
    return Failure.ANSWERED


def outgoing_metadata(peer: Peer, own_address: str, metadata: Iterable[tuple[str, str | bytes]]) -> Metadata:
    """Return what a call carries on its way to the leader (contract/security.md, 15.2).

    A caller without a certificate gets blank ``forwarded_*`` values: without any, its call would look like
    this manager's own, as a call over the control socket is meant to.

    Args:
        peer: who called.
        own_address: where callers on the control socket appear to come from.
        metadata: what came with the call, keys in lower case.
    """
    passed = [(key, value) for key, value in metadata if not _is_ours(key) and not _is_reserved(key)]
    if peer.local:
        return [*passed, ("redirect", own_address)]
    return [
        *passed,
        ("redirect", peer.remote_addr),
        ("forwarded_cert", "true"),
        ("forwarded_cert_cn", peer.node_id),
        ("forwarded_cert_org", peer.organization),
        *(("forwarded_cert_ou", role) for role in sorted(peer.roles)),
        ("remote_addr", peer.remote_addr),
    ]


def refuse_second_redirect(metadata: Iterable[tuple[str, str | bytes]]) -> None:
    """Refuse a call that was passed on to a manager that does not lead.

    PARITY: the original loses ``redirect`` on the way, so either mark counts (contract/security.md, 15.2).

    Raises:
        RpcError: RESOURCE_EXHAUSTED, if the metadata bears a mark.
    """
    marks = [(key, value) for key, value in metadata if key in ("redirect", "forwarded_cert")]
    if marks:
        origins = ", ".join(str(value) for key, value in marks if key == "redirect")
        raise RpcError(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{_REDIRECT_TEXT}{origins or 'unknown'}")


def _is_ours(key: str) -> bool:
    return key.startswith("forwarded_") or key in ("redirect", "remote_addr")


def _is_reserved(key: str) -> bool:
    return key.startswith((":", "grpc-")) or key in _RESERVED


@dataclasses.dataclass(frozen=True)
class Incoming:
    """A call that cannot run here at once.

    Attributes:
        call: what would be passed on; its metadata is what came in.
        peer: who called.
        own_address: where callers on the control socket appear to come from.
        confirm: it may run here only after ``Leaders.confirm``.
        run_here: authorises and runs it as if it had come when this manager led already.
    """

    call: PassedCall
    peer: Peer
    own_address: str
    confirm: bool
    run_here: Callable[[], Awaitable[Any]]


class Forwarder:
    """Finds the place for calls of a leader's services; holds nothing of a call that has ended."""

    def __init__(
        self,
        leaders: Leaders,
        credentials: CredentialsHolder,
        clock: Clock,
        connect: Connect = connect_to_leader,
    ) -> None:
        self._leaders = leaders
        self._clock = clock
        self._links = Links(leaders, credentials, clock, connect)
        self._stopping = False

    def start(self) -> None:
        """Begin; end it with ``close``."""
        self._links.start()

    def stop(self) -> None:
        """Let nothing begin or wait any more and end the streams; unary calls at the leader may go on."""
        self._stopping = True
        self._links.cancel_streams()

    async def close(self) -> None:
        """End everything that is under way."""
        self.stop()
        await self._links.close()

    async def runs_here(self, confirm: bool) -> bool:
        """Tell whether this manager leads; with ``confirm``, whether that is certain."""
        if not self._leaders.leading:
            return False
        if confirm:
            try:
                await self._leaders.confirm()
            except NotLeadingError:
                return False
        return True

    async def place(self, incoming: Incoming) -> Any:
        """Run a call where the leader is, as soon as there is one.

        Once it has begun here it ends here: a handler that fails because leadership was lost under it may
        have proposed something.

        Raises:
            RpcError: it failed, there, on the way, or for want of a leader.
        """
        outgoing = None
        patience = _Patience(self._clock, incoming.call.context.time_remaining())
        while True:
            if await self.runs_here(incoming.confirm):
                return await incoming.run_here()
            leader = None
            if not (self._leaders.leading or self._leaders.taking_over):
                refuse_second_redirect(incoming.call.metadata)
                leader = self._leaders.leader
            if leader is not None and not self._stopping:
                if outgoing is None:
                    outgoing = _outgoing(incoming)
                try:
                    return await self._pass_on(leader, outgoing)
                except _AgainError as reason:
                    patience.last = str(reason)
                if self._leaders.leading or self._leaders.leader != leader:
                    continue  # the change came while the call was under way
            await self._pause(patience)

    async def _pass_on(self, leader: Remote, call: PassedCall) -> bytes | None:
        """Make a call at the leader.

        Raises:
            _AgainError: it may be repeated.
            RpcError: it failed.
        """
        try:
            link = self._links.to(leader)
        except (AddressError, CutError) as error:
            raise _AgainError(str(error)) from error
        try:
            return await link.carry(call)
        except CutError as error:
            raise self._lost(call, "another manager leads") from error
        except grpc.aio.AioRpcError as error:
            raise self._failed(link, call, error) from error

    def _failed(self, link: Link, call: PassedCall, error: grpc.aio.AioRpcError) -> Exception:
        """Return what to raise for an error of the call that was passed on."""
        failure = failure_of(error)
        text = describe_rpc_error(error, link.leader.addr)
        if failure is Failure.ANSWERED:
            return RpcError(error.code(), error.details() or "")
        log.debug("the leader did not answer", method=call.method, leader=link.leader.node_id, error=text)
        if failure is Failure.NEVER_RAN and error.code() is grpc.StatusCode.UNAVAILABLE:
            self._links.drop(link)
        if any(call.streams):
            return RpcError(error.code(), text)
        if failure is Failure.NEVER_RAN:
            return _AgainError(text)
        return self._lost(call, text)

    def _lost(self, call: PassedCall, text: str) -> Exception:
        if self._stopping:
            text = STOPPING_TEXT
        if any(call.streams):
            return RpcError(grpc.StatusCode.UNAVAILABLE, f"the stream from the leader was cut: {text}")
        if call.method in REPEATABLE:
            return _AgainError(text)
        # PARITY: the original repeats any unary call once. One that changes something may have been executed:
        # repeated, it would be executed twice, or tell a client whose write succeeded of a name conflict.
        return RpcError(grpc.StatusCode.UNAVAILABLE, f"{LOST_TEXT} ({text})")

    async def _pause(self, patience: "_Patience") -> None:
        """Wait for a change, or for a while.

        Raises:
            RpcError: there is nothing to wait for any more.
        """
        if self._stopping:
            raise RpcError(grpc.StatusCode.UNAVAILABLE, STOPPING_TEXT)
        seconds = patience.pause(self._leaders.leaderless_since)
        begun = self._clock.monotonic()
        try:
            async with asyncio.timeout(seconds):
                await self._leaders.wait_change()
        except TimeoutError:
            pass  # time to look again, and whether there is any left
        patience.waited += self._clock.monotonic() - begun


class _AgainError(Exception):
    """A call had no effect, or changes nothing: it may be repeated. The text says what was wrong."""


class _Patience:
    """How long one call waits for a leader.

    Attributes:
        waited: for how many seconds it has waited; a call that is under way does not wait.
        last: why the last attempt failed; empty if none was made.
    """

    def __init__(self, clock: Clock, remaining: float | None) -> None:
        """Begin now; ``remaining`` are the seconds until the caller's deadline, None if it has none."""
        self._clock = clock
        self._deadline = None if remaining is None else clock.monotonic() + remaining
        self.waited = 0.0
        self.last = ""

    def pause(self, leaderless_since: float | None) -> float:
        """Return how many seconds to wait before looking again.

        Raises:
            RpcError: the time is up. UNAVAILABLE if it is the swarm that has none left.
                PARITY: the original answers UNKNOWN; peers are asked to expect UNAVAILABLE while no leader is
                known (contract/security.md, What a foreign peer depends on), and clients may repeat that.
        """
        now = self._clock.monotonic()
        hope = NO_LEADER_SECONDS if leaderless_since is None else leaderless_since + NO_LEADER_SECONDS - now
        if hope <= 0:
            raise RpcError(grpc.StatusCode.UNAVAILABLE, NO_LEADER_TEXT)
        # Nobody waits for ever: a caller without a deadline waits no longer than a swarm may be leaderless.
        left = NO_LEADER_SECONDS - self.waited if self._deadline is None else self._deadline - now
        if left <= 0:
            code = (
                grpc.StatusCode.UNAVAILABLE if self._deadline is None else grpc.StatusCode.DEADLINE_EXCEEDED
            )
            text = f"the leader cannot be reached: {self.last}" if self.last else NO_LEADER_TEXT
            raise RpcError(code, text)
        return min(RETRY_SECONDS, hope, left)


def _outgoing(incoming: Incoming) -> PassedCall:
    call = incoming.call
    metadata = outgoing_metadata(incoming.peer, incoming.own_address, call.metadata)
    return dataclasses.replace(call, metadata=metadata)
