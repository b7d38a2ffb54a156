"""Image pulls, shared by the tasks that want the same image (contract/executor.md, 8)."""

import asyncio
import re
from dataclasses import dataclass, field

from swarmkit.aio import TaskOwner
from swarmkit.clock import Clock
from swarmkit.executors.docker.engine import Engine
from swarmkit.executors.docker.errors import AWAY, EngineError
from swarmkit.log import get_logger

#: How long a registry may keep tasks waiting whose image is here already, in seconds from the beginning of
#: the pull: an unreachable one would delay them by the 15 to 40 s the engine tries. One that has answered is
#: waited for to the end, or the task would run an image that its user has replaced.
ANSWER_DEADLINE = 5.0
_IMAGE_ID = re.compile(r"^(sha256:)?[0-9a-f]{64}$")

log = get_logger(__name__)


@dataclass(eq=False)
class _Pull:
    """A pull under way, and the tasks that want it."""

    began: float
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    holders: set[str] = field(default_factory=set)


class Pulls:
    """Pulls each image once at a time; callers with the same image and credentials join."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._owner = TaskOwner("pulls")
        self._running: dict[tuple[str, str], tuple[_Pull, asyncio.Task[None]]] = {}

    async def close(self) -> None:
        """Cancel the pulls under way."""
        await self._owner.close()

    async def pull(self, reference: str, registry_auth: str, holder: str) -> None:
        """Bring an image up to date, if its registry answers; creating decides whether that matters.

        A pull that fails is logged and forgotten: an image that is here is used, one that is not fails the
        create with the engine's own words. When the caller is cancelled, the pull goes on, and whoever wants
        it next joins it, until every holder has called ``release``.

        Args:
            reference: the image as its user named it.
            registry_auth: the ready ``X-Registry-Auth`` header, or empty.
            holder: the id of the task that wants it.

        Raises:
            EngineError: the engine did not answer.
        """
        if _IMAGE_ID.match(reference):
            return
        # What a digest names never changes.
        if "@" in reference and await self._engine.has_image(reference):
            return
        pull, task = self._join(reference, registry_auth)
        pull.holders.add(holder)
        if not await self._has_news(pull, task) and await self._engine.has_image(reference):
            log.warning("the registry does not answer, using the image that is here", image=reference)
            return
        await asyncio.wait([task])

    def release(self, holder: str) -> None:
        """Cancel the pulls that nobody but ``holder`` wants."""
        for pull, task in list(self._running.values()):
            if holder in pull.holders:
                pull.holders.discard(holder)
                if not pull.holders:
                    task.cancel()

    def _join(self, reference: str, registry_auth: str) -> "tuple[_Pull, asyncio.Task[None]]":
        key = (reference, registry_auth)
        if key not in self._running or self._running[key][1].cancelling():
            pull = _Pull(self._clock.monotonic())
            task = self._owner.spawn(self._pull(reference, registry_auth, pull), f"pull {reference}")
            entry = self._running[key] = (pull, task)
            task.add_done_callback(lambda _: self._forget(key, entry))
        return self._running[key]

    def _forget(self, key: tuple[str, str], entry: "tuple[_Pull, asyncio.Task[None]]") -> None:
        if self._running.get(key) is entry:
            del self._running[key]

    async def _has_news(self, pull: _Pull, task: "asyncio.Task[None]") -> bool:
        """Tell whether the registry answered, or refused, before the deadline."""
        answered = asyncio.ensure_future(pull.answered.wait())
        left = pull.began + ANSWER_DEADLINE - self._clock.monotonic()
        try:
            await asyncio.wait([task, answered], timeout=max(left, 0.0), return_when=asyncio.FIRST_COMPLETED)
        finally:
            answered.cancel()
        return task.done() or pull.answered.is_set()

    async def _pull(self, reference: str, registry_auth: str, pull: _Pull) -> None:
        try:
            await self._engine.pull(reference, registry_auth, pull.answered.set)
        except EngineError as error:
            if error.kind in AWAY:
                log.debug("an image cannot be pulled now", image=reference, error=str(error))
            else:
                log.warning(
                    "pulling an image failed; if it is here, it is used", image=reference, error=str(error)
                )
            return
        seconds = round(self._clock.monotonic() - pull.began, 1)
        log.info("pulled an image", image=reference, seconds=seconds)
