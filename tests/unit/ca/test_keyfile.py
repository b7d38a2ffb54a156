"""The key file (contract/security.md, 5; cases 24 to 29)."""

import base64
import dataclasses
import os
import ssl
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from swarmkit.ca import pem
from swarmkit.ca.cipher import RecordCipher
from swarmkit.ca.errors import CertificateError, KekConflictError, NodeLockedError, StateDirError
from swarmkit.ca.keyfile import Kek, KeyFile, KeyHeaders, is_news
from swarmkit.ca.pem import PemBlock
from tests.unit.ca.builders import issue, manager

UNLOCK = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
OTHER = b"0123456789abcdef0123456789abcdef"
LOCK = Kek(UNLOCK, 3)


def block_of(folder: Path) -> PemBlock:
    (block,) = pem.decode((folder / "swarm-node.key").read_bytes())
    return block


def written(folder: Path, kek: Kek | None = None) -> KeyFile:
    file = KeyFile(folder)
    credentials = manager()
    file.write(credentials.cert_pem, credentials.key_pem, kek)
    return file


def test_what_was_written_is_read_with_modes_and_version_zero(tmp_path: Path) -> None:
    credentials = manager()
    KeyFile(tmp_path).write(b"text\n" + credentials.cert_pem, credentials.key_pem)
    pair = KeyFile(tmp_path).read()
    assert pair is not None
    assert (pair.cert_pem, pair.key_pem) == (credentials.cert_pem, credentials.key_pem)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"swarm-node.crt": 0o644, "swarm-node.key": 0o600}
    assert block_of(tmp_path).label == "PRIVATE KEY"
    assert block_of(tmp_path).headers == (("kek-version", "0"),)


def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        written(tmp_path)
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "swarm-node.key").stat().st_mode) == 0o600


def test_nothing_on_disk_is_nothing_and_no_error(tmp_path: Path) -> None:
    assert KeyFile(tmp_path).read() is None
    written(tmp_path)
    (tmp_path / "swarm-node.crt").unlink()
    assert KeyFile(tmp_path).read() is None


def test_a_locked_key_opens_with_its_key_and_version_alone(tmp_path: Path) -> None:
    written(tmp_path, LOCK)
    assert block_of(tmp_path).label == "ENCRYPTED PRIVATE KEY"
    for unlock_key in (b"", OTHER):
        with pytest.raises(NodeLockedError, match=r"^node is locked, and needs a valid unlock key$"):
            KeyFile(tmp_path, unlock_key).read()
    file = KeyFile(tmp_path, UNLOCK)
    assert file.read() is not None
    assert file.kek == LOCK


def test_a_later_write_without_a_key_keeps_the_lock_and_an_empty_key_ends_it(tmp_path: Path) -> None:
    file = written(tmp_path, LOCK)
    credentials = manager()
    file.write(credentials.cert_pem, credentials.key_pem)
    assert block_of(tmp_path).header("kek-version") == "3"
    again = KeyFile(tmp_path, UNLOCK)
    assert again.read() is not None
    again.write(credentials.cert_pem, credentials.key_pem, Kek())
    assert block_of(tmp_path).label == "PRIVATE KEY"
    assert block_of(tmp_path).header("kek-version") == "0"
    assert again.kek == Kek()


def test_the_file_that_locked_itself_can_read_itself_again(tmp_path: Path) -> None:
    file = written(tmp_path, LOCK)
    assert file.read() is not None


def test_a_key_in_clear_is_read_whatever_unlock_key_is_given(tmp_path: Path) -> None:
    written(tmp_path).data_key()
    file = KeyFile(tmp_path, UNLOCK)
    assert file.read() is not None
    assert file.kek == Kek()
    assert file.headers().data_key is not None


def test_the_data_key_is_made_once_and_kept_over_renewals_and_locks(tmp_path: Path) -> None:
    file = written(tmp_path)
    key = file.data_key()
    assert len(key) == 32
    assert file.data_key() == key
    credentials = manager()
    file.write(credentials.cert_pem, credentials.key_pem, LOCK)
    assert base64.b64encode(key) not in (tmp_path / "swarm-node.key").read_bytes()
    again = KeyFile(tmp_path, UNLOCK)
    assert again.read() is not None
    assert again.data_key() == key
    again.drop_data_keys()
    assert again.headers() == KeyHeaders()
    assert block_of(tmp_path).headers == (("kek-version", "3"),)


