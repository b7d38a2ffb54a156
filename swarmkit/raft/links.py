"""The streams to the other managers: dialling, being dialled, and which stream counts.

Implements ``transport.PeerLinks``. ``hello.py`` decides, ``stream.py`` carries, over ``pipes.py``. Whoever
dials, a stream begins like this:

1. a hello each way, the caller's first;
2. the member with the higher raft id takes the stream and says so with a number (``Taken``);
3. the other follows, and ends the stream it had.
"""

import asyncio
import math
import random as random_module
from collections.abc import Callable, Iterable

import grpc

from swarmkit.aio import TaskOwner, cancel_and_wait
from swarmkit.api import messages as api
from swarmkit.ca.backoff import Backoff
from swarmkit.clock import Clock
from swarmkit.log import get_logger
from swarmkit.net.authorization import says_removed
from swarmkit.net.errors import RpcError
from swarmkit.raft.hello import (
    AddressBook,
    Objection,
    Present,
    Refusal,
    examine_answer,
    examine_hello,
    may_follow,
    may_take,
    next_number,
)
from swarmkit.raft.messages import Envelope
from swarmkit.raft.pipes import Dialler
from swarmkit.raft.service_pb2 import Hello, RaftFrame, Taken
from swarmkit.raft.stream import BEAT_SECONDS, Pipe, PipeError, Stream
from swarmkit.raft.transport import Mailbox

log = get_logger(__name__)

#: Seconds from dialling, or from the call's arrival, until the stream is taken.
OPENING_SECONDS = 2.0

#: The pause before a member is dialled again.
REDIAL = Backoff(base=0.1, factor=0.1, limit=2.0)

#: Seconds between two lines about the same member that cannot be reached.
_COMPLAINT_SECONDS = 30.0

_CODES = {
    Objection.INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    Objection.WRONG_TARGET: grpc.StatusCode.FAILED_PRECONDITION,
    Objection.FOREIGN_ID: grpc.StatusCode.PERMISSION_DENIED,
    Objection.CROWDED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Objection.CROSSED: grpc.StatusCode.ABORTED,
}


