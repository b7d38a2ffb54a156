"""Join tokens and unlock keys (contract/security.md, 2; cases 1 to 4 and 6)."""

import hashlib

import pytest

from swarmkit.ca.errors import TokenError
from swarmkit.ca.tokens import (
    fingerprint,
    format_unlock_key,
    new_join_token,
    new_unlock_key,
    parse_join_token,
    parse_unlock_key,
    root_digest,
    same_token,
)

VECTOR = "SWMTKN-1-00000mzul4inh7dnz1zxeqau22e3ww5qipe2of8eafez0qb6kf-000avh9he7dy896m08s18udxr"
MEASURED = "4g1xi869w4fy2lu30xz6p5z9k7rfme7ci222l9tfko75vnrsje"
SECRET = "000avh9he7dy896m08s18udxr"


def test_the_vectors_of_the_contract_parse_to_their_bytes() -> None:
    token = parse_join_token(VECTOR)
    assert token.digest == bytes.fromhex("000000" + 58 * "f")
    assert token.secret == SECRET
    assert not token.fips
    measured = parse_join_token(f"SWMTKN-1-{MEASURED}-{SECRET}")
    assert measured.digest.hex() == "b26154ba76af2cdc809b4db1f521d808428de1fab51a8c4d890fbf19d2022c3a"


def test_the_secret_is_written_as_the_vector_says() -> None:
    token = new_join_token(b"root", random_bytes=lambda size: bytes(range(size)))
    assert token.endswith(f"-{SECRET}")


def test_a_new_token_pins_its_root_byte_for_byte() -> None:
    text = new_join_token(b"root")
    assert len(text) == 85
    token = parse_join_token(text)
    assert token.pins(b"root")
    assert not token.pins(b"root\n")
    assert token.digest == hashlib.sha256(b"root").digest() == root_digest(b"root")
    assert fingerprint(b"root") == f"sha256:{token.digest.hex()}"


def test_two_tokens_of_one_root_share_the_digest_and_nothing_else() -> None:
    first, second = (parse_join_token(new_join_token(b"root")) for _ in range(2))
    assert first.digest == second.digest
    assert first.secret != second.secret


def test_a_fips_token_says_so_and_a_version_two_token_need_not() -> None:
    text = new_join_token(b"root", fips=True)
    assert text.startswith("SWMTKN-2-1-")
    assert parse_join_token(text).fips
    assert not parse_join_token(text.replace("SWMTKN-2-1-", "SWMTKN-2-0-")).fips


@pytest.mark.parametrize(
    "text",
    [
        "",
        "invalidtoken",
        VECTOR[:-1],
        VECTOR + "0",
        VECTOR + "\n",
        " " + VECTOR,
        VECTOR.replace("SWMTKN-1", "SWMTKN-0"),
        VECTOR.replace("SWMTKN-1", "SWMTKN-2"),
        VECTOR.replace("SWMTKN-1", "SWMTKN-2-2"),
        VECTOR.replace("SWMTKN-1", "SWMTKN-1-1"),
        VECTOR.replace("SWMTKN", "swmtkn"),
        VECTOR.replace("mzul", "MZUL"),
        VECTOR.replace("mzul", "m_ul"),
        VECTOR.replace("avh9", "avé9"),
        f"SWMTKN-1-{50 * 'z'}-{SECRET}",
    ],
)
def test_what_is_not_a_join_token_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(TokenError) as refused:
        parse_join_token(text)
    assert str(refused.value) == "invalid join token"


def test_the_secret_never_shows_in_a_repr() -> None:
    assert SECRET not in repr(parse_join_token(VECTOR))


def test_whole_tokens_are_compared_and_an_empty_one_fits_nothing() -> None:
    assert same_token(VECTOR, VECTOR)
    assert not same_token(VECTOR[:-1] + "s", VECTOR)
    assert not same_token(SECRET, VECTOR)
    assert not same_token("", "")
    assert not same_token("é", VECTOR)


def test_the_unlock_key_vector_is_written_and_read() -> None:
    key = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
    text = "SWMKEY-1-QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU"
    assert format_unlock_key(key) == text
    assert parse_unlock_key(text) == key
    assert format_unlock_key(b"") == "SWMKEY-1-"
    assert len(new_unlock_key()) == 32


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SWMKEY-1-",
        "SWMKEY-1-QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU=",
        "aSWMKEY-1-QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU",
        "SWMKEY-1-QUJDREVGR0hJSktMTU5*UFFSU1RVVldYWVowMTIzNDU",
        "SWMKEY-1-QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIz",
        "SWMKEY-2-QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU",
        "SWMKEY-1-QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDUé",
    ],
)
def test_what_is_not_an_unlock_key_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(TokenError) as refused:
        parse_unlock_key(text)
    assert "QUJD" not in str(refused.value)
