"""The seam between the cycle and the wire: an inbox, an outbox, and who is connected.

Whoever carries messages (a stream per peer, a test's network) calls ``connected``, ``receive`` and
``disconnected``, and is handed what leaves by ``PeerLinks.send``; ``codec.py`` turns envelopes into bytes.
Everything here runs on the loop; the cycle sees a change only when it takes the inbox.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from swarmkit.api import messages as api
from swarmkit.raft.messages import Append, Envelope, Message, SnapshotPart

#: Messages waiting for the next cycle at most. A leader sends a handful per heartbeat; beyond this a peer is
#: misbehaving, and dropping is always safe in raft.
MAX_INBOX = 10_000

#: Bytes of entries and snapshots waiting for the next cycle, above which a message is dropped.
MAX_INBOX_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Received:
    """A message that arrived.

    Attributes:
        peer: the raft id of the stream's other end.
        generation: which stream of that peer brought it.
        at: when, on the loop's clock.
        envelope: the message.
    """

    peer: int
    generation: int
    at: float
    envelope: Envelope


@dataclass(frozen=True, slots=True)
class LinkChange:
    """A peer's stream opened or closed."""

    peer: int
    connected: bool


class PeerLinks(Protocol):
    """Carries messages to peers."""

    def send(self, envelope: Envelope) -> None:
        """Take a message: in order, at most once, never blocking; drop it if that cannot be.

        The target may be unknown as a member: a manager that leads since a change not applied here, or one
        that was removed. It is answered over the stream it came on, if that is still there.
        """
        ...

    def is_congested(self, peer: int) -> bool:
        """Tell whether so much waits for a peer that no more entries or pieces should follow for now."""
        ...

    def update_members(self, members: Iterable[api.RaftMember], removed: Iterable[int]) -> None:
        """Take over the address book: connect to who is new, drop who is gone, redial who has moved.

        Called in the middle of a cycle: schedule the work.
        """
        ...


class NoLinks:
    """The links of a group of one."""

    def send(self, envelope: Envelope) -> None:
        """Drop the message: there is nobody."""

    def is_congested(self, peer: int) -> bool:
        """Nothing waits."""
        return False

    def update_members(self, members: Iterable[api.RaftMember], removed: Iterable[int]) -> None:
        """Connect to nobody."""


def _weight(message: Message) -> int:
    if isinstance(message, Append):
        return sum(len(entry.data) for entry in message.entries)
    if isinstance(message, SnapshotPart) and message.piece is not None:
        return len(message.piece.data)
    return 0


@dataclass(slots=True)
class _Link:
    generation: int
    connected: bool
    since: float


class Mailbox:
    """Collects what comes in for the next cycle and what goes out until the cycle releases it.

    Args:
        wake: called when something came in.
        time: the loop's clock.
    """

    def __init__(self, wake: Callable[[], None], time: Callable[[], float]) -> None:
        self._wake = wake
        self._time = time
        self._inbox: list[Received | LinkChange] = []
        self._inbox_bytes = 0
        self._outbox: list[Envelope] = []
        # One for each peer that ever connected: the members, a few more after changes of the group.
        self._links: dict[int, _Link] = {}
        #: How often a peer's stream has opened or closed.
        self.link_changes = 0

    # -- The carrier's side -------------------------------------------------------------------------------

    def connected(self, peer: int) -> int:
        """Report a new stream to and from a peer; return its generation, to be passed to ``receive``.

        Messages of the peer's earlier streams are dropped from now on, those in the inbox too: what is older
        than a connection may be arbitrarily late (contract/pysyncobj-hazards.md, H2).
        """
        link = self._links.setdefault(peer, _Link(0, False, 0.0))
        link.generation += 1
        if not link.connected:
            link.connected, link.since = True, self._time()
            self.link_changes += 1
            self._inbox.append(LinkChange(peer, True))
            self._wake()
        return link.generation

    def disconnected(self, peer: int, generation: int) -> None:
        """Report that a stream ended; nothing happens if a newer one has taken its place."""
        link = self._links.get(peer)
        if link is not None and link.connected and link.generation == generation:
            link.connected = False
            self.link_changes += 1
            self._inbox.append(LinkChange(peer, False))
            self._wake()

    def receive(self, peer: int, generation: int, envelope: Envelope) -> None:
        """Put a message into the inbox. ``peer`` is who the stream belongs to, whatever the envelope says."""
        if len(self._inbox) < MAX_INBOX and self._inbox_bytes < MAX_INBOX_BYTES:
            self._inbox.append(Received(peer, generation, self._time(), envelope))
            self._inbox_bytes += _weight(envelope.message)
            self._wake()

    def is_connected(self, peer: int) -> bool:
        """Tell whether a peer is connected."""
        link = self._links.get(peer)
        return link is not None and link.connected

    @property
    def connected_peers(self) -> list[int]:
        """Who is connected, in order."""
        return sorted(peer for peer, link in self._links.items() if link.connected)

    def connected_since(self, peer: int) -> float:
        """Return when the present connection of a peer began, on the loop's clock."""
        return self._links[peer].since

    # -- The cycle's side ---------------------------------------------------------------------------------

    def post(self, envelope: Envelope) -> None:
        """Put a message into the outbox."""
        self._outbox.append(envelope)

    @property
    def has_inbox(self) -> bool:
        """Whether something waits for the next cycle."""
        return bool(self._inbox)

    def take_inbox(self) -> list[Received | LinkChange]:
        """Take what came in, in order."""
        inbox, self._inbox, self._inbox_bytes = self._inbox, [], 0
        return inbox

    def is_current(self, item: Received) -> bool:
        """Tell whether a message belongs to its peer's newest stream."""
        link = self._links.get(item.peer)
        return link is not None and link.generation == item.generation and item.envelope.source == item.peer

    def hears(self, leader: int, term: int) -> bool:
        """Tell whether a message of this term's leader waits in the inbox."""
        return any(
            isinstance(item, Received)
            and item.peer == leader
            and item.envelope.term == term
            and isinstance(item.envelope.message, (Append, SnapshotPart))
            for item in self._inbox
        )

    def take_early(self) -> list[Envelope]:
        """Take the appends of a leader: they may leave before its own log is synced (hazards, 9)."""
        early = [item for item in self._outbox if isinstance(item.message, (Append, SnapshotPart))]
        if early:
            self._outbox = [
                item for item in self._outbox if not isinstance(item.message, (Append, SnapshotPart))
            ]
        return early

    def take_outbox(self) -> list[Envelope]:
        """Take the rest; only after the sync."""
        outbox, self._outbox = self._outbox, []
        return outbox
