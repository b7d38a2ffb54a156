"""Pipes in memory between carriers, each frame held back until the test lets it go, or let go at once."""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterable

from swarmkit.api import messages as api
from swarmkit.net.errors import RpcError
from swarmkit.raft.links import Links
from swarmkit.raft.messages import Envelope, PreVote
from swarmkit.raft.service_pb2 import RaftFrame
from swarmkit.raft.stream import PipeError
from swarmkit.raft.transport import LinkChange, Mailbox
from tests.fakes.loop import VirtualClock


class End:
    """One end of a pipe. What is written arrives at the other end when ``Wire.step`` says so."""

    def __init__(self, wire: "Wire", name: str) -> None:
        self.wire = wire
        self.name = name
        self.other: End
        self.arrived: deque[RaftFrame | None] = deque()
        self.news = asyncio.Event()
        self.listener: tuple[Callable[[RaftFrame], None], Callable[[str], None]] | None = None
        self.is_closed = False

    async def read(self) -> RaftFrame | None:
        while not self.arrived:
            if self.is_closed:
                raise PipeError("closed")
            self.news.clear()
            await self.news.wait()
        return self.arrived.popleft()

    async def write(self, frame: RaftFrame) -> None:
        if self.is_closed:
            raise PipeError("closed")
        self.wire.put(self.other, frame)
        if self.wire.has_no_room(self.other):
            await self.wire.room.wait()

    def write_now(self, frame: RaftFrame) -> bool:
        if self.is_closed or self.wire.has_no_room(self.other):
            return False
        self.wire.put(self.other, frame)
        return True

    def listen(self, take: Callable[[RaftFrame], None], ended: Callable[[str], None]) -> None:
        self.listener = (take, ended)
        arrived, self.arrived = self.arrived, deque()
        for frame in arrived:
            self.receive(frame)

    async def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self.wire.put(self.other, None)

    def receive(self, frame: RaftFrame | None) -> None:
        if frame is None:
            self.is_closed = True
        if self.listener is None:
            self.arrived.append(frame)
            self.news.set()
        elif frame is None:
            self.listener[1]("")
        else:
            self.listener[0](frame)


class Wire:
    """All pipes between carriers.

    Attributes:
        held: frames wait for ``step``; otherwise they arrive at once.
        unreachable: (dialling raft id, dialled raft id) that get no answer.
        deaf: (from, to) whose frames, and ends, vanish.
        full: (from, to) whose pipes have no room until ``drain``.
        pipes: the caller's ends of all that were opened.
    """

    def __init__(self, held: bool = False) -> None:
        self.held = held
        self.carriers: dict[int, Carrier] = {}
        self.unreachable: set[tuple[int, int]] = set()
        self.deaf: set[tuple[int, int]] = set()
        self.full: set[tuple[int, int]] = set()
        self.room = asyncio.Event()
        self.lanes: dict[End, deque[RaftFrame | None]] = {}
        self.dials: list[tuple[int, int]] = []
        self.refusals: list[RpcError] = []
        self.pipes: list[End] = []
        self._serving: set[asyncio.Task[None]] = set()

    def put(self, end: End, frame: RaftFrame | None) -> None:
        if end.is_closed or end.name in {f"{source:x}>{target:x}" for source, target in self.deaf}:
            return
        if self.held:
            self.lanes.setdefault(end, deque()).append(frame)
        else:
            end.receive(frame)

    def has_no_room(self, end: End) -> bool:
        return end.name in {f"{source:x}>{target:x}" for source, target in self.full}

    def drain(self) -> None:
        """Let all pipes have room again."""
        self.full.clear()
        self.room.set()
        self.room = asyncio.Event()

    def choices(self) -> list[End]:
        """Ends at which a frame could arrive next, in the order in which their pipes first carried one."""
        return [end for end, frames in self.lanes.items() if frames]

    def step(self, end: End) -> None:
        """Let the oldest frame on its way to ``end`` arrive."""
        end.receive(self.lanes[end].popleft())

    def cut(self, end: End) -> None:
        """Let a pipe end at both ends; what is on its way is lost."""
        for side in (end, end.other):
            self.lanes.pop(side, None)
            side.receive(None)

    def open(self, caller: int, called: int, node_id: str) -> End:
        """Connect; the called one serves the other end."""
        self.dials.append((caller, called))
        here, there = End(self, f"{called:x}>{caller:x}"), End(self, f"{caller:x}>{called:x}")
        here.other, there.other = there, here
        self.pipes.append(here)
        target = self.carriers.get(called)
        if target is not None and (caller, called) not in self.unreachable:
            task = asyncio.get_running_loop().create_task(self._serve(target.links, there, node_id))
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
        return here

    async def _serve(self, links: Links, end: End, node_id: str) -> None:
        try:
            await links.serve(end, node_id)
        except RpcError as error:
            self.refusals.append(error)
        finally:
            await end.close()

    async def close(self) -> None:
        self.held = False
        for carrier in self.carriers.values():
            await carrier.links.close()
        for end, frames in self.lanes.items():
            while frames:
                end.receive(frames.popleft())
        if self._serving:
            await asyncio.wait(self._serving)


class CountingMailbox(Mailbox):
    """A mailbox that counts the streams it was told of."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(lambda: None, clock.monotonic)
        self.streams = 0

    def connected(self, peer: int) -> int:
        self.streams += 1
        return super().connected(peer)


class Carrier:
    """The links of one member, a mailbox, and what came out of it."""

    def __init__(self, wire: Wire, raft_id: int, rng: random.Random, start: bool = True) -> None:
        self.wire = wire
        self.raft_id = raft_id
        self.node_id = node_id(raft_id)
        clock = VirtualClock()
        self.links = Links(self, clock, rng)
        self.mailbox = CountingMailbox(clock)
        wire.carriers[raft_id] = self
        if start:
            self.links.start(raft_id, self.mailbox)

    def dial(self, known: api.RaftMember) -> End:
        return self.wire.open(self.raft_id, int(known.addr), self.node_id)

    def knows(self, members: Iterable[api.RaftMember], removed: Iterable[int] = ()) -> None:
        self.links.update_members(members, removed)

    def say(self, target: int, number: int) -> None:
        self.links.send(Envelope(self.raft_id, target, 1, PreVote(number)))

    def end_of(self, target: int) -> End:
        """Return this side's end of the pipe to a peer."""
        for pipe in reversed(self.wire.pipes):
            for end in (pipe, pipe.other):
                if end.name == f"{target:x}>{self.raft_id:x}" and not end.is_closed:
                    return end
        raise AssertionError("there is no pipe")

    def heard(self) -> list[int]:
        """Take the numbers that arrived on present streams."""
        return [
            item.envelope.message.round
            for item in self.mailbox.take_inbox()
            if not isinstance(item, LinkChange)
            and self.mailbox.is_current(item)
            and isinstance(item.envelope.message, PreVote)
        ]


def node_id(raft_id: int) -> str:
    return f"node-{raft_id:x}"


def member(raft_id: int, addr: str = "") -> api.RaftMember:
    """A member whose address is, for the wire, a raft id: its own by default."""
    return api.RaftMember(raft_id=raft_id, node_id=node_id(raft_id), addr=addr or str(raft_id))
