"""Nothing that comes from the network or from disk makes a parser fail in any way but its own."""

import contextlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from swarmkit.ca import pem
from swarmkit.ca.certificates import new_request, parse_request
from swarmkit.ca.chain import verify_chain
from swarmkit.ca.cipher import InvalidKeyError, RecordCipher
from swarmkit.ca.errors import CertificateError, StateDirError, TokenError
from swarmkit.ca.keyfile import KeyFile
from swarmkit.ca.pem import PemBlock
from swarmkit.ca.root import check_roots
from swarmkit.ca.tokens import (
    format_unlock_key,
    new_join_token,
    parse_join_token,
    parse_unlock_key,
)
from tests.unit.ca.builders import NOW, ROOT, issue

LEAF = issue()
CSR = new_request().csr_pem
LABELS = st.sampled_from(["CERTIFICATE", "CERTIFICATE REQUEST", "PRIVATE KEY", "EC PRIVATE KEY"])


def mutations(original: bytes) -> st.SearchStrategy[bytes]:
    """PEM around DER in which a few bytes were changed, cut or repeated."""
    (block,) = pem.decode(original)

    def mutate(edits: list[tuple[int, int]], cut: int) -> bytes:
        data = bytearray(block.data)
        for position, value in edits:
            data[position % len(data)] = value
        return pem.encode(PemBlock(block.label, bytes(data[: len(data) - cut])))

    edit = st.tuples(st.integers(0, len(block.data)), st.integers(0, 255))
    return st.builds(mutate, st.lists(edit, max_size=4), st.integers(0, 3))


#: The library warns of oddities that it will refuse one day, such as serial numbers below one.
pytestmark = pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")

blocks = st.builds(PemBlock, LABELS, st.binary(max_size=80)).map(pem.encode)


@given(st.one_of(st.binary(), blocks, mutations(LEAF.cert_pem), mutations(ROOT.cert_pem)))
@settings(max_examples=300)
def test_any_bytes_are_a_chain_and_a_root_or_a_certificate_error(data: bytes) -> None:
    with contextlib.suppress(CertificateError):
        verify_chain(data, ROOT.cert_pem, NOW)
    with contextlib.suppress(CertificateError):
        check_roots(data, NOW)


@given(st.one_of(st.binary(), blocks, mutations(CSR)))
@settings(max_examples=300)
def test_any_bytes_are_a_request_or_a_certificate_error(data: bytes) -> None:
    with contextlib.suppress(CertificateError):
        parse_request(data)


@given(mutations(LEAF.cert_pem))
@settings(max_examples=200)
def test_a_changed_certificate_never_verifies(data: bytes) -> None:
    try:
        verify_chain(data, ROOT.cert_pem, NOW)
    except CertificateError:
        return
    assert data == pem.normalize(LEAF.cert_pem)


@given(st.text())
@example("SWMTKN-1--")
def test_any_text_is_a_join_token_or_a_token_error(text: str) -> None:
    with contextlib.suppress(TokenError):
        parse_join_token(text)
    with contextlib.suppress(TokenError):
        parse_unlock_key(text)


@given(st.binary(), st.binary(min_size=16, max_size=16), st.booleans())
def test_join_tokens_of_any_root_and_secret_parse_back(root: bytes, secret: bytes, fips: bool) -> None:
    token = parse_join_token(new_join_token(root, fips=fips, random_bytes=lambda _: secret))
    assert token.pins(root)
    assert int(token.secret, 36) == int.from_bytes(secret, "big")
    assert token.fips is fips


@given(st.binary(min_size=32, max_size=32))
def test_unlock_keys_parse_back(key: bytes) -> None:
    assert parse_unlock_key(format_unlock_key(key)) == key


@given(
    st.lists(
        st.builds(
            PemBlock,
            LABELS,
            st.binary(max_size=300),
            st.lists(
                st.tuples(st.from_regex(r"[a-z][a-z-]*", fullmatch=True), st.text("abc=+/ :1", max_size=20)),
                max_size=3,
            ).map(lambda pairs: tuple((name, value.strip()) for name, value in pairs)),
        ),
        max_size=3,
    )
)
def test_pem_blocks_read_back_as_written_and_normalising_twice_is_once(made: list[PemBlock]) -> None:
    text = b"".join(pem.encode(block) for block in made)
    assert pem.decode(text) == made
    assert pem.normalize(pem.normalize(text)) == pem.normalize(text)


@given(st.binary(), st.binary(max_size=32), st.booleans(), st.integers(0), st.integers(1, 255))
def test_what_was_sealed_opens_and_what_was_altered_does_not(
    plain: bytes, key: bytes, fips: bool, position: int, change: int
) -> None:
    cipher = RecordCipher(key, fips=fips)
    sealed = cipher.seal(plain)
    assert cipher.open(sealed) == plain
    altered = bytearray(sealed)
    if key and altered:
        altered[position % len(altered)] ^= change
        with contextlib.suppress(InvalidKeyError):
            assert RecordCipher(key).open(bytes(altered)) == plain


@given(st.one_of(st.binary(), blocks, mutations(LEAF.key_pem)))
@settings(max_examples=200)
def test_any_bytes_are_a_key_file_or_a_state_directory_error(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "swarm-node.crt").write_bytes(LEAF.cert_pem)
        (Path(folder) / "swarm-node.key").write_bytes(data)
        with contextlib.suppress(StateDirError):
            KeyFile(Path(folder), b"k" * 32).read()
