"""The one source of time. Everything that waits or stamps takes a ``Clock``.

``SystemClock`` measures intervals on the event loop's own clock, so that a test loop with virtual time
moves every deadline of the program at once.
"""

import asyncio
import datetime
import time
from typing import Protocol

from google.protobuf.timestamp_pb2 import Timestamp


class Clock(Protocol):
    """What the program may know of time."""

    def now(self) -> datetime.datetime:
        """Return the wall-clock time, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds on a clock that never goes back; call on the event loop."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait ``seconds``; not at all for zero or less, but always yield once."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime.datetime:
        """Return the wall-clock time, aware, in UTC."""
        return datetime.datetime.fromtimestamp(time.time(), datetime.UTC)

    def monotonic(self) -> float:
        """Return the running event loop's time in seconds."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Wait ``seconds`` on the running event loop."""
        await asyncio.sleep(max(seconds, 0.0))


def timestamp(moment: datetime.datetime) -> Timestamp:
    """Convert an aware time to the wire's form, to the microsecond."""
    message = Timestamp()
    message.FromDatetime(moment)
    return message