def test_a_key_of_an_older_cluster_object_does_not_come_back_with_a_renewal(tmp_path: Path) -> None:
    file = written(tmp_path, LOCK)
    credentials = manager()
    file.write(credentials.cert_pem, credentials.key_pem, Kek(OTHER, 2))
    assert file.kek == LOCK
    file.write(credentials.cert_pem, credentials.key_pem, Kek(OTHER, 4))
    assert file.kek == Kek(OTHER, 4)
    file.write(credentials.cert_pem, credentials.key_pem, Kek(b"", 3))
    assert file.kek == Kek(OTHER, 4)


@pytest.mark.parametrize(
    ("candidate", "news"),
    [
        (Kek(OTHER, 2), False),
        (Kek(b"", 2), False),
        (Kek(UNLOCK, 2), False),
        (Kek(UNLOCK, 3), False),
        (Kek(UNLOCK, 4), False),
        (Kek(OTHER, 4), True),
        (Kek(b"", 4), True),
    ],
)
def test_only_another_key_of_a_newer_version_is_news(candidate: Kek, news: bool) -> None:
    assert is_news(LOCK, candidate) is news


def test_another_key_of_the_same_version_is_an_error_and_changes_nothing(tmp_path: Path) -> None:
    file = written(tmp_path, LOCK)
    before = (tmp_path / "swarm-node.key").read_bytes()
    with pytest.raises(KekConflictError, match=r"^version 3 of the cluster object holds another unlock key"):
        file.follow(Kek(OTHER, 3))
    assert (tmp_path / "swarm-node.key").read_bytes() == before
    assert file.kek == LOCK


def test_locking_encrypts_key_and_data_key_and_marks_the_data_key_in_one_write(tmp_path: Path) -> None:
    file = written(tmp_path)
    data_key = file.data_key()
    assert file.follow(LOCK)
    assert block_of(tmp_path).label == "ENCRYPTED PRIVATE KEY"
    with pytest.raises(NodeLockedError):
        KeyFile(tmp_path).read()
    again = KeyFile(tmp_path, UNLOCK)
    assert again.read() is not None
    assert again.kek == LOCK
    assert again.headers() == KeyHeaders(data_key, needs_rotation=True)


def test_another_unlock_key_or_none_wraps_anew_and_leaves_the_data_key_as_it_is(tmp_path: Path) -> None:
    file = written(tmp_path, LOCK)
    headers = KeyHeaders(file.data_key())
    assert not file.follow(Kek(OTHER, 4))
    assert file.headers() == headers
    with pytest.raises(NodeLockedError):
        KeyFile(tmp_path, UNLOCK).read()

    assert not file.follow(Kek(b"", 5))
    opened = KeyFile(tmp_path)
    assert opened.read() is not None
    assert opened.headers() == headers
    assert not opened.follow(Kek(OTHER, 4))  # a log that is replayed at the start passes here again
    assert opened.kek == Kek(b"", 5)


def test_a_renewal_that_locks_the_file_marks_the_data_key_too(tmp_path: Path) -> None:
    file = written(tmp_path)
    file.data_key()
    credentials = manager()
    file.write(credentials.cert_pem, credentials.key_pem, LOCK)
    assert file.headers().needs_rotation


def test_a_lock_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    file = written(tmp_path)
    headers = KeyHeaders(file.data_key())
    (tmp_path / "swarm-node.key").unlink()
    (tmp_path / "swarm-node.key").mkdir()
    with pytest.raises(StateDirError):
        file.follow(LOCK)
    assert (file.kek, file.headers()) == (Kek(), headers)


def test_all_headers_survive_a_round_trip_and_foreign_ones_too(tmp_path: Path) -> None:
    written(tmp_path)
    block = block_of(tmp_path)
    foreign = dataclasses.replace(block, headers=(*block.headers, ("from-elsewhere", "kept")))
    (tmp_path / "swarm-node.key").write_bytes(pem.encode(foreign))
    file = KeyFile(tmp_path)
    file.read()
    headers = KeyHeaders(b"a" * 32, b"b" * 32, needs_rotation=True)
    assert file.update_headers(lambda _: headers) == headers
    again = KeyFile(tmp_path)
    again.read()
    assert again.headers() == headers
    assert block_of(tmp_path).header("raft-dek-needs-rotation") == "true"
    assert block_of(tmp_path).header("from-elsewhere") == "kept"
    assert "aaaa" not in repr(headers)


def test_the_header_vector_of_the_contract_is_what_is_written(tmp_path: Path) -> None:
    file = written(tmp_path)
    file.update_headers(lambda _: KeyHeaders(OTHER))
    assert block_of(tmp_path).header("raft-dek") == "EiAwMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZg=="


