"""Runs a manager while the node's certificate says so, without a restart of the daemon.

Source: contract/raft-store-manager.md, 22 (Manager supervisor); contract/security.md, 8.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from swarmkit.ca.certificates import MANAGER_ROLE, WORKER_ROLE
from swarmkit.ca.credentials import Credentials, CredentialsHolder
from swarmkit.clock import Clock
from swarmkit.log import get_logger

log = get_logger(__name__)

#: How long a node whose manager ended waits for the certificate that fits, in seconds.
ROLE_SECONDS = 16.0
#: Pauses between two tries to start the manager of a promoted node, in seconds.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0


class RunningManager(Protocol):
    """What the supervisor needs of a manager."""

    @property
    def removed(self) -> bool:
        """Whether the group has removed it."""
        ...

    async def start(self) -> None:
        """Start; may be cancelled."""
        ...

    async def stop(self, erase: bool = False) -> None:
        """End, after a failed start too; with ``erase`` delete the replicated log and its keys."""
        ...


class NotYetError(Exception):
    """A manager cannot be started now, and might be later; the text says why and what to do."""


class ManagerSupervisor:
    """Owns the manager of a node: starts it when the node becomes one, ends it when it no longer is.

    Args:
        holder: the node's credentials; their role decides.
        make: returns a manager that is not started. Its argument is to be called, on the loop, when the
            manager finds itself removed from the group.
        start: starts one, mapping what may pass by itself to ``NotYetError``; anything else ends the node.
        demand_renewal: asks for a new certificate, which tells the role.
        clock: time.
    """

    def __init__(
        self,
        holder: CredentialsHolder,
        make: Callable[[Callable[[], None]], Awaitable[RunningManager]],
        start: Callable[[RunningManager], Awaitable[None]],
        demand_renewal: Callable[[], None],
        clock: Clock,
    ) -> None:
        self._holder = holder
        self._make = make
        self._start = start
        self._demand_renewal = demand_renewal
        self._clock = clock
        self._changed = asyncio.Event()
        self._unsubscribe = holder.subscribe(self._renewed)
        self._manager: RunningManager | None = None
        #: Whether the node has been a worker since its present manager was made.
        self._demoted = False
        self._renewals = 0

    async def start(self) -> None:
        """Start the manager with which the daemon begins.

        Raises:
            Exception: whatever starting it raises; ``stop`` is still needed.
        """
        await self._start(await self._made())

    async def run(self) -> None:
        """Follow the node's role until cancelled.

        Raises:
            Exception: a manager cannot be started, and waiting does not help.
        """
        while True:
            if self._manager is None:
                await self._until(lambda: self._role == MANAGER_ROLE)
                await self._start_promoted()
                continue
            await self._until_ended(self._manager)
            await self._retire(self._manager)

    async def stop(self) -> None:
        """End the manager and keep its data. Cancel ``run`` before; may be called twice."""
        unsubscribe, self._unsubscribe = self._unsubscribe, lambda: None
        unsubscribe()
        if self._manager is not None:
            await self._manager.stop()

    def _renewed(self, credentials: Credentials) -> None:
        self._demoted = self._demoted or credentials.role == WORKER_ROLE
        self._renewals += 1
        self._changed.set()

    async def _made(self) -> RunningManager:
        self._demoted = False
        self._manager = manager = await self._make(self._changed.set)
        return manager

    @property
    def _role(self) -> str:
        return self._holder.current.role

    async def _start_promoted(self) -> None:
        """Start a manager, again and again while it cannot be; until the node is none after all.

        PARITY: the original ends the whole node when the manager of a promoted one does not start, and takes
        its tasks down with it. Here the worker goes on, and the log says what is in the way.
        """
        pause = FIRST_PAUSE
        while self._role == MANAGER_ROLE:
            manager = await self._made()
            try:
                await self._start(manager)
                log.info("this node is a manager now")
                return
            except NotYetError as error:
                log.error("this node cannot be a manager yet", error=str(error), retry_seconds=pause)
                await manager.stop()
                self._manager = None
            await self._until(lambda: self._role != MANAGER_ROLE, pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _until_ended(self, manager: RunningManager) -> None:
        await self._until(lambda: manager.removed or self._demoted)

    async def _retire(self, manager: RunningManager) -> None:
        """End a manager that is none any more, with all that it kept."""
        reason = "demoted" if self._demoted else "removed from the group"
        log.info("this node is no longer a manager", reason=reason)
        await manager.stop(erase=True)
        self._manager = None
        if await self._until(lambda: self._demoted, ROLE_SECONDS):
            return
        # Removed from the group, and nobody has told why: the certificate says whether it is a worker now.
        before = self._renewals
        self._demand_renewal()
        await self._until(lambda: self._renewals > before, ROLE_SECONDS)
        if not self._demoted:
            log.warning("still a manager by its certificate: this node joins the group anew")

    async def _until(self, condition: Callable[[], bool], seconds: float | None = None) -> bool:
        """Wait until something holds, for so many seconds at most; tell whether it does."""
        deadline = None if seconds is None else self._clock.monotonic() + seconds
        while not condition():
            self._changed.clear()
            left = None if deadline is None else deadline - self._clock.monotonic()
            try:
                async with asyncio.timeout(left):
                    await self._changed.wait()
            except TimeoutError:
                return condition()
        return True
