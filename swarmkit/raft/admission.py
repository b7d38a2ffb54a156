"""The admission filter: what of a peer's message the consensus library may see (hazards, 6: R1 to R7).

The library loses acknowledged writes when messages are late, doubled, reordered or of a former term
(contract/pysyncobj-hazards.md, H1 to H8, H10, H11, H31). Every message passes here first. Pure: a message and
the node's state in, a verdict out; remembered is who has voted, and from where a leader's log was asked for.

R8, which bounds what is applied at once, is kept where entries are applied (``library.py``).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from swarmkit.raft.entries import NO_OP, REGULAR
from swarmkit.raft.membership import MAX_RAFT_ID
from swarmkit.raft.messages import (
    Append,
    Envelope,
    Message,
    PreVote,
    PreVoteRequest,
    RemovedNotice,
    Reply,
    SnapshotPart,
    TermNotice,
    TimeoutNow,
    Vote,
    VoteRequest,
)

#: Terms and indexes beyond are nonsense: a million elections or entries a second would take 100,000 years.
MAX_NUMBER = 1 << 62

#: The kinds of commands that may enter the log (hazards, H21 and H24).
_KINDS = (REGULAR[0], NO_OP[0])


class LogView(Protocol):
    """What the filter asks of the log."""

    @property
    def first_index(self) -> int:
        """Index of the oldest entry in memory."""
        ...

    @property
    def last_index(self) -> int:
        """Index of the newest entry."""
        ...

    def term_at(self, index: int) -> int | None:
        """Return the term of an entry; None if it is not in memory."""
        ...

    def first_of_term(self, term: int) -> int:
        """Return the index of the first entry in memory whose term is not below ``term``."""
        ...


class NodeView(Protocol):
    """What the filter asks of the node; always the state of the moment."""

    @property
    def raft_id(self) -> int:
        """This node."""
        ...

    @property
    def term(self) -> int:
        """The current term."""
        ...

    @property
    def leading(self) -> bool:
        """Whether this node leads."""
        ...

    @property
    def campaigning(self) -> bool:
        """Whether this node is a candidate."""
        ...

    @property
    def leader(self) -> int | None:
        """The leader last heard of."""
        ...

    @property
    def commit_index(self) -> int:
        """What is known to be committed; everything up to it is final."""
        ...

    @property
    def members(self) -> frozenset[int]:
        """The group as far as it is known; empty on a joiner that has heard nothing yet."""
        ...

    @property
    def removed(self) -> frozenset[int]:
        """The raft ids that were removed for ever."""
        ...

    @property
    def log(self) -> LogView:
        """The log, including what is not synced yet."""
        ...

    def match_index(self, peer: int) -> int:
        """Return how far a peer's log is known to be as this leader's."""
        ...

    def leader_silence(self, now: float) -> float:
        """Return for how many seconds no leader was heard."""
        ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a message, in this order.

    Attributes:
        deliver: what is handed on, possibly altered; None: nothing.
        commit: the commit index may be raised to this, whatever else; 0: nothing known.
        answer: what is sent back, besides what the library sends.
        refused: why the message is not handed on as it came, for the log; empty: it is.
        alarming: the refusal is no matter of timing: somebody is broken or hostile.
        outrun: the sender wants to lead and cannot, because this member's log is ahead of its own.
    """

    deliver: Message | None = None
    commit: int = 0
    answer: Message | None = None
    refused: str = ""
    alarming: bool = False
    outrun: bool = False


#: Tells the library that the leader lives, and nothing about the log.
_SIGN_OF_LIFE = SnapshotPart()


def _alarm(reason: str) -> Verdict:
    return Verdict(refused=reason, alarming=True)


