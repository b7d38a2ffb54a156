"""One event stream per engine, in one thread, fanned out to whoever watches a container.

An event only says "look": watchers inspect. So a lost, repeated or old event does no harm, and after a broken
stream it is enough to wake every watcher once (contract/executor.md, 14 and 15).
"""

import asyncio
import contextlib
import threading
from collections.abc import Iterator

from swarmkit.aio import TaskOwner
from swarmkit.clock import Clock
from swarmkit.executors.docker.container import LABEL
from swarmkit.executors.docker.engine import Engine
from swarmkit.executors.docker.errors import EngineError, Kind
from swarmkit.executors.docker.streams import JsonStream
from swarmkit.log import get_logger

#: Pauses before the stream is opened again: doubled from the first to the last, in seconds. A stream that
#: stood for longer than the last pause begins at the first again.
FIRST_PAUSE = 0.1
LAST_PAUSE = 5.0
#: How long closing waits for the reading thread, in seconds. Only an engine that accepts a connection and
#: then says nothing holds it longer; the thread ends with its deadline, or with the process.
CLOSE_SECONDS = 1.0
#: After these a container looks different. The engine matches prefixes once "health_status" is among them
#: (``health_status: healthy``); the three events of each health probe stay out.
ACTIONS = ["die", "destroy", "health_status"]

log = get_logger(__name__)


class Watch:
    """One watcher's wake-up."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def wake(self) -> None:
        """Wake the watcher, now or at its next wait."""
        self._event.set()

    async def wait(self, seconds: float) -> None:
        """Wait until something may have happened since the last wait, and for at most ``seconds``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()
        self._event.clear()


class EventStream:
    """Keeps the engine's event stream open and wakes the watchers of the containers it names."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._watches: dict[str, set[Watch]] = {}
        self._owner = TaskOwner("engine-events")
        self._away = False

    def start(self) -> None:
        """Begin following the engine; call on the event loop."""
        self._owner.spawn(self._follow(), "follow")

    async def close(self) -> None:
        """End the stream and its thread."""
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

    def wake(self, name: str) -> None:
        """Have the watchers of one container look at it."""
        for watch in self._watches.get(name, ()):
            watch.wake()

    def wake_all(self) -> None:
        """Have every watcher look at its container."""
        for name in self._watches:
            self.wake(name)

    async def _follow(self) -> None:
        pause = FIRST_PAUSE
        while True:
            began = self._clock.monotonic()
            error = await self._read_once()
            if self._clock.monotonic() - began > LAST_PAUSE:
                pause = FIRST_PAUSE
            self._note(error)
            await self._clock.sleep(pause)
            pause = min(2 * pause, LAST_PAUSE)

    def _note(self, error: EngineError | None) -> None:
        if error is not None and error.kind is Kind.TIMED_OUT:
            log.debug("opening the engine's event stream anew", engine=self._engine.url, error=str(error))
        elif not self._away:
            self._away = True
            log.warning("cannot follow the engine's events", engine=self._engine.url, error=str(error or ""))

    def _opened(self) -> None:
        # What happened while there was no stream is found by looking.
        self.wake_all()
        if self._away:
            self._away = False
            log.info("following the engine's events again", engine=self._engine.url)

    async def _read_once(self) -> EngineError | None:
        """Follow one stream to its end, and tell why it ended."""
        ended: asyncio.Future[EngineError | None] = asyncio.get_running_loop().create_future()
        stream = JsonStream()
        threading.Thread(target=self._read, args=(stream, ended), name="engine-events", daemon=True).start()
        try:
            # Shielded: the thread has its say even after we have been cancelled.
            return await asyncio.shield(ended)
        finally:
            stream.end()
            await asyncio.wait([ended], timeout=CLOSE_SECONDS)

    def _read(self, stream: JsonStream, ended: "asyncio.Future[EngineError | None]") -> None:
        """Run in the stream's thread: hand over and nothing else, an unread stream throttles the engine."""
        filters = {"type": ["container"], "label": [f"{LABEL}.task"], "event": ACTIONS}
        error: EngineError | None = None
        try:
            with contextlib.closing(self._engine.follow(stream, filters, self._opened)) as events:
                for event in events:
                    name = event.get("Actor", {}).get("Attributes", {}).get("name", "")
                    stream.tell(self.wake, name)
        except EngineError as caught:
            error = caught
        except Exception as caught:
            log.exception("reading the engine's events failed")
            error = EngineError(Kind.FATAL, str(caught))
        finally:
            stream.tell(ended.set_result, error)
