"""PEM with headers, and its one normal form (contract/security.md, 3.4; case 16)."""

from swarmkit.ca.pem import PemBlock, decode, encode, encode_certificates, normalize
from tests.unit.ca.builders import OTHER_ROOT, ROOT

CLEAN = ROOT.cert_pem


def test_headers_blanks_and_garbage_around_normalise_away() -> None:
    begin, _, rest = CLEAN.partition(b"\n")
    with_headers = begin + b"\nname: value\nother: 1\n\n" + rest
    messy = b"garbage\n" + with_headers + b"\n\n  \nmore garbage\n" + OTHER_ROOT.cert_pem + b"tail"
    assert normalize(messy) == CLEAN + OTHER_ROOT.cert_pem


def test_carriage_returns_and_other_line_lengths_normalise_away() -> None:
    body = b"".join(CLEAN.splitlines()[1:-1])
    one_line = b"-----BEGIN CERTIFICATE-----\r\n" + body + b"\r\n-----END CERTIFICATE-----\r\n"
    assert normalize(one_line) == CLEAN


def test_nothing_but_garbage_normalises_to_nothing() -> None:
    for garbage in (b"", b"hello", b"-----BEGIN CERTIFICATE-----\nno end", b"\x00\xff"):
        assert normalize(garbage) == b""


def test_a_block_that_is_not_base64_is_skipped() -> None:
    bad = b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n"
    assert normalize(bad + CLEAN) == CLEAN


def test_headers_are_written_before_an_empty_line_and_read_back_in_order() -> None:
    block = PemBlock("PRIVATE KEY", b"\x01" * 60, (("kek-version", "0"), ("raft-dek", "a:b==")))
    text = encode(block)
    lines = text.split(b"\n")
    assert lines[:4] == [
        b"-----BEGIN PRIVATE KEY-----",
        b"kek-version: 0",
        b"raft-dek: a:b==",
        b"",
    ]
    assert decode(text) == [block]
    assert block.header("kek-version") == "0"
    assert block.header("none") is None


def test_a_block_does_not_show_its_content() -> None:
    assert "secret" not in repr(PemBlock("PRIVATE KEY", b"secret", (("raft-dek", "secret"),)))


def test_a_bundle_of_der_certificates_is_the_blocks_in_order() -> None:
    ders = [block.data for block in decode(CLEAN + OTHER_ROOT.cert_pem)]
    assert encode_certificates(ders) == CLEAN + OTHER_ROOT.cert_pem
