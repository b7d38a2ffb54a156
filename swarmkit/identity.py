"""Random identifiers: 25 characters of ``0-9a-z`` (contract/security.md, 2, ID)."""

import secrets
import string
from collections.abc import Callable

ID_LENGTH = 25
_ID_BYTES = 17
_ALPHABET = string.digits + string.ascii_lowercase


def base36(number: int, width: int) -> str:
    """Write a non-negative integer in base 36, left-padded with ``0`` to at least ``width`` digits."""
    digits = []
    while number:
        number, digit = divmod(number, 36)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits)).rjust(width, "0")


def new_id(random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> str:
    """Make an identifier from 17 random bytes.

    The top bit of the first byte is set, so that the number always has 27 digits in base 36; the first and
    the last, which are not uniform, are cut off.
    """
    raw = bytearray(random_bytes(_ID_BYTES))
    raw[0] |= 0x80
    return base36(int.from_bytes(raw, "big"), 27)[1:26]


def is_id(text: str) -> bool:
    """Tell whether ``text`` has the form of an identifier."""
    return len(text) == ID_LENGTH and all(c in _ALPHABET for c in text)