def test_a_change_of_headers_that_fails_changes_nothing(tmp_path: Path) -> None:
    file = written(tmp_path, LOCK)
    key = file.data_key()
    before = (tmp_path / "swarm-node.key").read_bytes()

    def broken(_: KeyHeaders) -> KeyHeaders:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        file.update_headers(broken)
    with pytest.raises(StateDirError, match="there is a pending DEK, but no current DEK"):
        file.update_headers(lambda _: KeyHeaders(None, b"p" * 32))
    assert (tmp_path / "swarm-node.key").read_bytes() == before
    assert (file.data_key(), file.kek) == (key, LOCK)


def test_a_write_that_fails_changes_nothing_and_says_where(tmp_path: Path) -> None:
    folder = tmp_path / "certificates"
    folder.mkdir()
    file = written(folder, LOCK)
    key = file.data_key()
    before = (folder / "swarm-node.key").read_bytes()
    moved = tmp_path / "gone"
    folder.rename(moved)
    credentials = manager()
    with pytest.raises(StateDirError, match=r"cannot write .*swarm-node.crt: No such file"):
        file.write(credentials.cert_pem, credentials.key_pem, Kek(OTHER, 4))
    moved.rename(folder)
    assert (folder / "swarm-node.key").read_bytes() == before
    assert (file.kek, file.data_key()) == (LOCK, key)
    assert not list(folder.glob(".tmp-*"))


def test_an_encrypted_key_whose_headers_another_key_sealed_stays_locked(tmp_path: Path) -> None:
    written(tmp_path, LOCK)
    block = block_of(tmp_path)
    record = base64.b64encode(RecordCipher(OTHER).seal(b"d" * 32)).decode()
    for headers in ((("raft-dek", record),), (("raft-dek", "!"),), (("kek-version", "x"),)):
        (tmp_path / "swarm-node.key").write_bytes(pem.encode(dataclasses.replace(block, headers=headers)))
        with pytest.raises(NodeLockedError):
            KeyFile(tmp_path, UNLOCK).read()


def test_a_pending_data_key_without_a_current_one_is_an_error(tmp_path: Path) -> None:
    written(tmp_path)
    record = base64.b64encode(RecordCipher(b"").seal(b"d" * 32)).decode()
    block = dataclasses.replace(block_of(tmp_path), headers=(("raft-dek-pending", record),))
    (tmp_path / "swarm-node.key").write_bytes(pem.encode(block))
    with pytest.raises(StateDirError, match="pending DEK"):
        KeyFile(tmp_path).read()


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"]
)
def test_a_damaged_key_file_is_an_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    written(tmp_path)
    (tmp_path / "swarm-node.key").write_bytes(content)
    with pytest.raises(StateDirError, match=r"swarm-node\.key"):
        KeyFile(tmp_path).read()


def test_after_a_crash_before_the_last_rename_the_new_pair_is_found(tmp_path: Path) -> None:
    written(tmp_path)
    old_certificate = (tmp_path / "swarm-node.crt").read_bytes()
    written(tmp_path)
    new_certificate = (tmp_path / "swarm-node.crt").read_bytes()
    (tmp_path / "swarm-node.crt").rename(tmp_path / ".swarm-node.crt")
    (tmp_path / "swarm-node.crt").write_bytes(old_certificate)
    pair = KeyFile(tmp_path).read()
    assert pair is not None
    assert pair.cert_pem == new_certificate == (tmp_path / "swarm-node.crt").read_bytes()
    assert not (tmp_path / ".swarm-node.crt").exists()


def test_after_a_crash_of_the_first_write_the_waiting_certificate_is_found(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "swarm-node.crt").rename(tmp_path / ".swarm-node.crt")
    assert KeyFile(tmp_path).read() is not None


def test_after_a_crash_before_the_key_was_replaced_the_old_pair_is_used(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / ".swarm-node.crt").write_bytes(manager().cert_pem)
    assert KeyFile(tmp_path).read() is not None


def test_a_waiting_certificate_that_does_not_match_is_deleted_and_the_first_error_told(
    tmp_path: Path,
) -> None:
    written(tmp_path)
    (tmp_path / "swarm-node.crt").write_bytes(issue().cert_pem)
    (tmp_path / ".swarm-node.crt").write_bytes(b"garbage")
    with pytest.raises(StateDirError, match="does not fit its certificate"):
        KeyFile(tmp_path).read()
    assert not (tmp_path / ".swarm-node.crt").exists()


