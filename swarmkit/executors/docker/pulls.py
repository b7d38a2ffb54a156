"""Image pulls, shared by the tasks that want the same image (contract/executor.md, 8)."""

import asyncio
import re

from swarmkit.agent.exec import TemporaryError
from swarmkit.aio import TaskOwner
from swarmkit.clock import Clock
from swarmkit.executors.docker.engine import Engine
from swarmkit.executors.docker.errors import EngineError, Kind
from swarmkit.log import get_logger

#: Longest a task waits, in seconds, for news about an image that is here already: an unreachable registry
#: must not delay it for the minutes the engine would try.
PRESENT_IMAGE_DEADLINE = 5.0
_IMAGE_ID = re.compile(r"^(sha256:)?[0-9a-f]{64}$")

log = get_logger(__name__)


class Pulls:
    """Pulls each image once at a time; callers of the same image and credentials join."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._owner = TaskOwner("pulls")
        self._running: dict[tuple[str, str], asyncio.Task[None]] = {}

    async def close(self) -> None:
        """Stop waiting for pulls under way."""
        await self._owner.close()

    async def pull(self, reference: str, registry_auth: str) -> None:
        """Bring an image up to date, if its registry answers; creating decides whether that matters.

        A pull that fails is logged and forgotten: an image that is here is used, one that is not fails the
        create with the engine's own words.

        Raises:
            TemporaryError: the engine cannot be reached.
        """
        try:
            present = await self._engine.has_image(reference)
        except EngineError as error:
            if error.kind in (Kind.UNREACHABLE, Kind.TIMED_OUT):
                raise TemporaryError(str(error)) from error
            present = False
        if _IMAGE_ID.match(reference) or (present and "@" in reference):
            return
        running = self._join(reference, registry_auth)
        if present:
            await asyncio.wait([running], timeout=PRESENT_IMAGE_DEADLINE)
        else:
            # Shielded: whoever prepares this task next, joins the same pull.
            await asyncio.shield(running)

    def _join(self, reference: str, registry_auth: str) -> "asyncio.Task[None]":
        key = (reference, registry_auth)
        if key not in self._running:
            task = self._owner.spawn(self._pull(reference, registry_auth), f"pull {reference}")
            self._running[key] = task
            task.add_done_callback(lambda _: self._running.pop(key, None))
        return self._running[key]

    async def _pull(self, reference: str, registry_auth: str) -> None:
        started = self._clock.monotonic()
        try:
            await self._engine.pull(reference, registry_auth)
        except EngineError as error:
            log.warning(
                "pulling an image failed; if it is here, it is used", image=reference, error=str(error)
            )
            return
        log.info("pulled an image", image=reference, seconds=round(self._clock.monotonic() - started, 1))
