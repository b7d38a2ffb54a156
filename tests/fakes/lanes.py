"""A lane without a thread: calls run on the loop, in order, after a latency of the test's choosing."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from swarmkit.raft.driver import Lanes

T = TypeVar("T")


class InlineLane:
    """Implements ``swarmkit.raft.lanes.Lane``. A call takes effect at the end of its latency."""

    def __init__(self, latency: float = 0.0) -> None:
        self.latency = latency
        self.calls = 0
        self.is_closed = False
        self._lock = asyncio.Lock()

    async def run(self, call: Callable[[], T]) -> T:
        async with self._lock:
            self.calls += 1
            await asyncio.sleep(self.latency)
            return call()

    def close(self) -> None:
        self.is_closed = True


def inline_lanes(latency: float = 0.0) -> Lanes:
    return Lanes(InlineLane(latency), InlineLane(latency))
