"""Private keys at rest: reading them, and the encrypted form that Go reads too (contract/security.md, 5)."""

import os
from collections.abc import Callable

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, padding, serialization
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from swarmkit.ca.cipher import KEY_BYTES, InvalidKeyError
from swarmkit.ca.x509util import PrivateKey, check_public_key

# PBES2 as Go writes and reads it: HMAC-SHA1 is the default that is not written down.
_ROUNDS = 2048
_SALT_BYTES = 8
_BLOCK_BYTES = 16
_OID_PBES2 = bytes.fromhex("06092a864886f70d01050d")
_OID_PBKDF2 = bytes.fromhex("06092a864886f70d01050c")
_OID_AES256_CBC = bytes.fromhex("060960864801650304012a")


def encrypt_key(pkcs8: bytes, password: bytes, random_bytes: Callable[[int], bytes] = os.urandom) -> bytes:
    """Return a PKCS#8 key encrypted as ``ENCRYPTED PRIVATE KEY`` holds it, in DER.

    Written out by hand because Go reads this form only, and the library's own writer uses HMAC-SHA256.
    """
    salt, vector = random_bytes(_SALT_BYTES), random_bytes(_BLOCK_BYTES)
    derived = PBKDF2HMAC(hashes.SHA1(), KEY_BYTES, salt, _ROUNDS).derive(password)
    padder = padding.PKCS7(8 * _BLOCK_BYTES).padder()
    padded = padder.update(pkcs8) + padder.finalize()
    encryptor = Cipher(algorithms.AES(derived), modes.CBC(vector)).encryptor()
    encrypted = encryptor.update(padded) + encryptor.finalize()
    rounds = _der(0x02, _ROUNDS.to_bytes(2, "big"))
    derivation = _der(0x30, _OID_PBKDF2 + _der(0x30, _der(0x04, salt) + rounds))
    scheme = _der(0x30, _OID_AES256_CBC + _der(0x04, vector))
    algorithm = _der(0x30, _OID_PBES2 + _der(0x30, derivation + scheme))
    return _der(0x30, algorithm + _der(0x04, encrypted))


def _der(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + content


def load_key(encoded: bytes, password: bytes | None, *, der: bool = False) -> PrivateKey:
    """Read a private key, in PEM (also RFC 1423) or DER, encrypted if there is a password.

    Raises:
        InvalidKeyError: it cannot be read: a wrong password, or damage.
        CertificateError: it is of a kind that is not used here.
    """
    load = serialization.load_der_private_key if der else serialization.load_pem_private_key
    try:
        key = load(encoded, password)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidKeyError from error
    check_public_key(key.public_key())
    return key  # type: ignore[return-value]  # ECDSA or RSA: just checked


def pkcs8_der(key: PrivateKey) -> bytes:
    """Return a key as plain PKCS#8 in DER."""
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
