"""What members of a group say to each other, as values; ``codec.py`` puts them on the wire."""

from collections.abc import Sequence
from dataclasses import dataclass

from swarmkit.raft.records import Entry
from swarmkit.raft.transfer import Piece


@dataclass(frozen=True, slots=True)
class VoteRequest:
    """A candidate of the envelope's term asks for a vote.

    Attributes:
        last_index: the candidate's last entry.
        last_term: the term of that entry.
        transfer: the leader asked for this election; it is not held up because a leader lives.
    """

    last_index: int
    last_term: int
    transfer: bool = False


@dataclass(frozen=True, slots=True)
class Vote:
    """The sender votes for the receiver in the envelope's term."""


@dataclass(frozen=True, slots=True)
class Append:
    """The leader of the envelope's term wants ``entries`` to follow the previous one.

    Attributes:
        commit: the leader's commit index.
        previous_index: the entry before the first of ``entries``.
        previous_term: the term of that entry.
        entries: consecutive; none in a heartbeat.
    """

    commit: int
    previous_index: int
    previous_term: int
    entries: Sequence[Entry] = ()


@dataclass(frozen=True, slots=True)
class SnapshotPart:
    """A piece of a snapshot from the leader of the envelope's term; without one, a bare heartbeat.

    It brings no commit index: the receiver's log was not compared with the leader's (hazards, H3).
    """

    piece: Piece | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """Answers an append or a piece. Neither ``reset`` nor ``success``: the sender is there, no more.

    Attributes:
        next_index: where the leader should go on.
        reset: go to ``next_index``.
        success: everything below ``next_index`` is durable, and as the leader has it.
    """

    next_index: int
    reset: bool = False
    success: bool = False


@dataclass(frozen=True, slots=True)
class TimeoutNow:
    """The leader asks the receiver to take over at once."""


@dataclass(frozen=True, slots=True)
class PreVoteRequest:
    """Would the receiver vote for the sender? Changes nothing on either side (hazards, H11).

    Attributes:
        round: comes back in the answer.
        last_index: the sender's last entry.
        last_term: the term of that entry.
    """

    round: int
    last_index: int
    last_term: int


@dataclass(frozen=True, slots=True)
class PreVote:
    """Yes, to the request of this round; there is no other answer."""

    round: int


@dataclass(frozen=True, slots=True)
class TermNotice:
    """The receiver's message was of a term that is over; the envelope says which is current."""


@dataclass(frozen=True, slots=True)
class RemovedNotice:
    """The receiver was removed from the group."""


Message = (
    VoteRequest
    | Vote
    | Append
    | SnapshotPart
    | Reply
    | TimeoutNow
    | PreVoteRequest
    | PreVote
    | TermNotice
    | RemovedNotice
)


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message on its way.

    Attributes:
        source: raft id of the sender.
        target: raft id of the receiver.
        term: the sender's current term when the message was made; that of the message itself, if it has one.
        message: the message.
        round: of what a leader sends: the number of its round (``lease.py``). Of a reply: the newest round of
            that leader and term that the sender has processed. Otherwise, and if there is none, 0.
        promise_ms: of a reply with a round: for how many milliseconds the sender elects nobody else.
    """

    source: int
    target: int
    term: int
    message: Message
    round: int = 0
    promise_ms: int = 0
