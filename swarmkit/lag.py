"""How late the event loop is: what stands still here is not elected, not heard and not served.

A loop that is late by half the shortest election time-out looks dead to others soon. Such a lag is logged
with what this process did meanwhile, so that a busy loop can be told from a machine that stood still.
"""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from swarmkit.clock import Clock
from swarmkit.log import get_logger

log = get_logger(__name__)

#: Seconds between two looks.
PERIOD_SECONDS = 0.25

#: Half the shortest election time-out: from there on elections are near, and raft excuses stalls.
THRESHOLD_SECONDS = 0.5

#: Seconds that the recent figures speak of.
RECENT_SECONDS = 60.0

#: Seconds between two lines in the log at least; those in between are counted.
LOG_SECONDS = 10.0


@dataclass(frozen=True)
class LagSummary:
    """How late the loop was.

    Attributes:
        count: looks since the start.
        over: how many of them found it later than the threshold.
        max_seconds: the worst since the start.
        recent_max_seconds: the worst of the last minute.
        recent_p99_seconds: all but one in a hundred of the last minute's looks found it no later than this.
    """

    count: int
    over: int
    max_seconds: float
    recent_max_seconds: float
    recent_p99_seconds: float


class LagWatch:
    """Sleeps a little again and again, and measures how much later the loop wakes it.

    Args:
        clock: time.
        threshold_seconds: a lag that is worth a line in the log.
        cpu_seconds: returns the processor time this process has used so far, all its threads together.
    """

    def __init__(
        self,
        clock: Clock,
        threshold_seconds: float = THRESHOLD_SECONDS,
        cpu_seconds: Callable[[], float] = time.process_time,
    ) -> None:
        self._clock = clock
        self._threshold_seconds = threshold_seconds
        self._cpu_seconds = cpu_seconds
        self._count = self._over = self._unlogged = 0
        self._max = 0.0
        # When, and how late. A look takes a period at least, which bounds them.
        self._recent: deque[tuple[float, float]] = deque(maxlen=int(RECENT_SECONDS / PERIOD_SECONDS))
        self._logged_at = -math.inf

    async def run(self) -> None:
        """Watch until cancelled, and sum up then."""
        try:
            while True:
                began, used = self._clock.monotonic(), self._cpu_seconds()
                await self._clock.sleep(PERIOD_SECONDS)
                now = self._clock.monotonic()
                self._note(now, max(now - began - PERIOD_SECONDS, 0.0), self._cpu_seconds() - used)
        finally:
            found = self.summary()
            log.info(
                "how late the event loop was",
                looks=found.count,
                over_threshold=found.over,
                max_seconds=f"{found.max_seconds:.3f}",
                last_minute_max_seconds=f"{found.recent_max_seconds:.3f}",
                last_minute_p99_seconds=f"{found.recent_p99_seconds:.3f}",
            )

    def _note(self, now: float, lag: float, cpu: float) -> None:
        self._count += 1
        self._max = max(self._max, lag)
        self._recent.append((now, lag))
        if lag <= self._threshold_seconds:
            return
        self._over += 1
        if now - self._logged_at < LOG_SECONDS:
            self._unlogged += 1
            return
        log.warning(
            "the event loop was late",
            seconds=f"{lag:.3f}",
            cpu_seconds=f"{cpu:.3f}",
            cause=_cause(lag, cpu),
            unlogged=self._unlogged or None,
        )
        self._logged_at, self._unlogged = now, 0

    def summary(self) -> LagSummary:
        """Return the figures of the moment."""
        oldest = self._clock.monotonic() - RECENT_SECONDS
        recent = sorted(lag for at, lag in self._recent if at >= oldest)
        return LagSummary(
            count=self._count,
            over=self._over,
            max_seconds=self._max,
            recent_max_seconds=recent[-1] if recent else 0.0,
            recent_p99_seconds=recent[math.ceil(len(recent) * 0.99) - 1] if recent else 0.0,
        )


def _cause(lag: float, cpu: float) -> str:
    """Guess from the processor time: threads of this process may have used it as well as the loop."""
    if cpu >= lag / 2:
        return "this process was busy"
    return "the loop waited for something, or the machine stood still or was busy with others"