class Admission:
    """Judges messages for one node.

    Args:
        view: the node.
        stickiness_seconds: a leader heard within this time is not voted out; the shortest election time-out.
    """

    def __init__(self, view: NodeView, stickiness_seconds: float) -> None:
        self._view = view
        self._stickiness_seconds = stickiness_seconds
        self._vote_term = 0
        self._voters: set[int] = set()
        self._asked_term = 0
        self._asked_from = 0
        self._rules: dict[type[Message], Callable[[Envelope, float], Verdict]] = {
            Append: self._append,
            SnapshotPart: self._part,
            Reply: self._reply,
            VoteRequest: self._vote_request,
            Vote: self._vote,
            PreVoteRequest: self._pre_vote_request,
            PreVote: self._pass,
            TimeoutNow: self._timeout_now,
            TermNotice: self._term_notice,
            RemovedNotice: self._pass,
        }

    def examine(self, envelope: Envelope, at: float) -> Verdict:
        """Judge a message that arrived at ``at``, on the loop's clock."""
        view, sender = self._view, envelope.source
        if envelope.target != view.raft_id:
            return Verdict(refused="meant for another member")
        wrong = _malformed(envelope)
        if wrong or sender == view.raft_id:
            return _alarm(wrong or "sent under this member's own id")
        kind = type(envelope.message)
        if sender in view.removed:  # R1
            answer = None if kind is RemovedNotice else RemovedNotice()
            return Verdict(answer=answer, refused="sender was removed from the group")
        # Who is no member may lead since a change that is not applied here. A joiner knows nobody yet.
        if view.members and sender not in view.members and kind not in (Append, SnapshotPart):
            return Verdict(refused="sender is no member")
        return self._rules[kind](envelope, at)

    # -- From a leader ------------------------------------------------------------------------------------

    def _from_leader(self, envelope: Envelope) -> Verdict | None:
        view = self._view
        if envelope.term < view.term:  # R2
            return Verdict(answer=TermNotice(), refused="of a term that is over")
        if view.leading and envelope.term == view.term:
            return _alarm("a second leader of this term")
        return None

    def _append(self, envelope: Envelope, _: float) -> Verdict:
        refused = self._from_leader(envelope)
        if refused is not None:
            return refused
        message = envelope.message
        assert isinstance(message, Append)
        view, log = self._view, self._view.log
        last, previous = log.last_index, message.previous_index
        if previous > last:
            return self._resend(self._behind_conflict(envelope.term, last + 1), "there is a gap before it")
        if log.term_at(last) == envelope.term:
            # R4a: this leader wrote the own last entry, so the own log is the beginning of its log.
            self._asked_term = 0
            return _trimmed(message, last - previous, envelope.term)
        own_term = log.term_at(previous)
        if own_term is None:  # compacted, so committed long ago
            return self._resend(view.commit_index + 1, "begins before the log")
        if own_term != message.previous_term:
            if previous <= view.commit_index:
                return _alarm(f"contradicts committed entry {previous}")
            # H7: skip all of the foreign term at once.
            start = self._behind_conflict(envelope.term, log.first_of_term(own_term))
            self._asked_term, self._asked_from = envelope.term, start
            return self._resend(start, "does not follow on the log")
        self._asked_term = 0
        return self._fitting(envelope, message)

    def _behind_conflict(self, term: int, start: int) -> int:
        """Return from where to ask for entries: not behind a place at which the logs are known to differ.

        A leader sends what is missing in several messages, and takes the last answer for the truth. Were each
        one answered by itself, those behind the first, before which there is a gap, would bring it back to
        the conflict again and again.
        """
        if term == self._asked_term:
            start = min(start, self._asked_from)
        return max(start, self._view.commit_index + 1)

    def _fitting(self, envelope: Envelope, message: Append) -> Verdict:
        """R4b: the own log has the previous entry; skip what else it has."""
        view, log = self._view, self._view.log
        known = 0
        for entry in message.entries:
            if log.term_at(entry.index) != entry.term:
                break
            known += 1
        reached = message.previous_index + known
        if known < len(message.entries):
            if reached < view.commit_index:
                return _alarm(f"contradicts committed entry {reached + 1}")
        elif reached < log.last_index:
            # All of it is here, and what follows here need not be wrong: nothing is cut off (H1).
            return Verdict(
                deliver=_SIGN_OF_LIFE,
                commit=min(message.commit, reached),
                answer=Reply(reached + 1, success=True),
            )
        return _trimmed(message, known, log.term_at(reached) or 0)

    def _resend(self, start: int, reason: str) -> Verdict:
        return Verdict(deliver=_SIGN_OF_LIFE, answer=Reply(start, reset=True), refused=reason)

    def _part(self, envelope: Envelope, _: float) -> Verdict:
        refused = self._from_leader(envelope)
        if refused is not None:
            return refused
        message = envelope.message
        assert isinstance(message, SnapshotPart)
        view, log, piece = self._view, self._view.log, message.piece
        present = Reply(log.last_index + 1)
        if piece is None:
            return Verdict(deliver=message, answer=present)
        own_term = log.term_at(piece.index)
        if own_term == piece.term:
            # The log has all that the snapshot covers, and perhaps more, which must not be thrown away.
            answer = Reply(piece.index + 1, reset=True, success=True)
            return Verdict(deliver=_SIGN_OF_LIFE, commit=piece.index, answer=answer)
        if own_term is not None and piece.index <= view.commit_index:
            return _alarm(f"snapshot contradicts committed entry {piece.index}")
        if piece.index <= view.commit_index:  # H4
            return self._resend(view.commit_index + 1, "snapshot is older than the state")
        return Verdict(deliver=message, answer=present)

    def _timeout_now(self, envelope: Envelope, _: float) -> Verdict:
        view = self._view
        if envelope.term != view.term or envelope.source != view.leader or view.leading:
            return Verdict(refused="not from the present leader")
        return Verdict(deliver=envelope.message)

    # -- To a leader --------------------------------------------------------------------------------------

    def _reply(self, envelope: Envelope, _: float) -> Verdict:
        view, message = self._view, envelope.message
        assert isinstance(message, Reply)
        if not view.leading or envelope.term != view.term:  # R5, H2
            return Verdict(refused="answers another leadership")
        index = min(message.next_index, view.log.last_index + 1)  # H6
        if message.reset:
            # What matched once in a term matches for ever: a late reset does not undo it.
            index = max(index, view.match_index(envelope.source) + 1)
        if index == message.next_index:
            return Verdict(deliver=message)
        return Verdict(deliver=Reply(index, message.reset, message.success))

    def _term_notice(self, envelope: Envelope, _: float) -> Verdict:
        view = self._view
        if envelope.term <= view.term or not (view.leading or view.campaigning):
            return Verdict(refused="no newer term")
        return Verdict(deliver=envelope.message)

    # -- Elections ----------------------------------------------------------------------------------------

    def _vote_request(self, envelope: Envelope, at: float) -> Verdict:
        view, message = self._view, envelope.message
        assert isinstance(message, VoteRequest)
        if envelope.term < view.term:
            return Verdict(answer=TermNotice(), refused="of a term that is over")
        if view.leading:
            # A higher term is not ignored: its candidate would never follow again.
            newer = envelope.term > view.term
            return Verdict(deliver=message) if newer else Verdict(refused="this member leads the term")
        if not message.transfer and view.leader_silence(at) < self._stickiness_seconds:  # R7
            return Verdict(refused="a leader lives")
        return Verdict(deliver=message)

    def _vote(self, envelope: Envelope, _: float) -> Verdict:
        view = self._view
        if not view.campaigning or envelope.term != view.term:
            return Verdict(refused="no vote is awaited in its term")
        if self._vote_term != envelope.term:
            self._vote_term = envelope.term
            self._voters.clear()
        if envelope.source in self._voters:  # R7, H10
            return Verdict(refused="voted in this term already")
        self._voters.add(envelope.source)
        return Verdict(deliver=envelope.message)

    def _pre_vote_request(self, envelope: Envelope, at: float) -> Verdict:
        view, message = self._view, envelope.message
        assert isinstance(message, PreVoteRequest)
        if view.leading or view.leader_silence(at) < self._stickiness_seconds:
            return Verdict(refused="a leader lives")
        last = view.log.last_index
        if (message.last_term, message.last_index) < (view.log.term_at(last) or 0, last):
            return Verdict(refused="its log is behind", outrun=True)
        return Verdict(answer=PreVote(message.round))

    def _pass(self, envelope: Envelope, _: float) -> Verdict:
        return Verdict(deliver=envelope.message)


