"""A network in virtual time: every link with its own delay, bandwidth and faults, all from one seed.

Messages cross it as bytes, through the real codec. It opens and closes streams as a carrier would; a silent
cut is noticed only after ``notice_seconds``, as a half-open connection is.
"""

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from swarmkit.api import messages as api
from swarmkit.raft.codec import decode, encode
from swarmkit.raft.messages import Envelope
from swarmkit.raft.node import RaftNode
from swarmkit.store.proposer import StoppedError


@dataclass
class Quality:
    """What a link, or all of them, do to messages.

    Attributes:
        delay: seconds on the way.
        jitter: up to so many more, drawn for each message; order is kept.
        bytes_per_second: 0 = any number.
        per_message: seconds the link is busy with each message.
        duplicate: share of messages that arrive twice, the second up to ``late`` seconds later.
        reorder: share of messages that are overtaken, by up to ``late`` seconds.
        lose: share of messages that never arrive.
        late: see above.
    """

    delay: float = 0.001
    jitter: float = 0.0
    bytes_per_second: float = 0.0
    per_message: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    lose: float = 0.0
    late: float = 0.5


class FakeNetwork:
    """Carries messages between registered nodes.

    Attributes:
        quality: of every link without one of its own.
        links: (source, target) with a quality of its own.
        cut: (source, target) that carry nothing.
        queue_limit: bytes on the way on one link above which it counts as congested.
        backlog_seconds: what a link may need for what waits; beyond, all of it is dropped, the stream ends,
            and a new one begins: what a carrier with a bounded outbox does.
        trace: what was sent, if it is a list: (time, envelope).
        observe: called with what is sent.
        tamper: turns what is sent into what travels.
    """

    def __init__(self, delay: float = 0.001, rng: random.Random | None = None) -> None:
        self.quality = Quality(delay=delay)
        self.links: dict[tuple[int, int], Quality] = {}
        self.nodes: dict[int, RaftNode] = {}
        self.cut: set[tuple[int, int]] = set()
        self.isolated: set[int] = set()
        self.notice_seconds = 0.0
        self.queue_limit = 4 << 20
        self.backlog_seconds = 5.0
        self.sent = 0
        self.trace: list[tuple[float, Envelope]] | None = None
        self.observe: Callable[[Envelope], None] | None = None
        self.tamper: Callable[[Envelope], list[Envelope]] | None = None
        #: Nodes whose process stands still, each with what it does, or what reaches it, once it goes on.
        self.frozen: dict[int, list[Callable[[], None]]] = {}
        self._rng = rng or random.Random(0)
        self._free_at: dict[tuple[int, int], float] = {}
        self._queued: dict[tuple[int, int], int] = {}
        self._under_way: dict[tuple[int, int], deque[Callable[[], None]]] = {}
        self._generations: dict[tuple[int, int], int] = {}
        self._incarnations: dict[int, int] = {}

    # -- Who is there -------------------------------------------------------------------------------------

    def register(self, node: RaftNode) -> None:
        """Connect a started node with all others."""
        self.nodes[node.raft_id] = node
        self._incarnations[node.raft_id] = self._incarnations.get(node.raft_id, 0) + 1
        for pair in [pair for pair in self._generations if node.raft_id in pair]:
            self._close(*pair)
        self.refresh()

    def forget(self, node: RaftNode) -> None:
        """Disconnect a node that is about to stop."""
        self.nodes.pop(node.raft_id, None)
        self.frozen.pop(node.raft_id, None)
        self.refresh()

    def isolate(self, *raft_ids: int) -> None:
        """Cut these nodes off; no ids: connect all again."""
        self.isolated = set(raft_ids)
        self.refresh()

    def freeze(self, raft_id: int) -> None:
        """Let a node neither send nor receive, as if its process were stopped; streams stay open."""
        self.frozen.setdefault(raft_id, [])

    def thaw(self, raft_id: int) -> None:
        """Let a frozen node go on: all that waited happens now."""
        for late in self.frozen.pop(raft_id, []):
            late()

    def cut_links(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Let these links, and no others, carry nothing."""
        self.cut = set(pairs)
        self.refresh()

    def carries(self, source: int, target: int) -> bool:
        if source not in self.nodes or target not in self.nodes:
            return False
        return not self.isolated & {source, target} and (source, target) not in self.cut

    def refresh(self) -> None:
        """Open and close streams: at once, or when their silence has been noticed."""
        for one in self.nodes:
            for other in self.nodes:
                if one < other:
                    self._refresh_pair(one, other)
        for pair in list(self._generations):
            if pair[0] not in self.nodes or pair[1] not in self.nodes:
                self._close(*pair)

    def _refresh_pair(self, one: int, other: int) -> None:
        whole = self.carries(one, other) and self.carries(other, one)
        is_open = (one, other) in self._generations
        if whole and not is_open:
            for source, target in ((one, other), (other, one)):
                with contextlib.suppress(StoppedError):
                    self._generations[source, target] = self.nodes[target].mailbox.connected(source)
        elif not whole and is_open:
            if self.notice_seconds:
                loop = asyncio.get_running_loop()
                loop.call_later(self.notice_seconds, self._notice, one, other)
            else:
                self._close(one, other)
                self._close(other, one)

    def _notice(self, one: int, other: int) -> None:
        if not (self.carries(one, other) and self.carries(other, one)):
            self._close(one, other)
            self._close(other, one)

    def _close(self, source: int, target: int) -> None:
        generation = self._generations.pop((source, target), None)
        node = self.nodes.get(target)
        if generation is not None and node is not None:
            with contextlib.suppress(StoppedError):  # it has ended by itself
                node.mailbox.disconnected(source, generation)

    # -- What travels -------------------------------------------------------------------------------------

    def deliver(self, envelope: Envelope) -> None:
        """Send a message on its way."""
        if envelope.source in self.frozen:
            self.frozen[envelope.source].append(partial(self.deliver, envelope))
            return
        self.sent += 1
        loop = asyncio.get_running_loop()
        if self.trace is not None:
            self.trace.append((loop.time(), envelope))
        if self.observe is not None:
            self.observe(envelope)
        for changed in [envelope] if self.tamper is None else self.tamper(envelope):
            self._carry(changed)

    def inject(self, envelope: Envelope) -> None:
        """Put a message that nobody sent, or not now, into its target's inbox."""
        link = (envelope.source, envelope.target)
        mailbox = self.nodes[envelope.target].mailbox
        if link not in self._generations:
            self._generations[link] = mailbox.connected(envelope.source)
        mailbox.receive(envelope.source, self._generations[link], envelope)

    def _carry(self, envelope: Envelope) -> None:
        loop = asyncio.get_running_loop()
        link = (envelope.source, envelope.target)
        if link not in self._generations or not self.carries(*link):
            return
        quality, rng = self.links.get(link, self.quality), self._rng
        if quality.lose and rng.random() < quality.lose:
            return
        data = encode(envelope)
        busy = quality.per_message
        if quality.bytes_per_second:
            busy += len(data) / quality.bytes_per_second
        delay = quality.delay + (rng.random() * quality.jitter if quality.jitter else 0.0)
        arrival = max(self._free_at.get(link, 0.0), loop.time() + delay) + busy
        if quality.reorder and rng.random() < quality.reorder:
            loop.call_at(loop.time() + delay + rng.random() * quality.late, self._arrival(link, data))
        else:
            if arrival - busy > loop.time() + delay + self.backlog_seconds:
                self._overflow(*link)
                return
            self._free_at[link] = arrival
            # Timers of one moment fire in any order; whichever does brings what has left first.
            under_way = self._under_way.setdefault(link, deque())
            under_way.append(self._arrival(link, data))
            loop.call_at(arrival, lambda: under_way.popleft()())
        if quality.duplicate and rng.random() < quality.duplicate:
            loop.call_at(arrival + rng.random() * quality.late, self._arrival(link, data))

    def _overflow(self, source: int, target: int) -> None:
        for pair in ((source, target), (target, source)):
            self._close(*pair)
            self._free_at.pop(pair, None)
        asyncio.get_running_loop().call_later(0.1, self.refresh)

    def _arrival(self, link: tuple[int, int], data: bytes) -> Callable[[], None]:
        """Note that a message is on its way; return what brings it to its target."""
        generation, incarnation = self._generations[link], self._incarnations[link[1]]
        self._queued[link] = self._queued.get(link, 0) + len(data)

        def arrive() -> None:
            if link[1] in self.frozen:
                self.frozen[link[1]].append(arrive)
                return
            self._queued[link] -= len(data)
            if not self.carries(*link) or self._incarnations[link[1]] != incarnation:
                return
            with contextlib.suppress(StoppedError):
                self.nodes[link[1]].mailbox.receive(link[0], generation, decode(data))

        return arrive

    def queued(self, source: int, target: int) -> int:
        """Return how many bytes are on the way."""
        return self._queued.get((source, target), 0)


class FakeLinks:
    """The links of one node; implements ``swarmkit.raft.transport.PeerLinks``."""

    def __init__(self, network: FakeNetwork) -> None:
        self._network = network
        self.raft_id = 0

    def send(self, envelope: Envelope) -> None:
        self._network.deliver(envelope)

    def is_congested(self, peer: int) -> bool:
        return self._network.queued(self.raft_id, peer) > self._network.queue_limit

    def update_members(self, members: Iterable[api.RaftMember], removed: Iterable[int]) -> None:
        """Do nothing: the network knows everybody."""
