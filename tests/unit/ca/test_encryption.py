"""Encryption at rest (contract/security.md, 5; cases 27 and 28)."""

import base64

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from swarmkit.api import messages as api
from swarmkit.ca.encryption import InvalidKeyError, encrypt_key, load_key, pkcs8_der, seal, unseal
from swarmkit.ca.errors import CertificateError

_BOX = api.MaybeEncryptedRecord.SECRETBOX_SALSA20_POLY1305
_FERNET = api.MaybeEncryptedRecord.FERNET_AES_128_CBC
KEY = b"0123456789abcdef0123456789abcdef"
UNLOCK = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
OPEN_VECTOR = "EiAwMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZg=="
SEALED_VECTOR = (
    "CAESMIqkfoDJb/yjbaU6CtkRB64ECm6OR7KR7AbzlrXQCSBeI0/qmdWG3eCAVaQzXdzM6RoYULJ6Nej3z8chM2t/gakBgKCBL1YIUErB"
)


def test_both_vectors_of_the_contract_open_to_the_same_bytes() -> None:
    assert base64.b64encode(seal(KEY, b"")).decode() == OPEN_VECTOR
    assert unseal(base64.b64decode(OPEN_VECTOR), b"") == KEY
    assert unseal(base64.b64decode(SEALED_VECTOR), UNLOCK) == KEY


def test_with_the_vectors_nonce_the_same_bytes_are_written() -> None:
    nonce = api.MaybeEncryptedRecord.FromString(base64.b64decode(SEALED_VECTOR)).nonce
    assert base64.b64encode(seal(KEY, UNLOCK, random_bytes=lambda _: nonce)).decode() == SEALED_VECTOR


def test_every_sealing_takes_a_fresh_nonce() -> None:
    assert seal(KEY, UNLOCK) != seal(KEY, UNLOCK)


def test_fips_writes_fernet_which_everybody_reads_and_reads_nothing_else() -> None:
    fips = seal(KEY, UNLOCK, fips=True)
    record = api.MaybeEncryptedRecord.FromString(fips)
    assert record.algorithm == api.MaybeEncryptedRecord.FERNET_AES_128_CBC
    assert not record.nonce
    assert unseal(fips, UNLOCK) == unseal(fips, UNLOCK, fips=True) == KEY
    with pytest.raises(InvalidKeyError):
        unseal(seal(KEY, UNLOCK), UNLOCK, fips=True)


def test_a_short_key_counts_as_padded_with_zeros() -> None:
    assert unseal(seal(b"x", b"short"), b"short".ljust(32, b"\0")) == b"x"
    with pytest.raises(InvalidKeyError):
        seal(b"x", b"k" * 33)


@pytest.mark.parametrize(
    ("sealed", "key"),
    [
        (seal(KEY, b""), UNLOCK),
        (seal(KEY, UNLOCK), b""),
        (seal(KEY, UNLOCK, fips=True), b""),
        (seal(KEY, UNLOCK), KEY),
        (seal(KEY, UNLOCK, fips=True), KEY),
        (seal(KEY, UNLOCK)[:-1] + b"\x00", UNLOCK),
        (b"\xff\xff", UNLOCK),
        (api.MaybeEncryptedRecord(algorithm=_BOX, data=b"x", nonce=b"short").SerializeToString(), UNLOCK),
        (api.MaybeEncryptedRecord(algorithm=_FERNET, data=b"\xff").SerializeToString(), UNLOCK),
    ],
)
def test_what_the_key_does_not_open_is_an_invalid_key(sealed: bytes, key: bytes) -> None:
    with pytest.raises(InvalidKeyError, match=r"^invalid key$"):
        unseal(sealed, key)


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
