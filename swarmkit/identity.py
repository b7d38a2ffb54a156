"""Random identifiers: 25 characters of ``0-9a-z`` (contract/security.md, 2, ID)."""

import os
import string
from collections.abc import Callable

ID_LENGTH = 25
_ID_BYTES = 17
_ALPHABET = string.digits + string.ascii_lowercase
#: All groups of three digits: a division each instead of three.
_GROUPS = [a + b + c for a in _ALPHABET for b in _ALPHABET for c in _ALPHABET]
#: Bytes asked of the system at once: a system call for each identifier would cost more than all the rest.
_CHUNK_BYTES = 64 * _ID_BYTES


class Entropy:
    """The system's randomness, read in chunks; each byte is handed out once, also across a fork."""

    def __init__(self) -> None:
        self._chunk = b""
        self._used = 0
        os.register_at_fork(after_in_child=self.discard)

    def discard(self) -> None:
        """Forget what was read and not handed out."""
        self._chunk = b""
        self._used = 0

    def __call__(self, count: int) -> bytes:
        """Return ``count`` random bytes."""
        end = self._used + count
        if end > len(self._chunk):
            self._chunk = os.urandom(max(count, _CHUNK_BYTES))
            self._used, end = 0, count
        taken = self._chunk[self._used : end]
        self._used = end
        return taken


_entropy = Entropy()


def base36(number: int, width: int) -> str:
    """Write a non-negative integer in base 36, left-padded with ``0`` to at least ``width`` digits."""
    groups = []
    while number:
        number, group = divmod(number, len(_GROUPS))
        groups.append(_GROUPS[group])
    return "".join(reversed(groups)).lstrip("0").rjust(width, "0")


def new_id(random_bytes: Callable[[int], bytes] = _entropy) -> str:
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
