"""Handing the leadership over (contract/pysyncobj-hazards.md, 10).

The leader stops appending proposals, waits until the heir has all of the log, asks it to campaign, and waits
until another leader is known. Proposals that arrive meanwhile wait in the queue: they fail only if leadership
really moves, and are appended if it does not.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

from swarmkit.raft.errors import TransferError
from swarmkit.raft.library import Library
from swarmkit.raft.log import RaftLog
from swarmkit.raft.messages import Message, TimeoutNow
from swarmkit.raft.quorum import Heir, choose_heir
from swarmkit.raft.receiving import NodeState
from swarmkit.raft.transport import Mailbox
from swarmkit.store.proposer import LeadershipLostError


class Leadership(Protocol):
    """What a handover asks of the node."""

    @property
    def leading(self) -> bool:
        """Whether this node leads."""
        ...

    @property
    def leader(self) -> int | None:
        """The leader last heard of."""
        ...

    def heirs(self) -> Iterable[Heir]:
        """Return the connected members."""
        ...

    def has_everything(self, peer: int) -> bool:
        """Tell whether a connected peer has the whole log of this leader."""
        ...

    @property
    def post(self) -> Callable[[int, Message], None]:
        """Posts a message of the current term."""
        ...


class Office:
    """The leadership of a running node; implements ``Leadership``."""

    def __init__(
        self,
        state: NodeState,
        library: Library,
        raft_log: RaftLog,
        mailbox: Mailbox,
        post: Callable[[int, Message], None],
    ) -> None:
        self._state = state
        self._library = library
        self._log = raft_log
        self._mailbox = mailbox
        self.post = post

    @property
    def leading(self) -> bool:
        """Whether this node leads."""
        return self._library.leading

    @property
    def leader(self) -> int | None:
        """The leader last heard of."""
        return self._library.leader

    def heirs(self) -> list[Heir]:
        """Return the connected members."""
        mailbox, match = self._mailbox, self._library.match_index
        connected = [peer for peer in sorted(self._state.peers) if mailbox.is_connected(peer)]
        return [Heir(peer, match(peer), mailbox.connected_since(peer)) for peer in connected]

    def has_everything(self, peer: int) -> bool:
        """Tell whether a connected peer has the whole log of this leader."""
        return self._mailbox.is_connected(peer) and self._library.match_index(peer) == self._log.last_index


class Handover:
    """At most one handover at a time; looked at in every cycle.

    Args:
        node: whose leadership it is.
        now: the loop's time.
        patience_seconds: for the heir to catch up, and again for it to be elected: an election time-out.
        wake: has a cycle run.
    """

    def __init__(
        self, node: Leadership, now: Callable[[], float], patience_seconds: float, wake: Callable[[], None]
    ) -> None:
        self._node = node
        self._now = now
        self._patience_seconds = patience_seconds
        self._wake = wake
        self._heir = 0
        self._asked = False
        self._done: asyncio.Future[int] | None = None
        #: When the present step must be over; None: no handover is under way.
        self.deadline: float | None = None

    @property
    def holds_proposals(self) -> bool:
        """Whether nothing is to be appended."""
        return self.deadline is not None and self._node.leading

    async def run(self, heir: int | None = None) -> int:
        """Hand over to ``heir``, or to the best peer; return the raft id of the leader that follows.

        Raises:
            LeadershipLostError: this node does not lead.
            TransferError: nobody can take over, one is under way already, or it did not come about in time;
                this node leads on unless the group has elected another.
        """
        if not self._node.leading:
            raise LeadershipLostError
        if self.deadline is not None:
            raise TransferError("leadership is being transferred already")
        heirs = list(self._node.heirs())
        chosen = choose_heir(heirs) if heir is None else heir
        if chosen is None:
            raise TransferError("no other manager is connected that could take over the leadership")
        if chosen not in {known.raft_id for known in heirs}:
            raise TransferError(f"member {chosen:x} cannot take over the leadership: it is not connected")
        self._heir, self._asked = chosen, False
        self.deadline = self._now() + self._patience_seconds
        self._done = asyncio.get_running_loop().create_future()
        self._wake()
        try:
            return await self._done
        finally:
            self.deadline = self._done = None
            self._wake()

    def look(self) -> None:
        """Take the next step if it is time; never awaits."""
        if self.deadline is None or self._done is None or self._done.done():
            return
        node = self._node
        if not node.leading and node.leader is not None:
            self._done.set_result(node.leader)
        elif self._now() > self.deadline:
            step = "campaign successfully" if self._asked else "catch up with the log"
            self._done.set_exception(TransferError(f"member {self._heir:x} did not {step} in time"))
        elif node.leading and not self._asked and node.has_everything(self._heir):
            self._asked = True
            self.deadline = self._now() + self._patience_seconds
            node.post(self._heir, TimeoutNow())

    def abandon(self) -> None:
        """End a handover that is under way: the node stops."""
        if self._done is not None and not self._done.done():
            self._done.set_exception(TransferError("the node is stopping"))
