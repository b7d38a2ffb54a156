"""An event loop with virtual time: when nothing is ready, it jumps to the next deadline."""

import asyncio
import datetime
import selectors
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

EPOCH = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike as Fileobj

Ready = list[tuple[selectors.SelectorKey, int]]


class StuckError(RuntimeError):
    """Nothing is ready and nothing is scheduled: the test would wait for ever."""


class _JumpingSelector(selectors.BaseSelector):
    """Polls real descriptors without waiting and turns the requested wait into a jump of the clock.

    While a thread works for the loop (``threads_busy``), virtual time stands still.
    """

    def __init__(self) -> None:
        self._inner = selectors.DefaultSelector()
        self.offset = 0.0
        self.threads_busy = 0

    def register(self, fileobj: "Fileobj", events: int, data: object = None) -> selectors.SelectorKey:
        return self._inner.register(fileobj, events, data)

    def unregister(self, fileobj: "Fileobj") -> selectors.SelectorKey:
        return self._inner.unregister(fileobj)

    def modify(self, fileobj: "Fileobj", events: int, data: object = None) -> selectors.SelectorKey:
        return self._inner.modify(fileobj, events, data)

    def select(self, timeout: float | None = None) -> Ready:
        ready = self._inner.select(0)
        if ready or timeout == 0:
            return ready
        if self.threads_busy:
            return self._inner.select(0.01)
        if timeout is None:
            raise StuckError("nothing is ready and no timer is set: the test would hang")
        self.offset += max(timeout, 1e-9)
        return []

    def close(self) -> None:
        self._inner.close()

    def get_map(self) -> Mapping["Fileobj", selectors.SelectorKey]:
        return self._inner.get_map()


class VirtualLoop(asyncio.SelectorEventLoop):
    """A selector loop whose ``time()`` starts at 0 and moves only by jumps."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.offset

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        self._jumping.threads_busy += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._thread_done)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        self._jumping.threads_busy += 1
        try:
            await super().shutdown_default_executor()
        finally:
            self._jumping.threads_busy -= 1

    def _thread_done(self, _: object) -> None:
        self._jumping.threads_busy -= 1


class VirtualClock:
    """A ``swarmkit.clock.Clock`` whose wall clock is a fixed epoch plus the running loop's time."""

    def now(self) -> datetime.datetime:
        return EPOCH + datetime.timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(seconds, 0.0))


class SteppingClock(VirtualClock):
    """A clock that moves by a step at each look: what is looked at between has taken so long."""

    def __init__(self, step: float) -> None:
        self._step = step
        self.time = 0.0

    def monotonic(self) -> float:
        self.time += self._step
        return self.time
