"""The one source of time. Everything that waits or stamps takes a ``Clock``.

``SystemClock`` is the machine's and the event loop's own; tests on a loop with virtual time inject another.
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
        """Return seconds on the clock that asyncio's loops use."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait ``seconds`` on the running event loop."""
        await asyncio.sleep(max(seconds, 0.0))


_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def timestamp(moment: datetime.datetime) -> Timestamp:
    """Convert an aware time to the wire's form, to the microsecond."""
    since = moment - _EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1000)
