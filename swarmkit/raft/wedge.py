"""The wedge guard: a leader that decides nothing makes room for another (contract/raft-store-manager.md, 4).

A leader whom a majority answers keeps its office even if it cannot get anything decided: its own disk hangs,
or something is wrong in this process. Another member may do better.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from swarmkit.clock import Clock
from swarmkit.log import get_logger
from swarmkit.raft.errors import TransferError
from swarmkit.store.proposer import ProposalError

log = get_logger(__name__)

#: How long a proposal of a leader may stay undecided.
LIMIT_SECONDS = 30.0

#: Seconds from one reaction to the next at least.
REST_SECONDS = 60.0

#: A handover that takes longer is stuck with the cycle that should carry it out.
HANDOVER_SECONDS = 20.0


class WedgeGuard:
    """Watches the oldest undecided proposal; ``run`` sleeps while there is none.

    Args:
        oldest: returns index and time of the proposal that waits longest; None: none waits.
        facts: returns what is known about the group, as fields of a line in the log.
        hand_over: hands the leadership to the best member and returns its raft id.
        clock: time.
    """

    def __init__(
        self,
        oldest: Callable[[], tuple[int, float] | None],
        facts: Callable[[], Mapping[str, object]],
        hand_over: Callable[[], Awaitable[int]],
        clock: Clock,
    ) -> None:
        self._oldest = oldest
        self._facts = facts
        self._hand_over = hand_over
        self._clock = clock
        self._stirred = asyncio.Event()

    def stir(self) -> None:
        """Note that a proposal begins to wait."""
        self._stirred.set()

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await self._stirred.wait()
            self._stirred.clear()
            while (waiting := self._oldest()) is not None:
                index, since = waiting
                seconds = self._clock.monotonic() - since
                if seconds < LIMIT_SECONDS:
                    await self._clock.sleep(LIMIT_SECONDS - seconds)
                else:
                    await self._react(index, seconds)

    async def _react(self, index: int, seconds: float) -> None:
        began = self._clock.monotonic()
        log.warning(
            "a proposal is undecided for too long; handing the leadership to another manager",
            index=index,
            seconds=f"{seconds:.1f}",
            **self._facts(),
        )
        try:
            async with asyncio.timeout(HANDOVER_SECONDS):
                heir = await self._hand_over()
        except TimeoutError:
            log.warning(
                "the leadership was not handed over: this node does not get to it; is its disk stuck?"
            )
        except (TransferError, ProposalError) as error:
            log.warning("the leadership was not handed over", error=error)
        else:
            log.warning("the leadership was handed over", leader=f"{heir:x}")
        await self._clock.sleep(REST_SECONDS - (self._clock.monotonic() - began))
