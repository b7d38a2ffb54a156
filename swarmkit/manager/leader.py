"""What runs while this manager leads: the one list, started on gaining leadership and ended on losing it.

Source: contract/raft-store-manager.md, 18 and 20.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from swarmkit.aio import TaskOwner, cancel_and_wait
from swarmkit.clock import Clock
from swarmkit.log import get_logger
from swarmkit.store import ProposalError, Store, Tx

#: Pause before a leader loop that failed is started again, in seconds.
RESTART_PAUSE = 1.0

log = get_logger(__name__)


class SeedError(Exception):
    """The store cannot be given what a swarm must contain; the text is for the operator."""


class Loop(Protocol):
    """A leader loop: works until cancelled, and rebuilds all it needs from the store."""

    async def run(self) -> None:
        """Work until cancelled."""
        ...


class Leadership:
    """Follows raft's announcements, one at a time: seeds the store and runs the loops while leading.

    Args:
        store: the replicated store.
        seed: the transaction that creates what a swarm must contain.
        loops: makes the leader loops by name; called anew at each gain of leadership.
        clock: time.
        on_fatal: told why this manager cannot lead, now or later: a ``SeedError`` of ``seed``.
        on_active: told that ``active`` was set or cleared.
    """

    def __init__(
        self,
        store: Store,
        seed: Callable[[Tx], None],
        loops: Callable[[], Mapping[str, Loop]],
        clock: Clock,
        on_fatal: Callable[[BaseException], None],
        on_active: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._seed = seed
        self._loops = loops
        self._clock = clock
        self._on_fatal = on_fatal
        self._on_active = on_active
        self._announced = False
        self._changed = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        #: Set while the leader loops run.
        self.active = asyncio.Event()

    def announce(self, leading: bool) -> None:
        """Take raft's announcement; returns at once, as raft asks for."""
        self._announced = leading
        self._changed.set()

    async def run(self) -> None:
        """Follow the announcements until cancelled, then end what runs."""
        try:
            while True:
                await self._changed.wait()
                self._changed.clear()
                await self._end()
                if self._announced:
                    self._running = asyncio.create_task(self._lead(), name="leader")
        finally:
            await self._end()

    async def _end(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            await cancel_and_wait(running)
            log.info("this manager no longer leads")

    async def _lead(self) -> None:
        owner = TaskOwner("leader")
        try:
            while not await self._seeded():
                await self._clock.sleep(RESTART_PAUSE)
            for name, loop in self._loops().items():
                owner.spawn(self._keep(name, loop), name)
            log.info("this manager leads")
            self.active.set()
            self._on_active()
            await asyncio.get_running_loop().create_future()
        except SeedError as error:
            self._on_fatal(error)
        finally:
            self.active.clear()
            self._on_active()
            await owner.close()

    async def _seeded(self) -> bool:
        try:
            await self._store.update(self._seed)
        except ProposalError as error:
            log.warning("the store is not seeded", error=str(error))
            return False
        return True

    async def _keep(self, name: str, loop: Loop) -> None:
        """Run one loop; a failure is a defect, which must not end the others."""
        while True:
            try:
                await loop.run()
                log.debug("leader loop ended", loop=name)
            except ProposalError as error:
                log.info("leader loop ended", loop=name, reason=str(error))
            except Exception:
                log.exception("leader loop failed and starts again", loop=name)
            await self._clock.sleep(RESTART_PAUSE)
