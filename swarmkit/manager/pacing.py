"""Long passes on the event loop, cut into pieces (docs/architecture.md, One process, one event loop)."""

import asyncio

from swarmkit.clock import Clock

#: Longest piece, in seconds. A new leader has half a dozen passes at once, each with a piece in every turn of
#: the loop, and a call takes several turns.
SLICE_SECONDS = 0.003


class Pacer:
    """Tells a long pass when to let the event loop go on with other things."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since = clock.monotonic()

    async def pause(self) -> None:
        """Yield to the event loop if the running piece is long enough; call between small steps."""
        if self._clock.monotonic() - self._since >= SLICE_SECONDS:
            await asyncio.sleep(0)
            self._since = self._clock.monotonic()
