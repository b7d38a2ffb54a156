"""Sealed records (contract/security.md, 5, MaybeEncryptedRecord; cases 27 and 28)."""

import base64

import pytest

from swarmkit.api import messages as api
from swarmkit.ca.cipher import InvalidKeyError, RecordCipher

UNLOCK_KEY = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
DATA_KEY = b"0123456789abcdef0123456789abcdef"
SEALED_BY_THE_ORIGINAL = (
    "CAESMIqkfoDJb/yjbaU6CtkRB64ECm6OR7KR7AbzlrXQCSBeI0/qmdWG3eCAVaQzXdzM6RoYULJ6Nej3z8chM2t/gakBgKCBL1YIUErB"
)


def test_opens_what_the_original_sealed() -> None:
    sealed = base64.b64decode(SEALED_BY_THE_ORIGINAL)

    assert RecordCipher(UNLOCK_KEY).open(sealed) == DATA_KEY


def test_with_the_same_nonce_the_same_bytes_are_written() -> None:
    nonce = api.MaybeEncryptedRecord.FromString(base64.b64decode(SEALED_BY_THE_ORIGINAL)).nonce
    cipher = RecordCipher(UNLOCK_KEY, random_bytes=lambda _: nonce)

    assert base64.b64encode(cipher.seal(DATA_KEY)).decode() == SEALED_BY_THE_ORIGINAL


def test_a_plain_record_of_the_original_opens_without_a_key() -> None:
    sealed = base64.b64decode("EiAwMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZg==")

    for nothing in (None, b""):
        assert RecordCipher(nothing).open(sealed) == DATA_KEY
        assert RecordCipher(nothing).seal(DATA_KEY) == sealed


@pytest.mark.parametrize("fips", [False, True])
def test_sealed_records_open_again_and_hide_their_content(fips: bool) -> None:
    cipher = RecordCipher(DATA_KEY, fips=fips)
    sealed = cipher.seal(b"the secret of the swarm")

    assert cipher.open(sealed) == b"the secret of the swarm"
    assert b"secret" not in sealed
    assert cipher.seal(b"the secret of the swarm") != sealed  # a nonce is never used twice


def test_a_short_key_is_padded_with_zeros() -> None:
    sealed = RecordCipher(b"short").seal(b"data")

    assert RecordCipher(b"short".ljust(32, b"\0")).open(sealed) == b"data"


def test_a_long_key_is_refused() -> None:
    with pytest.raises(ValueError, match="33 bytes"):
        RecordCipher(bytes(33))


def test_reading_tries_all_keys_and_writing_uses_the_first() -> None:
    old, new = RecordCipher(UNLOCK_KEY), RecordCipher(DATA_KEY, UNLOCK_KEY)

    assert new.open(old.seal(b"written before the rotation")) == b"written before the rotation"
    with pytest.raises(InvalidKeyError):
        old.open(new.seal(b"written after it"))


def test_fernet_is_read_without_fips_and_secretbox_is_not_read_with_it() -> None:
    plain, fips = RecordCipher(DATA_KEY), RecordCipher(DATA_KEY, fips=True)

    assert plain.open(fips.seal(b"data")) == b"data"
    with pytest.raises(InvalidKeyError):
        fips.open(plain.seal(b"data"))


def test_what_lies_open_is_read_in_fips_mode_too() -> None:
    assert RecordCipher(None, fips=True).open(RecordCipher(None).seal(b"data")) == b"data"


def test_a_plain_record_is_refused_where_a_key_is_known_and_a_sealed_one_where_none_is() -> None:
    with pytest.raises(InvalidKeyError):
        RecordCipher(DATA_KEY).open(RecordCipher(None).seal(b"data"))
    with pytest.raises(InvalidKeyError):
        RecordCipher(None).open(RecordCipher(DATA_KEY).seal(b"data"))


@pytest.mark.parametrize(
    "record",
    [
        b"\xff\xff\xff",
        api.MaybeEncryptedRecord(
            algorithm=api.MaybeEncryptedRecord.SECRETBOX_SALSA20_POLY1305
        ).SerializeToString(),
        api.MaybeEncryptedRecord(
            algorithm=api.MaybeEncryptedRecord.SECRETBOX_SALSA20_POLY1305, data=b"x", nonce=bytes(24)
        ).SerializeToString(),
        api.MaybeEncryptedRecord(
            algorithm=api.MaybeEncryptedRecord.FERNET_AES_128_CBC, data=b"\xff"
        ).SerializeToString(),
    ],
)
def test_garbage_is_an_invalid_key_and_nothing_else(record: bytes) -> None:
    with pytest.raises(InvalidKeyError, match=r"^invalid key$"):
        RecordCipher(DATA_KEY).open(record)


def test_every_altered_byte_is_noticed() -> None:
    cipher = RecordCipher(DATA_KEY)
    sealed = cipher.seal(b"data")
    for position in range(2, len(sealed)):
        damaged = bytearray(sealed)
        damaged[position] ^= 1
        try:
            assert cipher.open(bytes(damaged)) == b"data"  # an unknown field of the envelope says nothing
        except InvalidKeyError:
            continue
