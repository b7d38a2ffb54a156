"""From the inbox to the library: the filter, then the few things a message can do here."""

import math
from typing import Protocol

from swarmkit.log import get_logger
from swarmkit.raft.admission import Admission, LogView, Verdict
from swarmkit.raft.elections import Elections
from swarmkit.raft.library import Library
from swarmkit.raft.log import RaftLog
from swarmkit.raft.messages import (
    Append,
    Envelope,
    Message,
    PreVote,
    RemovedNotice,
    Reply,
    SnapshotPart,
    TermNotice,
    TimeoutNow,
)
from swarmkit.raft.replica import Replica
from swarmkit.raft.snapshots import Image
from swarmkit.raft.transport import LinkChange, Mailbox, Received

log = get_logger(__name__)

#: Seconds between two lines about the same peer.
_COMPLAINT_SECONDS = 10.0

#: Peers complained about that are remembered at most.
_MAX_COMPLAINTS = 100


class NodeState:
    """What the filter asks of the node; implements ``admission.NodeView``."""

    def __init__(
        self, raft_id: int, library: Library, raft_log: RaftLog, replica: Replica, elections: Elections
    ) -> None:
        self.raft_id = raft_id
        self._library = library
        self._log = raft_log
        self._replica = replica
        self._elections = elections
        self._members: frozenset[int] = frozenset()
        self._peers: frozenset[int] = frozenset()

    @property
    def peers(self) -> frozenset[int]:
        """The members but this one."""
        if self.members is not self._members:
            self._members = self.members
            self._peers = self._members - {self.raft_id}
        return self._peers

    @property
    def term(self) -> int:
        """The current term."""
        return self._library.term

    @property
    def leading(self) -> bool:
        """Whether this node leads."""
        return self._library.leading

    @property
    def campaigning(self) -> bool:
        """Whether this node is a candidate."""
        return self._library.campaigning

    @property
    def leader(self) -> int | None:
        """The leader last heard of."""
        return self._library.leader

    @property
    def commit_index(self) -> int:
        """What is known to be committed."""
        return self._library.commit_index

    @property
    def members(self) -> frozenset[int]:
        """The group as far as it is known."""
        return self._replica.membership.ids

    @property
    def removed(self) -> frozenset[int]:
        """The raft ids that were removed for ever."""
        return self._replica.membership.removed

    @property
    def log(self) -> LogView:
        """The log."""
        return self._log

    def match_index(self, peer: int) -> int:
        """Return how far a peer's log is known to be as this leader's."""
        return self._library.match_index(peer)

    def leader_silence(self, now: float) -> float:
        """Return for how many seconds no leader was heard."""
        return self._elections.silence(now)


class Host(Protocol):
    """What a message can make the driver do."""

    def reply(self, peer: int, message: Message) -> None:
        """Post a message of the current term."""
        ...

    async def install(self, part: SnapshotPart) -> Image | None:
        """Take a piece of a snapshot; return the snapshot once it is complete, durable and restored."""
        ...

    def installed(self, image: Image) -> None:
        """Go on from an installed snapshot."""
        ...

    def own_removal(self) -> None:
        """Stop: the group has removed this node."""
        ...

    def link_lost(self, peer: int) -> None:
        """Note that a peer's stream has ended."""
        ...

    def outrun(self) -> None:
        """Note that a member wants to lead whose log is behind this one's."""
        ...


class Rounds(Protocol):
    """Who is told which rounds were processed (``confirmations.py``)."""

    def heard(self, envelope: Envelope) -> None:
        """Note that an append or a piece of a leader was processed."""
        ...

    def echoed(self, envelope: Envelope) -> None:
        """Note that a member answers this leader in its term."""
        ...


class Receiver:
    """Delivers the inbox.

    Args:
        host: the driver.
        mailbox: where messages wait.
        library: the consensus.
        elections: told of leaders and answers.
        admission: the filter.
        rounds: told of rounds and their echoes.
    """

    def __init__(
        self,
        host: Host,
        mailbox: Mailbox,
        library: Library,
        elections: Elections,
        admission: Admission,
        rounds: Rounds,
    ) -> None:
        self._host = host
        self._mailbox = mailbox
        self._library = library
        self._elections = elections
        self.admission = admission
        self._rounds = rounds
        self._complaints: dict[int, float] = {}
        #: A peer has told where its log ends: sending at once spares it a heartbeat (H7).
        self.was_reset = False

    async def deliver(self) -> None:
        """Take the inbox and deal with each message in order."""
        for item in self._mailbox.take_inbox():
            if isinstance(item, LinkChange):
                self._library.set_connected(item.peer, item.connected)
                if not item.connected:
                    self._host.link_lost(item.peer)
            elif self._mailbox.is_current(item):
                await self._receive(item)

    async def _receive(self, item: Received) -> None:
        envelope = item.envelope
        verdict = self.admission.examine(envelope, item.at)
        if verdict.refused:
            self._note(envelope, verdict, item.at)
        if verdict.outrun:
            self._host.outrun()
        if verdict.deliver is not None:
            try:
                await self._hand_on(item, verdict.deliver)
            except Exception:  # the boundary to a peer: whatever it sent must not end this node
                log.exception("cannot handle a message", peer=f"{envelope.source:x}")
                return
        if verdict.commit:
            self._library.raise_commit(verdict.commit)
        if verdict.answer is not None:
            self._host.reply(envelope.source, verdict.answer)

    async def _hand_on(self, item: Received, message: Message) -> None:
        sender, term = item.envelope.source, item.envelope.term
        if isinstance(message, PreVote):
            self._elections.granted(sender, message.round, term)
        elif isinstance(message, TimeoutNow):
            self._elections.force(term)
        elif isinstance(message, TermNotice):
            self._library.adopt_term(sender, term)
        elif isinstance(message, RemovedNotice):
            self._host.own_removal()
        elif isinstance(message, SnapshotPart) and message.piece is not None:
            image = await self._host.install(message)
            self._library.receive(sender, term, message)
            if image is not None:
                self._host.installed(image)
        else:
            self._library.receive(sender, term, message)
        if isinstance(message, (Append, SnapshotPart)):
            self._elections.heard_leader(item.at)
            self._rounds.heard(item.envelope)
        elif isinstance(message, Reply):
            self._rounds.echoed(item.envelope)
            self.was_reset = self.was_reset or message.reset

    def _note(self, envelope: Envelope, verdict: Verdict, at: float) -> None:
        kind, peer = type(envelope.message).__name__, envelope.source
        if not verdict.alarming:
            log.debug("refused a message", peer=f"{peer:x}", kind=kind, reason=verdict.refused)
        elif at - self._complaints.get(peer, -math.inf) >= _COMPLAINT_SECONDS:
            if len(self._complaints) >= _MAX_COMPLAINTS:
                self._complaints.clear()
            self._complaints[peer] = at
            log.warning("refused a message", peer=f"{peer:x}", kind=kind, reason=verdict.refused)
