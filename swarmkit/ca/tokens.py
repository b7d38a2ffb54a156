"""Join tokens and unlock keys (contract/security.md, 2). Pure; no text of an error repeats its input."""

import base64
import binascii
import hashlib
import hmac
import secrets
import string
from collections.abc import Callable
from dataclasses import dataclass, field

from swarmkit.ca.errors import TokenError
from swarmkit.identity import base36

JOIN_PREFIX = "SWMTKN-"
UNLOCK_PREFIX = "SWMKEY-1-"
UNLOCK_KEY_BYTES = 32

_SECRET_BYTES = 16
_SECRET_DIGITS = 25
_DIGEST_DIGITS = 50
_BASE36 = frozenset(string.digits + string.ascii_lowercase)


@dataclass(frozen=True)
class JoinToken:
    """What a join token says.

    Attributes:
        digest: SHA-256 of the root bundle's bytes, 32 bytes; pins the root.
        secret: 25 base-36 digits that prove the right to join; never shown in a ``repr``.
        fips: the cluster demands FIPS mode of every node.
    """

    digest: bytes
    secret: str = field(repr=False)
    fips: bool = False

    def pins(self, root_pem: bytes) -> bool:
        """Tell whether the token was made for this root bundle, byte for byte."""
        return hmac.compare_digest(root_digest(root_pem), self.digest)


def root_digest(root_pem: bytes) -> bytes:
    """Return the SHA-256 of a root bundle's exact bytes."""
    return hashlib.sha256(root_pem).digest()


def fingerprint(root_pem: bytes) -> str:
    """Return the digest as the cluster object holds it: ``sha256:`` and 64 hex digits."""
    return f"sha256:{root_digest(root_pem).hex()}"


def new_join_token(
    root_pem: bytes, *, fips: bool = False, random_bytes: Callable[[int], bytes] = secrets.token_bytes
) -> str:
    """Make a join token for the cluster with this root: 85 characters, in FIPS form 87."""
    version = "2-1" if fips else "1"
    digest = base36(int.from_bytes(root_digest(root_pem), "big"), _DIGEST_DIGITS)
    secret = base36(int.from_bytes(random_bytes(_SECRET_BYTES), "big"), _SECRET_DIGITS)
    return f"{JOIN_PREFIX}{version}-{digest}-{secret}"


def parse_join_token(text: str) -> JoinToken:
    """Read a join token of version 1 or 2.

    PARITY: the original lets capitals and characters outside base 36 pass; both are refused here.

    Raises:
        TokenError: it is none.
    """
    match text.split("-"):
        case ["SWMTKN", "1", digest, secret]:
            fips = False
        case ["SWMTKN", "2", ("0" | "1") as flag, digest, secret]:
            fips = flag == "1"
        case _:
            raise TokenError("invalid join token")
    if not _is_base36(digest, _DIGEST_DIGITS) or not _is_base36(secret, _SECRET_DIGITS):
        raise TokenError("invalid join token")
    number = int(digest, 36)
    if number >> 256:
        raise TokenError("invalid join token")
    return JoinToken(number.to_bytes(32, "big"), secret, fips)


def _is_base36(text: str, length: int) -> bool:
    return len(text) == length and _BASE36.issuperset(text)


def same_token(given: str, stored: str) -> bool:
    """Compare whole tokens in a time that does not depend on where they differ; an empty one fits nothing."""
    return bool(stored) and hmac.compare_digest(given.encode(), stored.encode())


def new_unlock_key() -> bytes:
    """Make an unlock key: 32 random bytes."""
    return secrets.token_bytes(UNLOCK_KEY_BYTES)


def format_unlock_key(key: bytes) -> str:
    """Write an unlock key as operators see it; no key is the bare prefix."""
    return UNLOCK_PREFIX + base64.b64encode(key).decode().rstrip("=")


def parse_unlock_key(text: str) -> bytes:
    """Read an unlock key.

    PARITY: the original accepts keys of any length; here they have 32 bytes.

    Raises:
        TokenError: it is none.
    """
    body = text.removeprefix(UNLOCK_PREFIX)
    try:
        if not text.startswith(UNLOCK_PREFIX) or "=" in body:
            raise ValueError
        key = base64.b64decode(body + "=" * (-len(body) % 4), validate=True)
        if len(key) != UNLOCK_KEY_BYTES:
            raise ValueError
    except (ValueError, binascii.Error):
        raise TokenError(f"invalid unlock key: it must be {UNLOCK_PREFIX} and 43 characters") from None
    return key
