"""Private keys at rest (contract/security.md, 5; cases 27 and 28)."""

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from swarmkit.ca.cipher import InvalidKeyError
from swarmkit.ca.encryption import encrypt_key, load_key, pkcs8_der
from swarmkit.ca.errors import CertificateError

KEY = b"0123456789abcdef0123456789abcdef"
UNLOCK = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"


def test_an_encrypted_key_has_the_form_that_go_reads() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    encrypted = encrypt_key(pkcs8_der(key), UNLOCK, lambda size: bytes(size))
    # PBES2, PBKDF2 with 8 bytes of salt and 2048 rounds and nothing more, AES-256-CBC.
    assert encrypted.startswith(
        bytes.fromhex(
            "3081de3049"
            "06092a864886f70d01050d"
            "303c"
            "301b06092a864886f70d01050c300e0408000000000000000002020800"
            "301d060960864801650304012a041000000000000000000000000000000000"
            "048190"
        )
    )
    assert pkcs8_der(load_key(encrypted, UNLOCK, der=True)) == pkcs8_der(key)


def test_a_wrong_password_or_damage_is_an_invalid_key() -> None:
    encrypted = encrypt_key(pkcs8_der(ec.generate_private_key(ec.SECP256R1())), UNLOCK)
    for data, password in ((encrypted, KEY), (encrypted, None), (encrypted[:-1], UNLOCK), (b"", UNLOCK)):
        with pytest.raises(InvalidKeyError):
            load_key(data, password, der=True)


def test_a_key_of_a_weak_kind_is_refused() -> None:
    weak = ec.generate_private_key(ec.SECP224R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(CertificateError, match="unsupported key"):
        load_key(weak, None)
