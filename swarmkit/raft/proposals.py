"""Proposals that wait: queued for the log, or in the log and not applied yet."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from swarmkit.raft.errors import ProposalQueueFullError
from swarmkit.store.proposer import ProposalError


@dataclass(slots=True)
class _Waiting:
    index: int
    since: float
    size: int
    future: "asyncio.Future[int]"


class Proposals:
    """A queue in log order with the future of each proposal. Bounded in number and bytes.

    Args:
        max_count: proposals that wait at most.
        max_bytes: the same in bytes, unless a single one has more.
        now: the loop's time.

    Invariant: ``next_index`` is exact while the driver alone feeds the log and this node leads, because the
    entries behind the log's last one are exactly those of the queue, in its order.
    """

    def __init__(self, max_count: int, max_bytes: int, now: Callable[[], float]) -> None:
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._now = now
        self._queue: deque[bytes] = deque()
        self._waiting: deque[_Waiting] = deque()
        self._bytes = 0
        self.next_index = 0
        #: Called when a proposal begins to wait and none did before.
        self.on_first: Callable[[], None] = lambda: None

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def queued(self) -> int:
        """How many are to be appended."""
        return len(self._queue)

    @property
    def oldest(self) -> tuple[int, float] | None:
        """Index of the proposal that waits longest, and since when it does; None: none waits."""
        return (self._waiting[0].index, self._waiting[0].since) if self._waiting else None

    def add(self, command: bytes) -> "asyncio.Future[int]":
        """Queue a command; its future ends with its index when it is applied.

        Raises:
            ProposalQueueFullError: too much waits already.
        """
        size = len(command)
        if len(self._waiting) >= self._max_count or (self._waiting and self._bytes + size > self._max_bytes):
            raise ProposalQueueFullError(len(self._waiting))
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if not self._waiting:
            self.on_first()
        self._queue.append(command)
        self._waiting.append(_Waiting(self.next_index, self._now(), size, future))
        self._bytes += size
        self.next_index += 1
        return future

    def take(self, max_count: int, max_bytes: int) -> list[bytes]:
        """Take queued commands for the log: at least one if there is one, then as many as fit the limits."""
        taken: list[bytes] = []
        size = 0
        while self._queue and len(taken) < max_count:
            size += len(self._queue[0])
            if taken and size > max_bytes:
                break
            taken.append(self._queue.popleft())
        return taken

    def applied(self, index: int, error: Exception | None = None) -> None:
        """Resolve the proposal with this index, if one of ours has it: with its index, or with ``error``."""
        if not self._waiting or self._waiting[0].index != index:
            return
        head = self._waiting.popleft()
        self._bytes -= head.size
        if head.future.done():
            return  # given up by its author; the entry is applied nevertheless
        if error is None:
            head.future.set_result(index)
        else:
            head.future.set_exception(error)

    def fail_all(self, error: Callable[[], ProposalError]) -> None:
        """Fail everything that waits, in order, and forget what is queued."""
        waiting, self._waiting = self._waiting, deque()
        self._queue.clear()
        self._bytes = 0
        for item in waiting:
            if not item.future.done():
                item.future.set_exception(error())
                # Authors may have stopped looking (a cancelled RPC); that is no programming error.
                item.future.exception()
