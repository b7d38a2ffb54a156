"""Whether this node leads, beyond doubt: what every linearizable read asks first (hazards, 10).

Everything that leaves passes here, so that what a leader sends carries its round, what a follower answers
carries the newest round it has processed, and a leader's wish to be succeeded ends its lease before it
leaves.
"""

import asyncio
from collections.abc import Callable, Iterable

from swarmkit.api import messages as api
from swarmkit.raft.lease import Lease
from swarmkit.raft.messages import Append, Envelope, Reply, SnapshotPart, TimeoutNow
from swarmkit.raft.receiving import NodeState
from swarmkit.raft.transport import PeerLinks
from swarmkit.store.proposer import ProposalError


class Confirmations:
    """Proves leadership; implements ``PeerLinks`` around the carrier's, and ``receiving.Rounds``.

    Args:
        state: the node.
        links: the carrier's.
        now: the loop's time.
        promise_seconds: how long this node elects nobody after hearing a leader: the shortest time-out.
        wake: has a cycle run.
    """

    def __init__(
        self,
        state: NodeState,
        links: PeerLinks,
        now: Callable[[], float],
        promise_seconds: float,
        wake: Callable[[], None],
    ) -> None:
        self._state = state
        self._links = links
        self._now = now
        self._promise_seconds = promise_seconds
        self._wake = wake
        self.lease = Lease(promise_seconds)
        # By the number of the round that answers, ascending; callers share. Those sent and not echoed yet, at
        # most one a heartbeat until leadership is lost, and the next.
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._heard = (0, 0)
        self._heard_round = 0

    # -- Asking -------------------------------------------------------------------------------------------

    @property
    def holds(self) -> bool:
        """Whether nobody else can lead at this moment, given that this node has announced that it does."""
        return self.lease.holds(self._now(), self._state.peers)

    async def wait(self) -> None:
        """Wait for a majority's echo of a round that begins from now on, or for a lease meanwhile.

        Raises:
            ProposalError: as ``fail`` was told.
        """
        number = self.lease.number + 1
        future = self._waiting.get(number)
        if future is None:
            future = self._waiting[number] = asyncio.get_running_loop().create_future()
            self._wake()
        await asyncio.shield(future)

    def look(self) -> bool:
        """Answer whom that can be; tell whether a round is to be sent now.

        While one is on its way, those who come later wait for the next, which begins as soon as it is back.
        Should it be lost, the next heartbeat is as good.
        """
        self._settle()
        return bool(self._waiting) and next(iter(self._waiting)) > self.lease.number

    def begin(self) -> None:
        """Note that this node begins to lead."""
        self.lease.begin()

    def fail(self, error: Callable[[], ProposalError]) -> None:
        """Fail all who wait: leadership is over."""
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            future.set_exception(error())
            future.exception()  # looked at, should its callers have gone

    def _settle(self) -> None:
        if not self._waiting:
            return
        confirmed = max(self._waiting) if self.holds else self.lease.confirmed(self._state.peers)
        for number in [number for number in self._waiting if number <= confirmed]:
            self._waiting.pop(number).set_result(None)

    # -- Rounds that come in ------------------------------------------------------------------------------

    def heard(self, envelope: Envelope) -> None:
        """Note that an append or a piece of a leader was processed."""
        leadership = (envelope.source, envelope.term)
        if leadership != self._heard:
            self._heard, self._heard_round = leadership, 0
        self._heard_round = max(self._heard_round, envelope.round)

    def echoed(self, envelope: Envelope) -> None:
        """Note that a member answers this leader in its term."""
        self.lease.echoed(envelope.source, envelope.round, envelope.promise_ms / 1000)

    # -- PeerLinks ----------------------------------------------------------------------------------------

    def send(self, envelope: Envelope) -> None:
        """Take a message, and mark it."""
        self._links.send(self._marked(envelope))

    def _marked(self, envelope: Envelope) -> Envelope:
        message, state = envelope.message, self._state
        if isinstance(message, (Append, SnapshotPart)):
            if state.leading and envelope.term == state.term:
                fresh = bool(self._waiting) and max(self._waiting) > self.lease.number
                return _with_round(envelope, self.lease.stamp(self._now(), fresh), 0)
        elif isinstance(message, Reply):
            if (envelope.target, envelope.term) == self._heard:
                return _with_round(envelope, self._heard_round, int(self._promise_seconds * 1000))
        elif isinstance(message, TimeoutNow):
            self.lease.void()
        return envelope

    def is_congested(self, peer: int) -> bool:
        """As the carrier's links."""
        return self._links.is_congested(peer)

    def update_members(self, members: Iterable[api.RaftMember], removed: Iterable[int]) -> None:
        """As the carrier's links."""
        self._links.update_members(members, removed)


def _with_round(envelope: Envelope, number: int, promise_ms: int) -> Envelope:
    return Envelope(envelope.source, envelope.target, envelope.term, envelope.message, number, promise_ms)