class _RefusedError(Exception):
    """This side does not want the stream."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.text)
        self.refusal = refusal


class _Peer:
    """Another manager, member or not."""

    def __init__(self, raft_id: int) -> None:
        self.raft_id = raft_id
        self.member: api.RaftMember | None = None
        self.stream: Stream | None = None
        self.dialling: asyncio.Task[None] | None = None
        #: Its stream ended, or its address changed: it is to be dialled at once.
        self.news = asyncio.Event()
        self.complained_at = -math.inf


class Links:
    """Carries messages to and from the other managers. Everything is called on the event loop.

    Order of use: hand it to the ``RaftNode``, ``start`` it once that has started, ``serve`` what comes in,
    ``close`` it before the server stops.

    Args:
        dialler: opens pipes to members.
        clock: time.
        random: pauses between dials.
    """

    def __init__(self, dialler: Dialler, clock: Clock, random: random_module.Random) -> None:
        self._dialler = dialler
        self._clock = clock
        self._random = random
        self._raft_id = 0
        self._mailbox: Mailbox | None = None
        self._on_removed: Callable[[], None] = lambda: None
        self._book = AddressBook()
        # Members, and whoever else has a stream: at most MAX_STRANGERS.
        self._peers: dict[int, _Peer] = {}
        self._owner = TaskOwner("raft-links")
        self._closed = False
        self._number = 0

    def start(self, raft_id: int, mailbox: Mailbox, on_removed: Callable[[], None] = lambda: None) -> None:
        """Begin to dial and to take calls.

        Args:
            raft_id: this member.
            mailbox: of the started node.
            on_removed: called when a member says that this node was removed from the swarm: none will ever
                take a stream of it, so it cannot hear of it as one who was only removed from the group does.
        """
        self._raft_id, self._mailbox, self._on_removed = raft_id, mailbox, on_removed
        self._owner.spawn(self._watch(), "watch")
        self._refresh()

    async def close(self) -> None:
        """End all streams and dials; what comes in is refused from now on. May be called twice."""
        self._closed = True
        for peer in self._peers.values():
            if peer.stream is not None:
                peer.stream.end("this manager is stopping")
        await self._owner.close()

    # -- PeerLinks ----------------------------------------------------------------------------------------

    def send(self, envelope: Envelope) -> None:
        """Put a message into its target's stream; drop it if there is none."""
        peer = self._peers.get(envelope.target)
        if peer is not None and peer.stream is not None:
            peer.stream.send(envelope)

    def is_congested(self, peer: int) -> bool:
        """Tell whether no more entries or pieces should follow for now."""
        found = self._peers.get(peer)
        return found is not None and found.stream is not None and found.stream.is_congested

    def update_members(self, members: Iterable[api.RaftMember], removed: Iterable[int]) -> None:
        """Take over the address book. Who was removed is not dialled, but answered while it is connected."""
        self._book = AddressBook.of(members, removed)
        if self._mailbox is not None and not self._closed:
            self._refresh()

    def _refresh(self) -> None:
        wanted = self._book.to_dial(self._raft_id)
        for raft_id, peer in self._peers.items():
            if raft_id not in wanted and peer.member is not None:
                peer.member = None
                peer.news.set()
        for raft_id, member in wanted.items():
            peer = self._peers.setdefault(raft_id, _Peer(raft_id))
            if peer.member is None or (peer.member.addr, peer.member.node_id) != (
                member.addr,
                member.node_id,
            ):
                peer.member = member
                peer.news.set()
                self._check_stream(peer, member)
            if peer.dialling is None:
                peer.dialling = self._owner.spawn(self._keep(peer), f"dial {raft_id:x}")
        self._tidy()

    def _check_stream(self, peer: _Peer, member: api.RaftMember) -> None:
        """End a stream that is not to where, or to whom, it should be."""
        stream = peer.stream
        if stream is None:
            return
        if stream.node_id != member.node_id:
            stream.end(f"member {peer.raft_id:x} is node {member.node_id} and not node {stream.node_id}")
        elif stream.dialled and stream.dialled != member.addr:
            stream.end("the member has another address now")

    def _tidy(self) -> None:
        for raft_id, peer in list(self._peers.items()):
            if peer.member is None and peer.stream is None and peer.dialling is None:
                del self._peers[raft_id]

    # -- Dialling -----------------------------------------------------------------------------------------

    async def _keep(self, peer: _Peer) -> None:
        """Dial a member whenever it has no stream, for as long as it is a member."""
        failures = 0
        while (member := peer.member) is not None:
            peer.news.clear()
            pause: float | None = None
            if peer.stream is None:
                failures = 0 if await self._dial(peer, member) else failures + 1
                peer.news.clear()
                if peer.stream is None and peer.member is member:
                    pause = REDIAL.pause(max(failures, 1), self._random)
            try:
                async with asyncio.timeout(pause):
                    if peer.member is member:
                        await peer.news.wait()
                        failures = 0
            except TimeoutError:
                pass  # the pause is over
        peer.dialling = None
        self._tidy()

    async def _dial(self, peer: _Peer, member: api.RaftMember) -> bool:
        """Open a stream and stay until it ends; False: it did not come about."""
        try:
            pipe = self._dialler.dial(member)
        except ValueError as error:
            self._complain(peer, member, str(error))
            return False
        try:
            try:
                async with asyncio.timeout(OPENING_SECONDS):
                    stream = await self._call(peer, member, pipe)
            except TimeoutError:
                self._complain(peer, member, "no answer in time")
                return False
            except (PipeError, _RefusedError) as error:
                self._complain(peer, member, str(error))
                if says_removed(str(error)):
                    self._on_removed()
                return False
            await self._run(peer.raft_id, stream)
            return True
        finally:
            await pipe.close()

    async def _call(self, peer: _Peer, member: api.RaftMember, pipe: Pipe) -> Stream:
        await pipe.write(RaftFrame(hello=Hello(source=self._raft_id, target=peer.raft_id)))
        answer = (await _expect(pipe, "hello")).hello
        _raise(examine_answer(self._raft_id, peer.raft_id, answer.source, answer.target))
        return await self._settle(peer.raft_id, pipe, member.node_id, member.addr)

    def _complain(self, peer: _Peer, member: api.RaftMember, reason: str) -> None:
        now = self._clock.monotonic()
        if peer.stream is None and now - peer.complained_at >= _COMPLAINT_SECONDS:
            peer.complained_at = now
            log.warning(
                "cannot reach a manager",
                raft_id=f"{peer.raft_id:x}",
                node_id=member.node_id,
                addr=member.addr,
                reason=reason,
            )

    # -- Being dialled ------------------------------------------------------------------------------------

    async def serve(self, pipe: Pipe, node_id: str) -> None:
        """Serve a stream that another manager has opened; return when it has ended.

        Args:
            pipe: the stream.
            node_id: whose certificate was shown, a manager's of this swarm.

        Raises:
            RpcError: the stream is refused; or, UNAVAILABLE, it ended from here.
        """
        if self._mailbox is None or self._closed:
            raise RpcError(grpc.StatusCode.UNAVAILABLE, "raft is not running on this manager")
        task = self._owner.spawn(self._accept(pipe, node_id), f"serve {node_id}")
        try:
            await asyncio.wait([task])
        finally:
            await cancel_and_wait(task)
        error = None if task.cancelled() else task.result()
        raise error or RpcError(grpc.StatusCode.UNAVAILABLE, "this manager is stopping")

    async def _accept(self, pipe: Pipe, node_id: str) -> RpcError:
        """Carry a stream to its end; return what to tell the other side."""
        try:
            async with asyncio.timeout(OPENING_SECONDS):
                hello = (await _expect(pipe, "hello")).hello
                stream = await self._answer(pipe, hello, node_id)
        except TimeoutError:
            return RpcError(grpc.StatusCode.DEADLINE_EXCEEDED, "the stream was not opened in time")
        except PipeError as error:
            return RpcError(grpc.StatusCode.ABORTED, str(error))
        except _RefusedError as error:
            refusal = error.refusal
            log.debug("refused a stream", node_id=node_id, reason=refusal.text)
            return RpcError(_CODES[refusal.objection], refusal.text)
        await self._run(hello.source, stream)
        return RpcError(grpc.StatusCode.UNAVAILABLE, stream.reason)

    async def _answer(self, pipe: Pipe, hello: Hello, node_id: str) -> Stream:
        book, source = self._book, hello.source
        strangers = sum(raft_id not in book.members and raft_id != source for raft_id in self._peers)
        _raise(examine_hello(book, self._raft_id, source, hello.target, node_id, strangers))
        await pipe.write(RaftFrame(hello=Hello(source=self._raft_id, target=source)))
        return await self._settle(source, pipe, node_id)

    # -- Taking a stream ----------------------------------------------------------------------------------

    def _present(self, raft_id: int) -> Present | None:
        peer = self._peers.get(raft_id)
        if peer is None or peer.stream is None:
            return None
        return Present(peer.stream.number, peer.stream.taken_at)

    async def _settle(self, raft_id: int, pipe: Pipe, node_id: str, dialled: str = "") -> Stream:
        """After the hellos, let the higher raft id decide; ``_run`` must follow at once."""
        opening: RaftFrame | None = None
        if self._raft_id > raft_id:
            _raise(may_take(self._present(raft_id), bool(dialled), self._clock.monotonic()))
            self._number = number = next_number(self._number, self._clock.now().timestamp())
            opening = RaftFrame(taken=Taken(number=number))
        else:
            number = (await _expect(pipe, "taken")).taken.number
            _raise(may_follow(self._present(raft_id), number))
        known = self._book.members.get(raft_id)  # it may have changed while this waited
        if known is not None and known.node_id != node_id:
            _raise(Refusal(Objection.FOREIGN_ID, f"member {raft_id:x} is node {known.node_id}"))
        return Stream(pipe, node_id, number, self._clock.monotonic(), opening, dialled)

    async def _run(self, raft_id: int, stream: Stream) -> None:
        """Take a stream in place of the present one, and carry its messages until it ends."""
        mailbox = self._mailbox
        assert mailbox is not None
        peer = self._peers.setdefault(raft_id, _Peer(raft_id))
        if peer.stream is not None:
            peer.stream.end("a newer stream has taken its place")
        peer.stream, peer.complained_at = stream, -math.inf
        generation = mailbox.connected(raft_id)
        fields = {"raft_id": f"{raft_id:x}", "node_id": stream.node_id}
        log.info("connected to a manager", **fields, addr=stream.dialled)
        try:
            await stream.run(lambda envelope: mailbox.receive(raft_id, generation, envelope))
        finally:
            mailbox.disconnected(raft_id, generation)
            if peer.stream is stream:
                peer.stream = None
                peer.news.set()
            self._tidy()
            log.info("disconnected from a manager", **fields, reason=stream.reason)

    async def _watch(self) -> None:
        while True:
            await self._clock.sleep(BEAT_SECONDS)
            for peer in list(self._peers.values()):
                if peer.stream is not None:
                    peer.stream.beat()


async def _expect(pipe: Pipe, kind: str) -> RaftFrame:
    """Read a frame of this kind.

    Raises:
        PipeError: the pipe ended, or brought something else.
    """
    frame = await pipe.read()
    if frame is None:
        raise PipeError("the stream ended before it was open")
    if frame.WhichOneof("content") != kind:
        raise PipeError(f"a {kind} frame was expected")
    return frame


def _raise(refusal: Refusal | None) -> None:
    if refusal is not None:
        raise _RefusedError(refusal)
