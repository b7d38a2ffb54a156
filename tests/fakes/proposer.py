"""A replicated log of one, without raft: a ``Proposer`` that tests drive by hand or let run."""

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from swarmkit.store import (
    MAX_PROPOSAL_BYTES,
    LeadershipLostError,
    ProposalTooLargeError,
    StateMachine,
    StoppedError,
)


@dataclass
class _Waiting:
    index: int
    data: bytes
    future: "asyncio.Future[int]"


class FakeProposer:
    """Leads from the start and keeps the rules of the seam.

    With ``automatic`` each proposal is committed by the loop, in order, soon after it was made; otherwise by
    ``commit``. ``lose_leadership`` fails what waits; ``log`` holds what was committed.
    """

    def __init__(self, machine: StateMachine, *, automatic: bool = True) -> None:
        self.log: list[tuple[int, bytes]] = []
        self._machine = machine
        self._automatic = automatic
        self._waiting: deque[_Waiting] = deque()
        self._leading = True
        self._stopped = False
        self._next = 2  # behind the entry with which a leader begins
        self._first_kept = 1

    @property
    def may_propose(self) -> bool:
        return self._leading

    @property
    def waiting(self) -> int:
        """The number of proposals that are not committed yet."""
        return len(self._waiting)

    def next_index(self) -> int:
        if self._stopped:
            raise StoppedError
        return self._next

    def propose(self, data: bytes) -> "asyncio.Future[int]":
        if self._stopped:
            raise StoppedError
        if not self._leading:
            raise LeadershipLostError
        if len(data) > MAX_PROPOSAL_BYTES:
            raise ProposalTooLargeError(len(data))
        loop = asyncio.get_running_loop()
        waiting = _Waiting(self._next, data, loop.create_future())
        self._next += 1
        self._waiting.append(waiting)
        if self._automatic:
            loop.call_soon(self._commit_up_to, waiting.index)
        return waiting.future

    def changes_since(self, index: int) -> Iterable[tuple[int, bytes]] | None:
        applied = self._next - 1 - len(self._waiting)
        if not self._first_kept - 1 <= index <= applied:
            return None
        return [entry for entry in self.log if entry[0] > index]

    def commit(self, count: int = 1) -> None:
        """Commit and apply the ``count`` oldest proposals."""
        for _ in range(count):
            waiting = self._waiting.popleft()
            self._apply(waiting.index, waiting.data)
            if not waiting.future.done():
                waiting.future.set_result(waiting.index)

    def commit_all(self) -> None:
        """Commit and apply whatever waits."""
        self.commit(len(self._waiting))

    def lose_leadership(self) -> list[bytes]:
        """Stop leading: everything that waits fails. Return those entries, which may commit elsewhere."""
        self._leading = False
        lost = list(self._waiting)
        self._waiting.clear()
        self._next -= len(lost)
        self._machine.leadership_lost()
        for waiting in lost:
            if not waiting.future.done():
                waiting.future.set_exception(LeadershipLostError())
        return [waiting.data for waiting in lost]

    def gain_leadership(self) -> None:
        """Lead again; a new leader first appends an entry that is not the store's."""
        self._next += 1
        self._leading = True

    def stop(self) -> None:
        """Refuse everything from now on, as a node that is stopping does."""
        self.lose_leadership()
        self._stopped = True

    def append_foreign(self, data: bytes) -> int:
        """Commit and apply an entry that another manager proposed, and return its index."""
        index = self._next
        self._next += 1
        self._apply(index, data)
        return index

    def compact(self, index: int) -> None:
        """Forget the entries up to and including ``index``."""
        self.log = [entry for entry in self.log if entry[0] > index]
        self._first_kept = index + 1

    def _commit_up_to(self, index: int) -> None:
        while self._waiting and self._waiting[0].index <= index:
            self.commit()

    def _apply(self, index: int, data: bytes) -> None:
        self.log.append((index, data))
        self._machine.apply(index, data)
