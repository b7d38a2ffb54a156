"""Waiting for a call or for a moment, whichever comes first."""

import asyncio


class Alarm:
    """Wakes the one task that waits on it.

    A ring while nobody waits is kept for the next wait; several are kept as one.

    Intervals are measured on the event loop's clock, as those of ``swarmkit.clock.SystemClock`` are. A wait
    may be cancelled at any time.
    """

    def __init__(self) -> None:
        self._rung = False
        self._waiter: asyncio.Future[None] | None = None

    def ring(self) -> None:
        """Wake the waiter, or let the next wait return at once."""
        self._rung = True
        self._wake()

    async def wait(self, seconds: float | None = None) -> bool:
        """Wait for a ring, at most ``seconds`` if given; tell whether it rang."""
        if not self._rung:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = None if seconds is None else loop.call_later(max(seconds, 0.0), self._wake)
            try:
                await self._waiter
            finally:
                self._waiter = None
                if timer is not None:
                    timer.cancel()
        rung, self._rung = self._rung, False
        return rung

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