def test_a_leftover_key_is_adopted_if_it_fits_and_deleted_if_not(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "swarm-node.key").rename(tmp_path / ".swarm-node.key")
    assert KeyFile(tmp_path).read() is not None
    assert not (tmp_path / ".swarm-node.key").exists()
    (tmp_path / ".swarm-node.key").write_bytes(issue().key_pem)
    assert KeyFile(tmp_path).read() is not None
    assert not (tmp_path / ".swarm-node.key").exists()


def test_a_pair_that_does_not_belong_together_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match="does not fit"):
        KeyFile(tmp_path).write(manager().cert_pem, manager().key_pem)
    assert list(tmp_path.iterdir()) == []


def legacy(key_pem: bytes, password: bytes | None) -> bytes:
    key = serialization.load_pem_private_key(key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption(),
    )


def test_keys_of_the_legacy_form_are_read_and_written_anew(tmp_path: Path) -> None:
    credentials = manager()
    written(tmp_path)
    (tmp_path / "swarm-node.crt").write_bytes(credentials.cert_pem)
    for unlock_key in (b"", UNLOCK):
        (block,) = pem.decode(legacy(credentials.key_pem, unlock_key or None))
        record = base64.b64encode(RecordCipher(unlock_key).seal(OTHER)).decode()
        block = dataclasses.replace(
            block, headers=(*block.headers, ("kek-version", "7"), ("raft-dek", record))
        )
        (tmp_path / "swarm-node.key").write_bytes(pem.encode(block))
        file = KeyFile(tmp_path, unlock_key)
        pair = file.read()
        assert pair is not None
        assert pair.key_pem == credentials.key_pem
        assert file.headers().data_key == OTHER
        file.drop_data_keys()
        assert "DEK-Info" not in dict(block_of(tmp_path).headers)
        assert block_of(tmp_path).label == ("ENCRYPTED PRIVATE KEY" if unlock_key else "PRIVATE KEY")


def test_fips_refuses_an_encrypted_legacy_key_and_reads_a_plain_one(tmp_path: Path) -> None:
    credentials = manager()
    written(tmp_path)
    (tmp_path / "swarm-node.crt").write_bytes(credentials.cert_pem)
    (tmp_path / "swarm-node.key").write_bytes(legacy(credentials.key_pem, UNLOCK))
    with pytest.raises(StateDirError, match="unsupported key format due to FIPS compliance"):
        KeyFile(tmp_path, UNLOCK, fips=True).read()
    (tmp_path / "swarm-node.key").write_bytes(legacy(credentials.key_pem, None))
    assert KeyFile(tmp_path, fips=True).read() is not None


def test_fips_headers_are_read_by_everybody_and_others_not_by_fips(tmp_path: Path) -> None:
    credentials = manager()
    fips = KeyFile(tmp_path, fips=True)
    fips.write(credentials.cert_pem, credentials.key_pem, LOCK)
    key = fips.data_key()
    plain = KeyFile(tmp_path, UNLOCK)
    assert plain.read() is not None
    assert plain.headers().data_key == key
    plain.write(credentials.cert_pem, credentials.key_pem)
    with pytest.raises(NodeLockedError):
        KeyFile(tmp_path, UNLOCK, fips=True).read()


def test_the_key_it_returns_is_one_that_ssl_loads(tmp_path: Path) -> None:
    file = written(tmp_path, LOCK)
    file.data_key()
    pair = file.read()
    assert pair is not None
    for name, content in (("c", pair.cert_pem), ("k", pair.key_pem)):
        (tmp_path / name).write_bytes(content)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tmp_path / "c", tmp_path / "k")


def test_headers_before_the_first_read_or_write_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(StateDirError, match="was not read"):
        KeyFile(tmp_path).data_key()


def test_peeking_gives_the_data_keys_and_changes_nothing(tmp_path: Path) -> None:
    assert KeyFile(tmp_path).peek() is None
    written(tmp_path, LOCK).update_headers(lambda _: KeyHeaders(b"d" * 32, b"p" * 32, True))
    (tmp_path / ".swarm-node.key").write_bytes(b"what reading would adopt or remove")
    (tmp_path / ".swarm-node.crt").write_bytes(b"as well")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert KeyFile(tmp_path, UNLOCK).peek() == KeyHeaders(b"d" * 32, b"p" * 32, True)
    with pytest.raises(NodeLockedError):
        KeyFile(tmp_path, OTHER).peek()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