def _trimmed(message: Append, known: int, previous_term: int) -> Verdict:
    """Hand an append on without its first ``known`` entries; the last of them has ``previous_term``."""
    if not known:
        return Verdict(deliver=message)
    reached = message.previous_index + known
    return Verdict(deliver=Append(message.commit, reached, previous_term, message.entries[known:]))


def _malformed(envelope: Envelope) -> str:
    """Return what is wrong with a message by itself; empty: nothing (R1, H8, H31)."""
    message, term = envelope.message, envelope.term
    if not 0 < envelope.source <= MAX_RAFT_ID:
        return "raft id out of range"
    if not 0 <= term < MAX_NUMBER:
        return "term out of range"
    if isinstance(message, Append):
        return _malformed_append(message, term)
    if isinstance(message, Reply):
        return "" if 0 < message.next_index < MAX_NUMBER else "index out of range"
    if isinstance(message, (VoteRequest, PreVoteRequest)):
        sound = 0 < message.last_index < MAX_NUMBER and 0 <= message.last_term <= term
        return "" if sound else "end of log out of range"
    if isinstance(message, SnapshotPart) and message.piece is not None:
        piece = message.piece
        sound = 1 < piece.index < MAX_NUMBER and 0 <= piece.term <= term
        return "" if sound and 0 <= piece.offset < MAX_NUMBER else "snapshot out of range"
    return ""


def _malformed_append(message: Append, term: int) -> str:
    index, last_term = message.previous_index, message.previous_term
    if not (0 < index < MAX_NUMBER and 0 <= last_term <= term and 0 <= message.commit < MAX_NUMBER):
        return "append out of range"
    for entry in message.entries:
        index += 1
        if entry.index != index or not last_term <= entry.term <= term:
            return "entries are not a piece of a log"
        if not entry.data or entry.data[0] not in _KINDS:
            return "entry of a kind that is never used"
        last_term = entry.term
    return ""
