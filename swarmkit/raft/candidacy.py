"""What a node does about its deadlines: as a follower, candidate or leader."""

import math
from collections.abc import Callable
from dataclasses import replace

from swarmkit.log import get_logger
from swarmkit.raft.config import RaftConfig
from swarmkit.raft.elections import Elections, Situation, Step
from swarmkit.raft.library import Library
from swarmkit.raft.messages import Message, PreVoteRequest, VoteRequest
from swarmkit.raft.receiving import NodeState
from swarmkit.raft.transport import Mailbox

log = get_logger(__name__)

#: How long a candidacy waits for committed entries to be applied before it looks again.
_HOLD_SECONDS = 0.05

#: When members ask whose leader's stream has ended, in parts of the span of election time-outs: the first so
#: much after the shortest time-out, as the last message may have reached the others a little later; each of
#: the others so much after the one before.
_FIRST_TURN = 0.1
_TURN = 0.25

#: The number of a question whose answers count for nothing: no round is ever opened under it.
_NO_ROUND = 0


class Candidacy:
    """Carries out what ``Elections`` decides.

    Args:
        state: the node.
        library: the consensus.
        mailbox: who is connected.
        elections: decides.
        now: the loop's time.
        config: time-outs.
        post: sends a message of the current term.
    """

    def __init__(
        self,
        state: NodeState,
        library: Library,
        mailbox: Mailbox,
        elections: Elections,
        now: Callable[[], float],
        config: RaftConfig,
        post: Callable[[int, Message], None],
    ) -> None:
        self._state = state
        self._library = library
        self._mailbox = mailbox
        self._elections = elections
        self._now = now
        self._config = config
        self._post = post
        self._looked_at = now()
        self._excused_at = -math.inf
        self._led_term = 0

    @property
    def due(self) -> float | None:
        """When to look next, at the latest; None: a lone leader has no deadline.

        Members of a group look once a heartbeat, so that they notice when they stand still.
        """
        library = self._library
        if not self._state.peers:
            return None if library.leading else library.election_deadline
        if library.leading:
            return library.heartbeat_due
        return min(library.election_deadline, self._looked_at + self._config.heartbeat_seconds)

    def look(self) -> None:
        """Look at the deadline that matters; call right before a tick, with the inbox delivered."""
        library, now = self._library, self._now()
        gap, self._looked_at = now - self._looked_at, now
        stalled = gap > self._config.election_min_seconds / 2
        if library.leading:
            # Once, until somebody has answered: who cannot hear anybody must not lead on for ever.
            if stalled and self._state.peers and library.last_answer > self._excused_at:
                library.excuse_silence(gap)
                self._excused_at = library.last_answer
            return
        if self._elections.is_idle(now, library.election_deadline):
            return
        step = self._elections.step(self._situation(now, stalled))
        if now > library.election_deadline and not stalled:
            library.forget_leader()  # whoever asks this node for the leader is not sent to a dead one
        if step is Step.POSTPONE:
            library.postpone_election()
        elif step is Step.HOLD:
            library.postpone_election(_HOLD_SECONDS)
        elif step is Step.ASK:
            library.postpone_election()
            self._ask()
        elif step is Step.KNOCK:
            library.postpone_election()
            self._knock()
        elif step is Step.CAMPAIGN:
            if self._elections.base_term > library.term:
                library.adopt_term(self._state.raft_id, self._elections.base_term)
            log.warning(
                "campaigning for the leadership of the raft group",
                raft_id=f"{self._state.raft_id:x}",
                term=library.term + 1,
                reason=self._reason(now),
            )
            library.campaign_now()

    def link_lost(self, peer: int) -> None:
        """Note that the stream of a peer has ended. The leader's most likely ended with the leader.

        Nobody votes before the shortest time-out is over, but it need not be drawn by lot who asks then: the
        members ask in turn, so that no two of them split the votes.
        """
        library, state, config = self._library, self._state, self._config
        if library.leading or peer != library.leader or state.raft_id not in state.members:
            return
        turn = sorted(state.members - {peer}).index(state.raft_id)
        span = config.election_max_seconds - config.election_min_seconds
        wait = config.election_min_seconds + span * (_FIRST_TURN + turn * _TURN)
        due = wait - self._elections.silence(self._now())
        if self._now() + due < library.election_deadline:
            library.postpone_election(max(due, 0.0))

    def outrun(self) -> None:
        """Note that a member without a leader has asked whose log is behind this one's: ask instead of it."""
        if not self._library.leading:
            self._library.postpone_election(0.0)

    def _reason(self, now: float) -> str:
        if self._elections.transferring:
            return "the leader asked for it"
        return f"no leader was heard for {self._elections.silence(now):.3f} s"

    def leading_changed(self, leading: bool) -> None:
        """Note that this node leads or ceased to lead, and say why it did."""
        library = self._library
        if leading:
            self._led_term = library.term
            return
        newer = library.term > self._led_term
        log.warning(
            "no longer leading the raft group",
            raft_id=f"{self._state.raft_id:x}",
            term=self._led_term,
            reason=f"term {library.term} has begun" if newer else "no majority answered for a time-out",
        )

    def stamp(self, message: Message) -> Message:
        """Mark the vote requests of a campaign that the leader asked for."""
        if self._elections.transferring and isinstance(message, VoteRequest):
            return replace(message, transfer=True)
        return message

    def ticked(self) -> None:
        """Note that the tick after ``look`` is over, and with it what a campaign sends."""
        self._elections.transferring = False

    def _situation(self, now: float, stalled: bool) -> Situation:
        library, state = self._library, self._state
        return Situation(
            now=now,
            deadline=library.election_deadline,
            term=library.term,
            is_member=state.raft_id in state.members,
            peers=state.peers,
            any_connected=any(self._mailbox.is_connected(peer) for peer in state.peers),
            unapplied=library.applied_index < library.commit_index,
            stalled=stalled,
        )

    def _ask(self) -> None:
        log.debug("no leader is heard; asking for pre-votes", term=self._library.term)
        request = self._request(self._elections.open_round(self._library.term))
        for peer in sorted(self._state.peers):
            self._post(peer, request)

    def _knock(self) -> None:
        request = self._request(_NO_ROUND)
        for peer in self._mailbox.connected_peers:
            self._post(peer, request)

    def _request(self, number: int) -> PreVoteRequest:
        last = self._state.log.last_index
        return PreVoteRequest(number, last, self._state.log.term_at(last) or 0)
