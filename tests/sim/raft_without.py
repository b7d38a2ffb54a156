"""Rules that a simulated group can be left without, to show what each of them is for."""

import enum
import math
from collections.abc import Awaitable, Callable, Collection
from functools import partial

from swarmkit.raft.admission import Admission, Verdict
from swarmkit.raft.config import RaftConfig
from swarmkit.raft.dialect import to_library
from swarmkit.raft.driver import Driver
from swarmkit.raft.lease import LEASE_FRACTION, Lease
from swarmkit.raft.library import Library, _Peer
from swarmkit.raft.log import Pending
from swarmkit.raft.messages import Append, Envelope, Message, Reply, SnapshotPart, Vote, VoteRequest


class Rule(enum.Enum):
    """What members would not do."""

    #: Filter messages: the library sees everything.
    FILTER = enum.auto()
    #: Hold replies and votes back until the sync they speak of.
    HOLD = enum.auto()
    #: Count a lease from the beginning of its round: it counts from the receipt of the echo.
    LEASE_FROM_ROUND = enum.auto()
    #: Rely on a lease for no longer than the promises that it is made of: it never ends.
    LEASE_ENDS = enum.auto()
    #: Keep, after a start, what the former life may have promised to a leader.
    PROMISE_KEPT = enum.auto()
    #: Rely on no lease once another member was asked to campaign.
    LEASE_VOID = enum.auto()
    #: Refuse to vote while a leader lives.
    STICKINESS = enum.auto()


class Unfiltered(Admission):
    """What the library would do by itself: its own messages pass as they come."""

    def examine(self, envelope: Envelope, at: float) -> Verdict:
        if isinstance(envelope.message, (Append, SnapshotPart, Reply, Vote, VoteRequest)):
            return Verdict(deliver=envelope.message)
        return super().examine(envelope, at)


class LeaseFromReceipt(Lease):
    """Counts a lease from when it hears of the echo."""

    def __init__(self, promise_seconds: float, now: Callable[[], float]) -> None:
        super().__init__(promise_seconds)
        self._now = now

    def echoed(self, peer: int, number: int, promise_seconds: float) -> None:
        super().echoed(peer, number, promise_seconds)
        self._until[peer] = self._now() + LEASE_FRACTION * promise_seconds


class LeaseForEver(Lease):
    """Relies on what a majority has promised once, however long ago."""

    def holds(self, now: float, peers: Collection[int]) -> bool:
        return super().holds(-math.inf, peers)


class LeaseNeverVoid(Lease):
    """Relies on leases whatever it asked of others."""

    def void(self) -> None:
        pass


def leave_out(rule: Rule, driver: Driver, config: RaftConfig) -> None:
    """Let a node that was just started not keep a rule."""
    confirmations, promise = driver.confirmations, config.election_min_seconds
    if rule is Rule.FILTER:
        driver.receiver.admission = Unfiltered(driver.state, promise)
        driver.library.receive = partial(_receive_as_it_comes, driver.library)  # type: ignore[method-assign]
    elif rule is Rule.HOLD:
        driver._sync = partial(_sync_too_late, driver, driver._sync)  # type: ignore[method-assign]
    elif rule is Rule.LEASE_FROM_ROUND:
        confirmations.lease = LeaseFromReceipt(promise, confirmations._now)
    elif rule is Rule.LEASE_ENDS:
        confirmations.lease = LeaseForEver(promise)
    elif rule is Rule.LEASE_VOID:
        confirmations.lease = LeaseNeverVoid(promise)
    elif rule is Rule.PROMISE_KEPT:
        driver._elections.forget_leader()
    elif rule is Rule.STICKINESS:
        driver.receiver.admission = Admission(driver.state, 0.0)


def _receive_as_it_comes(library: Library, peer: int, term: int, message: Message) -> None:
    """Hand a message to the library without R6, which is kept behind the filter."""
    library._core._SyncObj__onMessageReceived(_Peer(peer), to_library(term, message))


async def _sync_too_late(
    driver: Driver, sync: Callable[[Pending], Awaitable[None]], pending: Pending
) -> None:
    driver._release(driver.mailbox.take_outbox())
    await sync(pending)
