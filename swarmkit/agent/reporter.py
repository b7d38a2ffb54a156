"""Sends task statuses to the managers: at least once, one pending per task, never backwards.

Source: contract/dispatcher-agent.md, 7.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from swarmkit.agent.step import copy_of
from swarmkit.api import messages as api
from swarmkit.log import get_logger

log = get_logger(__name__)

#: Most statuses in one request. PARITY: the original sends one; all managers accept several, and after a
#: refused request we send one at a time, since one bad status refuses its whole request.
BATCH_SIZE = 100

Update = tuple[str, api.TaskStatus]


class SendError(Exception):
    """A request was not delivered, or delivery is unknown; the statuses are sent again."""


#: Delivers statuses or raises SendError; waits while there is no session.
Send = Callable[[Sequence[Update]], Awaitable[None]]


class Reporter:
    """Holds one pending status per task and sends it as soon as a session lets it.

    The pending map is bounded by the number of tasks of the node.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._pending: dict[str, api.TaskStatus] = {}
        self._wake = asyncio.Event()
        self._batch = BATCH_SIZE

    def update(self, task_id: str, status: api.TaskStatus) -> None:
        """Queue a status. An equal one, or one of a lower state than the pending one, is ignored."""
        pending = self._pending.get(task_id)
        if pending is not None and (pending == status or status.state < pending.state):
            return
        self._pending[task_id] = copy_of(status)
        self._wake.set()

    async def run(self) -> None:
        """Send until cancelled; what is unsent then is dropped."""
        while True:
            await self._wake.wait()
            batch = [(task_id, self._pending.pop(task_id)) for task_id in list(self._pending)[: self._batch]]
            if not batch:
                self._wake.clear()
                continue
            try:
                await self._send(batch)
                self._batch = BATCH_SIZE
            except SendError as error:
                log.debug("statuses not delivered, they are sent again", count=len(batch), error=error)
                self._batch = 1
                for task_id, status in batch:
                    self._pending.setdefault(task_id, status)
