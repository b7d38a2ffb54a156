"""When to campaign: pre-vote, who heard a leader when, and what a stall excuses. Pure.

The library would campaign at its deadline whatever the others hear, and raise the term of all (hazards, H11).
Instead the deadline only starts a question, ``PreVoteRequest``. Who hears a leader does not answer; with a
majority of answers the node campaigns. So neither a node that is cut off nor one that hears badly ever raises
a term.
"""

import enum
import math
import random as random_module
from dataclasses import dataclass

from swarmkit.raft.quorum import majority


class Step(enum.Enum):
    """What to do about the election deadline."""

    #: Nothing.
    WAIT = enum.auto()
    #: One more random time-out.
    POSTPONE = enum.auto()
    #: A moment: committed entries are being applied, and they may change who decides.
    HOLD = enum.auto()
    #: One more random time-out, and ask the members whether they would vote.
    ASK = enum.auto()
    #: One more random time-out, and be heard by whoever is connected: a node that was removed before it knew
    #: that it belonged is sent nothing any more, unless it says something; then it is told.
    KNOCK = enum.auto()
    #: Campaign in the next tick.
    CAMPAIGN = enum.auto()


@dataclass(frozen=True)
class Situation:
    """What a node that does not lead knows when it looks at its deadline.

    Attributes:
        now: the loop's time in seconds.
        deadline: when to stop waiting for a leader.
        term: current term.
        is_member: whether this node belongs to the group it knows.
        peers: the other members.
        any_connected: whether one of them is.
        unapplied: whether committed entries wait to be applied.
        stalled: whether this node stood still just now, and may have missed its leader for that reason (H14).
    """

    now: float
    deadline: float
    term: int
    is_member: bool
    peers: frozenset[int]
    any_connected: bool
    unapplied: bool
    stalled: bool


class Elections:
    """Follows one pre-vote round at a time.

    Args:
        random: numbers of rounds.
    """

    def __init__(self, random: random_module.Random) -> None:
        self._random = random
        self._heard_at = -math.inf
        self._round = 0
        self._round_term = 0
        self._grants: set[int] = set()
        self._highest_term = 0
        self._forced_term: int | None = None
        #: Whether the campaign that begins was asked for by the leader: its vote requests say so.
        self.transferring = False

    def heard_leader(self, at: float) -> None:
        """Note a message of the leader that arrived at ``at``; the question, if one is open, is moot."""
        self._heard_at = max(self._heard_at, at)
        self._round = 0

    def forget_leader(self) -> None:
        """Note that the leadership known so far is over."""
        self._heard_at = -math.inf

    def silence(self, now: float) -> float:
        """Return for how many seconds no leader was heard."""
        return now - self._heard_at

    def force(self, term: int) -> None:
        """Campaign without asking: the leader of ``term`` wants it (hazards, 10).

        In a later term the wish is void: its leader may rely on a lease (``lease.py``).
        """
        self._forced_term = term

    def open_round(self, term: int) -> int:
        """Begin to ask; return the number that answers must carry."""
        self._round = self._random.getrandbits(61) + 1
        self._round_term = self._highest_term = term
        self._grants.clear()
        return self._round

    def granted(self, voter: int, number: int, term: int) -> None:
        """Note a yes. ``term`` is the voter's; the campaign must be above all of them."""
        if self._round and number == self._round:
            self._grants.add(voter)
            self._highest_term = max(self._highest_term, term)

    @property
    def base_term(self) -> int:
        """The term above which the campaign that ``step`` called for begins."""
        return self._highest_term

    def is_idle(self, now: float, deadline: float) -> bool:
        """Tell whether ``step`` would answer WAIT whatever else is seen: nothing is due or was begun."""
        return now <= deadline and not self._round and self._forced_term is None

    def step(self, seen: Situation) -> Step:
        """Decide; call before each tick while not leading."""
        overdue = seen.now - seen.deadline
        if not seen.is_member:
            self._forced_term = None
            return Step.KNOCK if overdue > 0 else Step.WAIT
        if not seen.peers:
            return Step.WAIT  # a lone member campaigns at the library's own deadline
        if seen.term != self._round_term:
            self._round = 0
        won = bool(self._round) and len(self._grants & seen.peers) + 1 >= majority(len(seen.peers) + 1)
        forced = self._forced_term == seen.term
        if seen.unapplied and (won or forced or overdue > 0):
            return Step.HOLD
        if won or forced:
            self.transferring = forced
            if forced:
                self._highest_term = 0
            self._forced_term, self._round = None, 0
            return Step.CAMPAIGN
        if overdue <= 0:
            return Step.WAIT
        if seen.stalled or not seen.any_connected:
            return Step.POSTPONE
        return Step.ASK
