"""Who may open a stream, and which of two streams counts (contract/raft-store-manager.md, 13). Pure.

Two members may dial each other at the same moment, or only one of them may be able to. They agree on one
stream because only one of them decides: the member with the higher raft id takes a stream and tells the other
so, with a number that grows. The other follows the highest number it was told, and has no stream once that
one ends.
"""

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from swarmkit.api import messages as api
from swarmkit.raft.membership import MAX_RAFT_ID

#: A hello on its way when a stream was taken is no sign that the peer has lost that one: so long may it take.
CROSSING_SECONDS = 0.5

#: Streams of managers that are no members, or not yet known as such, at most.
MAX_STRANGERS = 16


class Objection(enum.Enum):
    """Why a stream is refused."""

    INVALID = "invalid"
    WRONG_TARGET = "wrong target"
    FOREIGN_ID = "foreign id"
    CROWDED = "crowded"
    CROSSED = "crossed"


@dataclass(frozen=True)
class Refusal:
    """A stream that is not to be.

    Attributes:
        objection: the kind, for whoever must act on it.
        text: one sentence for the other side's log.
    """

    objection: Objection
    text: str


@dataclass(frozen=True)
class AddressBook:
    """The group as far as it is known.

    Attributes:
        members: by raft id, this one among them.
        removed: raft ids that were members.
    """

    members: Mapping[int, api.RaftMember] = field(default_factory=dict)
    removed: frozenset[int] = frozenset()

    @classmethod
    def of(cls, members: Iterable[api.RaftMember], removed: Iterable[int]) -> "AddressBook":
        """Make a book."""
        return cls({member.raft_id: member for member in members}, frozenset(removed))

    def to_dial(self, own: int) -> dict[int, api.RaftMember]:
        """Return the others that have an address and were not removed."""
        return {
            raft_id: member
            for raft_id, member in self.members.items()
            if raft_id != own and raft_id not in self.removed and member.addr and member.node_id
        }


@dataclass(frozen=True)
class Present:
    """The stream that a peer has at the moment.

    Attributes:
        number: what the deciding member called it.
        taken_at: when, on the loop's clock.
    """

    number: int
    taken_at: float


def examine_hello(
    book: AddressBook, own: int, source: int, target: int, node_id: str, strangers: int
) -> Refusal | None:
    """Judge the hello of a manager that dialled.

    Who is no member is let in: it may lead since a change that is not applied here. So is who was removed: it
    is told so over the stream.

    Args:
        book: the group.
        own: this member's raft id.
        source: whom the caller says it is.
        target: whom it takes this one for.
        node_id: whose certificate it showed.
        strangers: streams of other managers that are no members.
    """
    if not 0 < source <= MAX_RAFT_ID or source == own or not node_id:
        return Refusal(Objection.INVALID, f"raft id {source:x} is not one that could call here")
    if target != own:
        return Refusal(
            Objection.WRONG_TARGET,
            f"this is member {own:x} and not {target:x}: the address belongs to another manager now",
        )
    known = book.members.get(source)
    if known is None:
        if strangers >= MAX_STRANGERS:
            return Refusal(
                Objection.CROWDED, "too many managers that are no members are connected; try again later"
            )
    elif known.node_id != node_id:
        return Refusal(
            Objection.FOREIGN_ID, f"member {source:x} is node {known.node_id} and not node {node_id}"
        )
    return None


def examine_answer(own: int, peer: int, source: int, target: int) -> Refusal | None:
    """Judge what ``peer`` answered to this member's hello; its node was proven by its certificate."""
    if (source, target) != (peer, own):
        return Refusal(Objection.WRONG_TARGET, f"what answers there is member {source:x} and not {peer:x}")
    return None


def may_take(present: Present | None, dialled: bool, now: float) -> Refusal | None:
    """Decide, as the member with the higher raft id, whether a stream that is ready takes the place.

    Args:
        present: the stream that the peer has, if any.
        dialled: this member dialled, as it had none; otherwise the peer did, as it had none.
        now: the loop's time.
    """
    if present is None:
        return None
    if dialled or now - present.taken_at < CROSSING_SECONDS:
        return Refusal(Objection.CROSSED, "another stream has just been taken")
    return None


def may_follow(present: Present | None, number: int) -> Refusal | None:
    """Decide, as the member with the lower raft id, whether to follow to a stream the other has taken."""
    if present is not None and number <= present.number:
        return Refusal(Objection.CROSSED, "a newer stream has been taken")
    return None


def next_number(last: int, epoch_seconds: float) -> int:
    """Return the number of the next stream.

    It grows over restarts as well, by the wall clock. One that was set back costs no more than waiting until
    the peer has seen the end of the former process's stream.
    """
    return max(last + 1, int(epoch_seconds * 1000))
