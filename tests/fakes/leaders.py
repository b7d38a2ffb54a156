"""A group of managers whose leader the test names."""

import asyncio

from swarmkit.net.leaders import NotLeadingError
from swarmkit.net.remotes import Remote


class FakeLeaders:
    """Follows nobody until the test says so; a change is noticed only after ``set``."""

    def __init__(self, leader: Remote | None = None, *, leading: bool = False) -> None:
        self.leading = leading
        self.taking_over = False
        self.leader = leader
        self.leaderless_since: float | None = None
        self.certain = True
        self.confirmations = 0
        self._changed = asyncio.Event()

    def set(self, leader: Remote | None = None, *, leading: bool = False, taking_over: bool = False) -> None:
        """Name another leader, or none, and tell everybody who waits."""
        self.leader, self.leading, self.taking_over = leader, leading, taking_over
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_change(self) -> None:
        await self._changed.wait()

    async def confirm(self) -> None:
        self.confirmations += 1
        if not self.certain:
            raise NotLeadingError
