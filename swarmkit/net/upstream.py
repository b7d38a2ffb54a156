"""The way to the leader: one cached channel, and calls carried over it byte for byte.

Source: contract/raft-store-manager.md, 16; contract/dispatcher-agent.md, 2.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc

from swarmkit.aio import TaskOwner, cancel_and_wait
from swarmkit.ca.credentials import Credentials, CredentialsHolder
from swarmkit.clock import Clock
from swarmkit.net.channels import secure_channel
from swarmkit.net.leaders import Leaders
from swarmkit.net.remotes import Remote

if TYPE_CHECKING:
    from swarmkit.net.handlers import Context

#: How long calls at a leader may go on once another manager leads. Its answer may be on its way, but it will
#: acknowledge nothing more, and whoever hangs or was cut off would keep its callers for ever. Short: with the
#: two seconds that an election may take, callers shall be free to write again within three.
SUPERSEDED_GRACE_SECONDS = 0.25

Metadata = Sequence[tuple[str, str | bytes]]
Connect = Callable[[Remote, Credentials], grpc.aio.Channel]


class CutError(Exception):
    """This side gave the call up: another manager leads by now, or this one is stopping."""


def connect_to_leader(leader: Remote, credentials: Credentials) -> grpc.aio.Channel:
    """Return a channel that only the manager with the leader's node id can answer.

    Every node certificate carries its node id as a name (contract/security.md, 3.3).

    Raises:
        AddressError: the address is malformed.
    """
    return secure_channel(leader.addr, credentials, leader.node_id)


@dataclass(frozen=True)
class PassedCall:
    """One call as it goes to the leader.

    Attributes:
        method: full method name.
        streams: whether the requests, and whether the answers, are a stream.
        request: the request's bytes, or an iterator of them.
        context: the server side's; answers of a stream are written to it.
        metadata: what goes with it.
    """

    method: str
    streams: tuple[bool, bool]
    request: Any
    context: "Context"
    metadata: Metadata


@dataclass(eq=False)
class Link:
    """One channel, to one leader under one set of credentials, and what it carries."""

    leader: Remote
    credentials: Credentials
    channel: grpc.aio.Channel
    calls: dict[Any, bool] = field(default_factory=dict)  # to whether any side of it is a stream
    cut: set[Any] = field(default_factory=set)
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def cancel(self, *, streams_only: bool = False) -> None:
        """Give up what is on the way; their callers learn it by ``CutError``."""
        given_up = [call for call, streaming in self.calls.items() if streaming or not streams_only]
        self.cut.update(given_up)
        for call in given_up:
            call.cancel()

    async def carry(self, passed: PassedCall) -> bytes | None:
        """Make the call there and pass on all that comes back; None if the answers were streamed.

        The caller's deadline holds there too, and if the caller gives up, so does the call.

        Raises:
            grpc.aio.AioRpcError: it failed there, or on the way.
            CutError: it was given up by this side.
        """
        requests, answers = passed.streams
        make: Any = {
            (False, False): self.channel.unary_unary,
            (False, True): self.channel.unary_stream,
            (True, False): self.channel.stream_unary,
            (True, True): self.channel.stream_stream,
        }[passed.streams]
        given = {"timeout": passed.context.time_remaining(), "metadata": tuple(passed.metadata)}
        call: Any = make(passed.method)(**given) if requests else make(passed.method)(passed.request, **given)
        self.calls[call] = requests or answers
        self.idle.clear()
        feeding = asyncio.create_task(_feed(passed, call)) if requests else None
        try:
            if not answers:
                return bytes(await call)
            while (message := await call.read()) is not grpc.aio.EOF:
                await passed.context.write(message)
            return None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if call in self.cut and not (task and task.cancelling()):
                raise CutError from None
            raise
        finally:
            call.cancel()
            del self.calls[call]
            self.cut.discard(call)
            if not self.calls:
                self.idle.set()
            await _end(feeding)


async def _feed(passed: PassedCall, call: Any) -> None:
    """Pass on every request of a stream, then its end."""
    requests: AsyncIterator[bytes] = passed.request
    try:
        async for message in requests:
            await call.write(message)
        await call.done_writing()
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        pass  # the call has ended over there: its status tells
    except Exception:
        call.cancel()
        raise


async def _end(feeding: "asyncio.Task[None] | None") -> None:
    """End the feeding of a call that is over; what went wrong with it is the call's error."""
    await cancel_and_wait(feeding)
    if feeding is not None and not feeding.cancelled():
        feeding.result()


class Links:
    """The one cached channel to the present leader, and former ones until their calls have ended.

    A channel is dropped when the leader, its address or the own credentials change, or when it cannot be
    connected. There are never more former ones than calls that they still carry.
    """

    def __init__(
        self,
        leaders: Leaders,
        credentials: CredentialsHolder,
        clock: Clock,
        connect: Connect = connect_to_leader,
    ) -> None:
        self._leaders = leaders
        self._credentials = credentials
        self._clock = clock
        self._connect = connect
        self._current: Link | None = None
        self._all: set[Link] = set()
        self._owner = TaskOwner("forwarding")
        self._closed = False

    def start(self) -> None:
        """Watch for changes from now on; end it with ``close``."""
        self._owner.spawn(self._watch(), "watch the leader")

    def to(self, leader: Remote) -> Link:
        """Return the channel to ``leader``.

        Raises:
            AddressError: its address is malformed.
            CutError: ``close`` was called.
        """
        if self._closed:
            raise CutError
        credentials = self._credentials.current
        link = self._current
        if link is not None and link.leader == leader and link.credentials is credentials:
            return link
        made = Link(leader, credentials, self._connect(leader, credentials))
        self._retire()
        self._current = made
        self._all.add(made)
        return made

    def drop(self, link: Link) -> None:
        """Connect anew for the next call: gRPC would wait up to 8 s before it tries again by itself."""
        if link is self._current:
            self._retire()

    def cancel_streams(self) -> None:
        """Give up all streams."""
        for link in self._all:
            link.cancel(streams_only=True)

    async def close(self) -> None:
        """Give up every call and close every channel. May be called twice."""
        self._closed = True
        await self._owner.close()
        for link in list(self._all):
            link.cancel()
            await link.channel.close()
        self._all.clear()
        self._current = None

    def _retire(self) -> None:
        """Close the current channel once its calls have ended."""
        link, self._current = self._current, None
        if link is not None:
            self._owner.spawn(self._end(link), "let a channel end")

    async def _end(self, link: Link) -> None:
        if link.calls:
            await link.idle.wait()
        await link.channel.close()
        self._all.discard(link)

    async def _watch(self) -> None:
        """Give up what is still at a manager when another one leads."""
        while True:
            if any(self._superseded(link) for link in self._all):
                await self._clock.sleep(SUPERSEDED_GRACE_SECONDS)
                for link in [link for link in self._all if self._superseded(link)]:
                    link.cancel()
                    self.drop(link)
            else:
                await self._leaders.wait_change()

    def _superseded(self, link: Link) -> bool:
        leader = self._leaders.leader
        return self._leaders.leading or (leader is not None and leader.node_id != link.leader.node_id)
