"""Times, durations and amounts as people read them; pure (contract/cli.md, 4)."""

import datetime

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

MINUTE, HOUR, DAY = 60, 3600, 86_400
WEEK, MONTH, YEAR = 7 * DAY, 30 * DAY, 360 * DAY
LONG_TIME = 37 * YEAR
#: (below so many seconds, unit in seconds, word); a word without unit is printed as it is.
_STEPS = (
    (1, 0, "now"),
    (2, 0, "1 second"),
    (MINUTE, 1, "seconds"),
    (2 * MINUTE, 0, "1 minute"),
    (HOUR, MINUTE, "minutes"),
    (2 * HOUR, 0, "1 hour"),
    (DAY, HOUR, "hours"),
    (2 * DAY, 0, "1 day"),
    (WEEK, DAY, "days"),
    (2 * WEEK, 0, "1 week"),
    (MONTH, WEEK, "weeks"),
    (2 * MONTH, 0, "1 month"),
    (YEAR, MONTH, "months"),
    (18 * MONTH, 0, "1 year"),
    (2 * YEAR, 0, "2 years"),
    (LONG_TIME, YEAR, "years"),
)
_BINARY_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def relative_time(moment: Timestamp, now: datetime.datetime) -> str:
    """Return how long ago a moment was, such as ``3 seconds ago``; ``from now`` for the future."""
    seconds = now.timestamp() - (moment.seconds + moment.nanos / 1e9)
    suffix = "ago" if seconds >= 0 else "from now"
    size = abs(seconds)
    for limit, unit, word in _STEPS:
        if size < limit:
            if word == "now":
                return word
            return f"{int(size // unit)} {word} {suffix}" if unit else f"{word} {suffix}"
    return f"a long while {suffix}"


def absolute_time(moment: Timestamp) -> str:
    """Return RFC 3339 in UTC, nanoseconds without trailing zeros."""
    base = datetime.datetime.fromtimestamp(moment.seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{moment.nanos:09d}".rstrip("0").rstrip(".")
    return f"{base}{fraction}Z"


def duration(value: Duration) -> str:
    """Return a duration as Go writes it: ``1m30s``, ``2160h0m0s``, ``1.5s``, ``300ms``, ``0s``."""
    total = value.seconds * 1_000_000_000 + value.nanos
    sign, total = ("-", -total) if total < 0 else ("", total)
    if total == 0:
        return "0s"
    if total < 1_000_000_000:
        for size, unit in ((1_000_000, "ms"), (1_000, "µs"), (1, "ns")):
            if total >= size:
                return f"{sign}{_decimal(total, size)}{unit}"
    minutes, rest = divmod(total, 60 * 1_000_000_000)
    text = f"{_decimal(rest, 1_000_000_000)}s"
    if minutes:
        hours, minutes = divmod(minutes, 60)
        text = f"{minutes}m{text}"
        if hours:
            text = f"{hours}h{text}"
    return sign + text


def _decimal(number: int, unit: int) -> str:
    whole, rest = divmod(number, unit)
    digits = len(str(unit)) - 1
    return f"{whole}.{rest:0{digits}d}".rstrip("0").rstrip(".") if rest else str(whole)


def memory(size: int) -> str:
    """Return bytes in binary units: one decimal below 10, none from 10 up; plain bytes below 1 KiB."""
    value, unit = float(size), 0
    while value >= 1024 and unit < len(_BINARY_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    if unit == 0:
        return f"{size} B"
    return f"{value:.1f} {_BINARY_UNITS[unit]}" if value < 9.95 else f"{value:.0f} {_BINARY_UNITS[unit]}"


def cpus(nano_cpus: int) -> str:
    """Return CPUs as the shortest decimal: ``0.25``, ``2``."""
    return _decimal(nano_cpus, 1_000_000_000)
