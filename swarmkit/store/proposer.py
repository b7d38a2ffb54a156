"""The seam between the store and replication: what each side promises the other.

The store turns a transaction into one log entry and hands it to a ``Proposer``; whoever replicates the log
drives a ``StateMachine``. ``swarmkit.raft`` implements the first and is given the second.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

#: Largest serialised proposal in bytes (contract/raft-store-manager.md, 5).
MAX_PROPOSAL_BYTES = 1_572_864


class ProposalError(Exception):
    """A proposal was not confirmed. It may still take effect later: failure means "unknown".

    ProposalError
    ├── LeadershipLostError   this node does not lead, or stopped leading while the proposal waited
    ├── ProposalTooLargeError over MAX_PROPOSAL_BYTES; nothing was appended
    └── StoppedError          the node is stopping or is not a member
    """


class LeadershipLostError(ProposalError):
    """This node does not lead (any more). Text that clients match: "node lost leader status"."""

    def __init__(self) -> None:
        super().__init__("node lost leader status")


class ProposalTooLargeError(ProposalError):
    """The serialised proposal is over ``MAX_PROPOSAL_BYTES``; nothing was appended."""

    def __init__(self, size: int) -> None:
        super().__init__(f"raft: raft message is too large and can't be sent ({size} bytes)")


class StoppedError(ProposalError):
    """The node is stopping, or is no member of the group."""

    def __init__(self) -> None:
        super().__init__("raft: node is stopped; the manager's log says why")


class Proposer(Protocol):
    """Appends entries to the replicated log. All methods are called on the event loop and never block."""

    @property
    def may_propose(self) -> bool:
        """Whether this node has announced its leadership: only then are proposals accepted."""
        ...

    def next_index(self) -> int:
        """Return the log index the next accepted proposal will get; exact while ``may_propose``."""
        ...

    def propose(self, data: bytes) -> "asyncio.Future[int]":
        """Queue one entry. The future ends with its index once it is committed **and** applied here.

        Entries are applied in the order of the calls, never before the call has returned. On loss of
        leadership all waiting futures fail together with ``LeadershipLostError``, after
        ``StateMachine.leadership_lost`` has been called and before any further entry is applied; on stopping
        the same happens with ``StoppedError``. While proposals wait, no foreign entry is applied: leadership
        is announced only when everything in the log is applied. Cancelling a future only means that nobody
        waits any more: it takes nothing back.

        Raises:
            LeadershipLostError: ``may_propose`` is false.
            ProposalTooLargeError: ``data`` is over ``MAX_PROPOSAL_BYTES``.
            StoppedError: the node is stopping.
        """
        ...

    def changes_since(self, index: int) -> Iterable[tuple[int, bytes]] | None:
        """Return the applied entries behind ``index`` in order.

        None if the log no longer reaches back to ``index``, or has not been applied that far.
        """
        ...


class StateMachine(Protocol):
    """What the replicated log drives. All methods run on the event loop, never await and must not fail.

    An exception from any of them is a divergence between managers: it stops the node.
    """

    def apply(self, index: int, data: bytes) -> None:
        """Apply the committed entry ``index``, own or foreign, in log order, each exactly once."""
        ...

    def leadership_lost(self) -> None:
        """Drop everything that was proposed here and is not yet applied."""
        ...

    def snapshot(self) -> Callable[[], bytes]:
        """Pin the present state; the returned function serialises it and may run in a thread."""
        ...

    def prepare(self, data: bytes) -> Callable[[], None]:
        """Read what ``snapshot`` serialised; the returned function puts it in the state's place.

        This may run in a thread, while nothing is applied and nobody leads here, and may take seconds. What
        it returns runs on the loop, before anything else is applied, and announces the differences as events.
        """
        ...
