"""The seam between the cycle and the wire: an inbox, an outbox, and who is connected.

Whoever carries messages (a gRPC stream per peer, a test's network) calls ``receive``, ``connected`` and
``disconnected``, and is handed what leaves by ``PeerLinks.send``. Messages are the consensus library's own
dictionaries; putting them on the wire under a fixed schema is the carrier's part. Everything here runs on the
loop; the library sees a change only inside a cycle.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from swarmkit.api import messages as api

Message = dict[str, Any]

#: Messages waiting for the next cycle at most. A leader sends a handful per heartbeat; beyond this a peer is
#: misbehaving, and dropping is always safe in raft.
MAX_INBOX = 10_000

APPEND = "append_entries"

#: What the library may send. Forwarded commands are not among them (contract/pysyncobj-hazards.md, H16).
SENDABLE = frozenset({"request_vote", "response_vote", APPEND, "next_node_idx", "timeout_now"})


@dataclass(frozen=True)
class Received:
    """A message and the raft id it came from."""

    sender: int
    message: Message


@dataclass(frozen=True)
class LinkChange:
    """A peer's stream opened or closed."""

    peer: int
    connected: bool


class PeerLinks(Protocol):
    """Carries messages to peers."""

    def send(self, peer: int, message: Message) -> None:
        """Take a message for a peer: in order, at most once, never blocking; drop it if that cannot be."""
        ...

    def is_congested(self, peer: int) -> bool:
        """Tell whether so much waits for a peer that no piece of a snapshot should follow."""
        ...

    def update_members(self, members: Iterable[api.RaftMember], removed: Iterable[int]) -> None:
        """Take over the address book: connect to who is new, drop who is gone."""
        ...


class NoLinks:
    """The links of a group of one."""

    def send(self, peer: int, message: Message) -> None:
        """Drop the message: there is nobody."""

    def is_congested(self, peer: int) -> bool:
        """Nothing waits."""
        return False

    def update_members(self, members: Iterable[api.RaftMember], removed: Iterable[int]) -> None:
        """Connect to nobody."""


class Mailbox:
    """Collects what comes in for the next cycle and what goes out until the cycle releases it."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._inbox: list[Received | LinkChange] = []
        self._outbox: list[tuple[int, Message]] = []
        self._connected: set[int] = set()

    # -- The carrier's side -------------------------------------------------------------------------------

    def receive(self, sender: int, message: Message) -> None:
        """Put a message into the inbox."""
        if len(self._inbox) < MAX_INBOX:
            self._inbox.append(Received(sender, message))
            self._wake()

    def connected(self, peer: int) -> None:
        """Report that messages to and from a peer flow."""
        if peer not in self._connected:
            self._connected.add(peer)
            self._inbox.append(LinkChange(peer, True))
            self._wake()

    def disconnected(self, peer: int) -> None:
        """Report that they do not flow any more."""
        if peer in self._connected:
            self._connected.discard(peer)
            self._inbox.append(LinkChange(peer, False))
            self._wake()

    def is_connected(self, peer: int) -> bool:
        """Tell whether a peer is connected."""
        return peer in self._connected

    # -- The cycle's side ---------------------------------------------------------------------------------

    def post(self, peer: int, message: Message) -> None:
        """Put a message of the library into the outbox."""
        if message.get("type") in SENDABLE:
            self._outbox.append((peer, message))

    @property
    def has_inbox(self) -> bool:
        """Whether something waits for the next cycle."""
        return bool(self._inbox)

    def take_inbox(self) -> list[Received | LinkChange]:
        """Take what came in, in order."""
        inbox, self._inbox = self._inbox, []
        return inbox

    def take_early(self) -> list[tuple[int, Message]]:
        """Take the appends of a leader: they may leave before its own log is synced (hazards, 9)."""
        early = [item for item in self._outbox if item[1]["type"] == APPEND]
        self._outbox = [item for item in self._outbox if item[1]["type"] != APPEND]
        return early

    def take_outbox(self) -> list[tuple[int, Message]]:
        """Take the rest; only after the sync."""
        outbox, self._outbox = self._outbox, []
        return outbox
