"""Many small independent changes in few proposals (contract/raft-store-manager.md, 5)."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from swarmkit.store.codec import encode_change
from swarmkit.store.proposer import MAX_PROPOSAL_BYTES, ProposalError, StoppedError
from swarmkit.store.transaction import Tx

if TYPE_CHECKING:
    from swarmkit.store.store import Store

T = TypeVar("T")

#: Changes after which a batch begins its next proposal.
MAX_BATCH_CHANGES = 200

#: Bytes after which it does: three quarters of what a proposal may have.
MAX_BATCH_BYTES = MAX_PROPOSAL_BYTES * 3 // 4


class Batch:
    """An open batch; use it as ``async with store.batch() as batch``.

    The part that is being filled is proposed when it is full, when another transaction starts (which then
    sees it as in flight), and at the end of the block, which waits for all parts. If the block raises, the
    part being filled is dropped and what was proposed stays.
    """

    def __init__(self, store: "Store") -> None:
        self._store = store
        self._part: Tx | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self._sent: list[asyncio.Future[int]] = []
        self._error: ProposalError | None = None
        self._ended = False

    def update(self, callback: Callable[[Tx], T]) -> T:
        """Run ``callback`` on the newest state, all or nothing, and return its result.

        Raises:
            ProposalError: an earlier part failed; the batch is over and nothing more is proposed (D5, D6).
            Exception: whatever ``callback`` raises; its changes are undone, the batch goes on.
        """
        if self._ended:
            raise RuntimeError("the batch has ended")
        self._raise_failure()
        part = self._part
        if part is None:
            part = self._part = self._store._open_part(self)
        start = len(part.changes)
        result = self._store._run(part, callback)
        added = [encode_change(change) for change in part.changes[start:]]
        self._pieces += added
        self._size += sum(map(len, added))
        if len(part.changes) >= MAX_BATCH_CHANGES or self._size >= MAX_BATCH_BYTES:
            self._send()
            self._raise_failure()
        return result

    def _send(self) -> None:
        """Propose the open part, if there is one; a failure is kept and ends the batch."""
        part, pieces = self._part, self._pieces
        self._forget_part()
        if part is None or not part.changes:
            return
        try:
            future = self._store._propose(part, pieces)
        except ProposalError as error:
            self._error = error
            return
        if future is not None:
            future.add_done_callback(_retrieve)
            self._sent.append(future)

    def _drop(self, error: ProposalError | None = None) -> None:
        """Undo the open part; with ``error``, the batch is over."""
        if self._part is not None:
            self._part.undo()
        self._forget_part()
        self._error = self._error or error

    def _forget_part(self) -> None:
        if self._part is not None:
            self._part.close()
        self._part = None
        self._pieces = []
        self._size = 0
        self._store._close_part(self)

    def _raise_failure(self) -> None:
        while self._sent and self._sent[0].done():
            done = self._sent.pop(0)
            error = StoppedError() if done.cancelled() else done.exception()
            if isinstance(error, ProposalError):
                self._error = self._error or error
        if self._error is not None:
            self._drop()
            raise self._error

    async def __aenter__(self) -> "Batch":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True
        if error is not None:
            self._drop()
            return
        self._send()
        if self._sent:
            await asyncio.wait(self._sent)
        self._raise_failure()


def _retrieve(future: "asyncio.Future[int]") -> None:
    """Mark the outcome as seen: a batch whose block raised does not look at it."""
    if not future.cancelled():
        future.exception()
