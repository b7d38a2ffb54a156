"""What a node does about its deadlines: as a follower, candidate or leader."""

from collections.abc import Callable
from dataclasses import replace

from swarmkit.log import get_logger
from swarmkit.raft.elections import Elections, Situation, Step
from swarmkit.raft.library import Library
from swarmkit.raft.messages import Message, PreVoteRequest, VoteRequest
from swarmkit.raft.receiving import NodeState
from swarmkit.raft.transport import Mailbox

log = get_logger(__name__)

#: How long a candidacy waits for committed entries to be applied before it looks again.
_HOLD_SECONDS = 0.05


class Candidacy:
    """Carries out what ``Elections`` decides.

    Args:
        state: the node.
        library: the consensus.
        mailbox: who is connected.
        elections: decides.
        now: the loop's time.
        stall_seconds: what is overdue by more was missed because the loop stood still (H14).
        post: sends a message of the current term.
    """

    def __init__(
        self,
        state: NodeState,
        library: Library,
        mailbox: Mailbox,
        elections: Elections,
        now: Callable[[], float],
        stall_seconds: float,
        post: Callable[[int, Message], None],
    ) -> None:
        self._state = state
        self._library = library
        self._mailbox = mailbox
        self._elections = elections
        self._now = now
        self._stall_seconds = stall_seconds
        self._post = post

    def look(self) -> None:
        """Look at the deadline that matters; call right before a tick, with the inbox delivered."""
        library, now = self._library, self._now()
        if library.leading:
            late = now - library.heartbeat_due
            if late > self._stall_seconds and self._state.peers:
                library.excuse_silence(late)
            return
        step = self._elections.step(self._situation(now))
        if step is Step.POSTPONE:
            library.postpone_election()
        elif step is Step.HOLD:
            library.postpone_election(_HOLD_SECONDS)
        elif step is Step.ASK:
            library.postpone_election()
            self._ask()
        elif step is Step.CAMPAIGN:
            if self._elections.base_term > library.term:
                library.adopt_term(self._state.raft_id, self._elections.base_term)
            library.campaign_now()

    def stamp(self, message: Message) -> Message:
        """Mark the vote requests of a campaign that the leader asked for."""
        if self._elections.transferring and isinstance(message, VoteRequest):
            return replace(message, transfer=True)
        return message

    def ticked(self) -> None:
        """Note that the tick after ``look`` is over, and with it what a campaign sends."""
        self._elections.transferring = False

    def _situation(self, now: float) -> Situation:
        library, state = self._library, self._state
        return Situation(
            now=now,
            deadline=library.election_deadline,
            term=library.term,
            is_member=state.raft_id in state.members,
            peers=state.peers,
            any_connected=any(self._mailbox.is_connected(peer) for peer in state.peers),
            unapplied=library.applied_index < library.commit_index,
        )

    def _ask(self) -> None:
        library, last = self._library, self._state.log.last_index
        number = self._elections.open_round(library.term)
        last_term = self._state.log.term_at(last) or 0
        log.debug("no leader is heard; asking for pre-votes", term=library.term)
        for peer in sorted(self._state.peers):
            self._post(peer, PreVoteRequest(number, last, last_term))
