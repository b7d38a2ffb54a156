"""One event stream per engine, in one thread, fanned out to whoever watches a container.

An event only says "look": watchers inspect. So a lost, repeated or old event does no harm, and after a broken
stream it is enough to wake every watcher once (contract/executor.md, 14 and 15).
"""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any, TypeVar

import docker

from swarmkit.aio import TaskOwner
from swarmkit.clock import Clock
from swarmkit.executors.docker.container import LABEL
from swarmkit.executors.docker.engine import Engine
from swarmkit.executors.docker.errors import EngineError, classify
from swarmkit.log import get_logger

#: Pauses before the stream is opened again: doubled from the first to the last, in seconds.
FIRST_PAUSE = 0.1
LAST_PAUSE = 5.0
#: Actions after which a container looks different; ``health_status`` carries its result in the name.
ACTIONS = ("die", "destroy", "oom", "kill", "stop", "start")

T = TypeVar("T")

log = get_logger(__name__)


def concerns_state(action: str) -> bool:
    """Tell whether an event's action may have changed a container's state; probes only bring noise."""
    return action in ACTIONS or action.startswith("health_status")


class Watch:
    """One watcher's wake-up."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def wake(self) -> None:
        """Wake the watcher, now or at its next wait."""
        self._event.set()

    async def wait(self) -> None:
        """Wait until something may have happened since the last wait; once at first."""
        await self._event.wait()
        self._event.clear()


class EventStream:
    """Keeps the engine's event stream open and wakes the watchers of the containers it names."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._watches: dict[str, set[Watch]] = {}
        self._owner = TaskOwner("engine-events")
        self._stream: Any = None
        self._closed = False

    def start(self) -> None:
        """Begin following the engine; call on the event loop."""
        self._owner.spawn(self._follow(), "follow")

    async def close(self) -> None:
        """End the stream and its thread."""
        self._closed = True
        self._end_stream()
        await self._owner.close()

    @contextlib.contextmanager
    def watch(self, name: str) -> Iterator[Watch]:
        """Watch one container by name. Register first, inspect second: nothing is missed between."""
        watch = Watch()
        self._watches.setdefault(name, set()).add(watch)
        try:
            yield watch
        finally:
            watches = self._watches[name]
            watches.discard(watch)
            if not watches:
                del self._watches[name]

    def wake_all(self) -> None:
        """Have every watcher look at its container."""
        for watches in self._watches.values():
            for watch in watches:
                watch.wake()

    def _wake(self, name: str) -> None:
        for watch in self._watches.get(name, ()):
            watch.wake()

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        pause = FIRST_PAUSE
        while not self._closed:
            opened: asyncio.Future[None] = loop.create_future()
            ended: asyncio.Future[EngineError | None] = loop.create_future()
            threading.Thread(
                target=self._read, args=(loop, opened, ended), name="engine-events", daemon=True
            ).start()
            try:
                both: set[asyncio.Future[Any]] = {opened, ended}
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                if opened.done():
                    pause = FIRST_PAUSE
                    self.wake_all()
                error = await ended
            finally:
                self._end_stream()
            log.debug("engine event stream ended", engine=self._engine.url, error=str(error or ""))
            self.wake_all()
            await self._clock.sleep(pause)
            pause = min(2 * pause, LAST_PAUSE)

    def _end_stream(self) -> None:
        # Closing the stream from here frees the reading thread at once; it may have ended by itself.
        stream, self._stream = self._stream, None
        if stream is not None:
            with contextlib.suppress(OSError, AttributeError):
                stream.close()

    def _read(
        self,
        loop: asyncio.AbstractEventLoop,
        opened: "asyncio.Future[None]",
        ended: "asyncio.Future[EngineError | None]",
    ) -> None:
        """Run in the stream's thread: hand over and nothing else, an unread stream throttles the engine."""
        error: EngineError | None = None
        client: docker.APIClient | None = None
        try:
            client = self._engine.new_client()
            stream = client.events(decode=True, filters={"type": "container", "label": f"{LABEL}.task"})
            self._stream = stream
            if self._closed:
                return
            loop.call_soon_threadsafe(_settle, opened, None)
            for event in stream:
                name = event.get("Actor", {}).get("Attributes", {}).get("name", "")
                if concerns_state(event.get("Action", "")):
                    loop.call_soon_threadsafe(self._wake, name)
        except Exception as caught:
            error = classify(caught)
        finally:
            if client is not None:
                client.close()
            # The loop is closed already when the process ends while the stream stands.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_settle, ended, error)


def _settle(future: "asyncio.Future[T]", value: T) -> None:
    if not future.done():
        future.set_result(value)
