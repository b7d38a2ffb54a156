"""The value syntaxes of flags; pure (contract/cli.md, 3). Each raises ``ValueError`` with a sentence."""

import csv
import re
from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction

from google.protobuf.duration_pb2 import Duration

_UNITS_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60 * 1_000_000_000,
    "h": 3600 * 1_000_000_000,
}
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)([a-zµμ]*)")
_MEMORY = re.compile(r"^(\d+(?:\.\d+)?|\.\d+) ?([kmgtp]?)(i?b)?$", re.IGNORECASE)
_MEMORY_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_CPU_DECIMALS = 9
_EXPONENT = re.compile(r"[eE]([+-]?\d+)$")
#: Largest exponent of ten that is worked out: an exact fraction of 1e999999999 would take for ever.
_MAX_EXPONENT = 100
#: What fits into the wire's signed 64-bit fields: counts, bytes, nanoseconds, billionths of a CPU.
MAX_COUNT = 2**63 - 1
_DIGITS = re.compile(r"^0*[0-9]{1,19}$")
#: Longest text that is read as a number: beyond it there is no number in range, only work for nothing.
_MAX_NUMBER_LENGTH = 64


def words(values: Iterable[str]) -> list[str]:
    """Flatten a repeatable flag: each occurrence is one CSV record; an empty one adds nothing."""
    found: list[str] = []
    for value in values:
        if '"' in value and not value.startswith('"') and ',"' not in value:
            raise ValueError(f'bare " in non-quoted-field: {value}')
        if value:
            try:
                found += next(csv.reader([value], strict=True))
            except csv.Error:
                raise ValueError(
                    f'bare or unended " in {value}: write "a,b" for a value with a comma'
                ) from None
    return found


def _in_range(number: int, what: str, text: str) -> int:
    """Return a number that fits into 64 bits with a sign."""
    if not -MAX_COUNT <= number <= MAX_COUNT:
        raise ValueError(f"invalid {what}: {text}: it is out of range")
    return number


def _check_length(text: str, what: str) -> None:
    if len(text) > _MAX_NUMBER_LENGTH:
        raise ValueError(f"invalid {what}: {text[:_MAX_NUMBER_LENGTH]}...: it is out of range")


def duration_ns(text: str) -> int:
    """Parse a duration such as ``10s``, ``1m30s``, ``1.5h`` or ``0`` into nanoseconds."""
    _check_length(text, "duration")
    body = text.lstrip("+-") if text[:1] in "+-" and text[:2] not in ("--", "++") else text
    if body == "0":
        return 0
    total, position = Fraction(0), 0
    while position < len(body):
        match = _DURATION_PART.match(body, position)
        if match is None:
            raise ValueError(f"invalid duration {text!r}: write a number and a unit, as in 10s or 1m30s")
        number, unit = match.groups()
        if not unit:
            raise ValueError(f"missing unit in duration {text!r}: write for example {text}s")
        if unit not in _UNITS_NS:
            raise ValueError(f"unknown unit {unit!r} in duration {text!r}: use ns, us, ms, s, m or h")
        total += Fraction(Decimal(number)) * _UNITS_NS[unit]
        position = match.end()
    if not body:
        raise ValueError(f"invalid duration {text!r}: write a number and a unit, as in 10s or 1m30s")
    return _in_range(int(-total if text.startswith("-") else total), "duration", text)


def duration(text: str) -> Duration:
    """Parse a duration into the wire's form."""
    message = Duration()
    message.FromNanoseconds(duration_ns(text))
    return message


def memory(text: str) -> int:
    """Parse an amount of memory such as ``64m``, ``64MiB``, ``1.5g`` into bytes; all units are binary."""
    _check_length(text, "size")
    match = _MEMORY.match(text.strip())
    if match is None:
        raise ValueError(f"invalid size: '{text}': write for example 64m, 1.5g or a number of bytes")
    number, unit, _ = match.groups()
    size = int(Fraction(Decimal(number)) * 1024 ** _MEMORY_POWERS[unit.lower()])
    return _in_range(size, "size", text)


def nano_cpus(text: str) -> int:
    """Parse CPUs such as ``0.5``, ``1/2``, ``1e-3`` into billionths of one; at most nine decimals."""
    _check_length(text, "cpu")
    exponent = _EXPONENT.search(text)
    if exponent is not None and abs(int(exponent[1])) > _MAX_EXPONENT:
        raise ValueError(f"invalid cpu: {text}: it is out of range")
    try:
        exact = Fraction(text) * 10**_CPU_DECIMALS
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"invalid cpu: {text}: write for example 0.5 or 2") from None
    if exact.denominator != 1:
        raise ValueError(f"invalid cpu: {text}: at most nine decimals")
    return _in_range(int(exact), "cpu", text)


def key_value(text: str, what: str = "label") -> tuple[str, str]:
    """Split ``key=value`` at the first ``=``, blanks around both dropped; the value may be empty."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ValueError(f"malformed {what}: {text}: write key=value")
    return key.strip(), value.strip()


def mapping(values: Iterable[str], what: str = "label") -> dict[str, str]:
    """Parse ``key=value`` words into a map; the last of equal keys wins."""
    return dict(key_value(value, what) for value in values)


def unsigned(text: str, what: str = "number") -> int:
    """Parse decimal digits; at most 2^63 - 1, what the server takes."""
    if not _DIGITS.match(text) or int(text) > MAX_COUNT:
        raise ValueError(f"invalid {what}: {text!r} is not a whole number from 0 to 2^63-1")
    return int(text)


def signed(text: str, what: str = "number") -> int:
    """Parse decimal digits with or without a sign, from -(2^63 - 1) to 2^63 - 1."""
    digits = text[1:] if text[:1] in ("-", "+") else text
    if not _DIGITS.match(digits) or int(digits) > MAX_COUNT:
        raise ValueError(f"invalid {what}: {text!r} is not a whole number of at most 63 bits")
    return -int(digits) if text.startswith("-") else int(digits)
