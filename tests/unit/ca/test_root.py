"""Roots and node certificates (contract/security.md, 3.1 to 3.3; cases 7 to 11)."""

import datetime
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from swarmkit.ca.certificates import MANAGER_ROLE, WORKER_ROLE, Subject, new_request
from swarmkit.ca.chain import verify_chain
from swarmkit.ca.errors import CertificateError, ExpiredError
from swarmkit.ca.root import ROOT_VALIDITY, Root, Signer, check_roots, make_root
from swarmkit.ca.x509util import raw_fields
from tests.unit.ca.builders import (
    CLUSTER,
    DAY,
    HOUR,
    NODE,
    NOW,
    OTHER_ROOT,
    PEM,
    ROOT,
    SIGNER,
    Made,
    hostile_request,
    issue,
    make,
    rsa_key,
)


def load(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)


def test_a_new_root_is_as_the_contract_says() -> None:
    root = load(ROOT.cert_pem)
    assert root.subject == root.issuer
    assert root.subject.rfc4514_string() == "CN=swarm-ca"
    assert root.version is x509.Version.v3
    assert 0 < root.serial_number < 1 << 159
    assert root.not_valid_after_utc - root.not_valid_before_utc == ROOT_VALIDITY
    assert root.not_valid_before_utc == NOW - HOUR
    key = root.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert isinstance(root.signature_hash_algorithm, hashes.SHA256)
    usage = root.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert usage.value.crl_sign
    assert not usage.value.digital_signature
    basic = root.extensions.get_extension_for_class(x509.BasicConstraints)
    assert basic.critical
    assert basic.value == x509.BasicConstraints(ca=True, path_length=None)
    identifier = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert identifier == x509.SubjectKeyIdentifier.from_public_key(key)
    assert len(list(root.extensions)) == 3
    assert ROOT.key_pem.startswith(b"-----BEGIN EC PRIVATE KEY-----")
    assert "PRIVATE" not in repr(ROOT)


@pytest.mark.parametrize(("second", "minute"), [(29, 0), (30, 1)])
def test_now_is_rounded_to_the_nearest_minute(second: int, minute: int) -> None:
    root = load(make_root(NOW.replace(second=second)).cert_pem)
    assert root.not_valid_before_utc == NOW.replace(minute=minute) - HOUR


def test_a_root_bundle_may_hold_several_certificates() -> None:
    assert len(check_roots(ROOT.cert_pem + OTHER_ROOT.cert_pem, NOW)) == 2


def test_authorities_that_others_made_are_accepted() -> None:
    for key, algorithm in (
        (ec.generate_private_key(ec.SECP384R1()), hashes.SHA384()),
        (ec.generate_private_key(ec.SECP521R1()), hashes.SHA512()),
        (rsa_key(2048), hashes.SHA256()),
    ):
        made = make(key=key, hash=algorithm)
        assert check_roots(made.pem, NOW) == [made.certificate]
        leaf = issue(root=made.root)
        assert len(verify_chain(leaf.cert_pem, made.pem, NOW)) == 2


BAD_ROOTS: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "no certificate found"),
    "garbage": (lambda: b"garbage", "no certificate found"),
    "key": (lambda: ROOT.key_pem, "EC PRIVATE KEY"),
    "malformed": (
        lambda: b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
        "cannot be read",
    ),
    "expired": (lambda: make(begin=-3 * DAY, end=-DAY).pem, "is not valid after"),
    "future": (lambda: make(begin=DAY).pem, "is not valid before"),
    "second of two expired": (lambda: ROOT.cert_pem + make(end=-HOUR).pem, "is not valid after"),
    "RSA-1024": (lambda: make(key=rsa_key(1024)).pem, "1024 bits is too short"),
    "P-224": (lambda: make(key=ec.generate_private_key(ec.SECP224R1())).pem, "unsupported key"),
    "SHA-224": (lambda: make(hash=hashes.SHA224()).pem, "unsupported signature algorithm"),
    "DSA": (lambda: make(key=dsa.generate_private_key(1024)).pem, "unsupported key"),
    "not an authority": (lambda: make(authority=False).pem, "is not an authority"),
    "not self-signed": (lambda: make("child", make("parent")).pem, "is not self-signed"),
    "wrong self-signature": (
        lambda: make("x", Made(make("x").certificate, ec.generate_private_key(ec.SECP256R1()))).pem,
        "is not self-signed",
    ),
    "too many": (lambda: 17 * ROOT.cert_pem, "is too large"),
}


@pytest.mark.parametrize("name", BAD_ROOTS)
def test_a_bundle_with_a_bad_root_is_refused(name: str) -> None:
    bundle, text = BAD_ROOTS[name]
    with pytest.raises(CertificateError, match=text):
        check_roots(bundle(), NOW)


def test_a_root_on_ed25519_is_refused() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ed")])
    root = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
        .sign(key, None)
    )
    with pytest.raises(CertificateError, match="unsupported key"):
        check_roots(root.public_bytes(PEM), NOW)


def test_a_signer_needs_an_authority_and_its_key() -> None:
    leaf = make("leaf", authority=False)
    with pytest.raises(CertificateError, match="certificate key mismatch"):
        Signer(ROOT.cert_pem, OTHER_ROOT.key_pem)
    with pytest.raises(CertificateError, match="not an authority"):
        Signer(leaf.pem, leaf.key_pem)
    with pytest.raises(CertificateError, match="cannot be read"):
        Signer(ROOT.cert_pem, b"no key")


def test_an_expired_signer_signs_nothing() -> None:
    made = make(end=HOUR)
    with pytest.raises(ExpiredError):
        issue(root=made.root, now=NOW + DAY)


def test_a_manager_certificate_is_as_the_contract_says() -> None:
    leaf = load(issue(MANAGER_ROLE).cert_pem)
    assert [(attribute.oid, attribute.value) for attribute in leaf.subject] == [
        (NameOID.ORGANIZATION_NAME, CLUSTER),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, "swarm-manager"),
        (NameOID.COMMON_NAME, NODE),
    ]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["swarm-manager", NODE, "swarm-ca"]
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert usage.value.key_encipherment
    assert not usage.value.key_cert_sign
    purposes = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert list(purposes.value) == [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    basic = leaf.extensions.get_extension_for_class(x509.BasicConstraints)
    assert basic.critical
    assert not basic.value.ca
    root = load(ROOT.cert_pem)
    identifier = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    issuer = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert issuer.key_identifier == identifier.digest
    assert raw_fields(leaf).issuer == raw_fields(root).subject
    assert 0 < leaf.serial_number < 1 << 159


def test_a_worker_certificate_has_no_name_of_the_authority() -> None:
    leaf = load(issue(WORKER_ROLE).cert_pem)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["swarm-worker", NODE]


@pytest.mark.parametrize(("asked", "signed"), [(HOUR, HOUR), (HOUR - DAY / 1440, 90 * DAY), (DAY, DAY)])
def test_the_validity_is_what_was_asked_for_and_90_days_for_less_than_an_hour(
    asked: datetime.timedelta, signed: datetime.timedelta
) -> None:
    leaf = load(issue(validity=asked).cert_pem)
    assert leaf.not_valid_before_utc == NOW - HOUR
    assert leaf.not_valid_after_utc == NOW + signed


def test_of_a_hostile_request_the_key_alone_counts() -> None:
    request = hostile_request()
    leaf = load(issue(request=request).cert_pem)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["swarm-worker", NODE]
    assert "somebody-else" not in leaf.subject.rfc4514_string()
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    asked = x509.load_pem_x509_csr(request.csr_pem).public_key()
    assert leaf.public_key() == asked


def test_a_request_with_the_older_label_is_accepted() -> None:
    request = new_request()
    old = request.csr_pem.replace(b" CERTIFICATE REQUEST", b" NEW CERTIFICATE REQUEST")
    assert SIGNER.sign(old, Subject(NODE, WORKER_ROLE, CLUSTER), NOW, DAY)


def request_of(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, algorithm).public_bytes(PEM)


def forged_request() -> bytes:
    der = bytearray(x509.load_pem_x509_csr(new_request().csr_pem).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    return x509.load_der_x509_csr(bytes(der)).public_bytes(PEM)


@pytest.mark.parametrize(
    "csr",
    [
        b"",
        b"garbage",
        ROOT.cert_pem,
        request_of(ec.generate_private_key(ec.SECP224R1())),
        request_of(ed25519.Ed25519PrivateKey.generate()),
        forged_request(),
        b"x" * 20_000,
    ],
)
def test_a_request_that_cannot_be_used_is_refused(csr: bytes) -> None:
    with pytest.raises(CertificateError, match=r"^CSR Decode failed"):
        SIGNER.sign(csr, Subject(NODE, WORKER_ROLE, CLUSTER), NOW, DAY)


def test_no_part_of_the_identity_may_be_empty() -> None:
    csr = new_request().csr_pem
    for subject in (Subject("", WORKER_ROLE, CLUSTER), Subject(NODE, "", CLUSTER), Subject(NODE, "x", "")):
        with pytest.raises(CertificateError, match="needs a node id"):
            SIGNER.sign(csr, subject, NOW, DAY)


def test_intermediates_follow_the_leaf_and_the_root_does_not() -> None:
    new = make("new root")
    crossed = make("new root", Made(load(ROOT.cert_pem), make_key(ROOT)), key=new.key)
    signer = Signer(new.pem, new.key_pem, b"text\n" + crossed.pem)
    chain = signer.sign(new_request().csr_pem, Subject(NODE, WORKER_ROLE, CLUSTER), NOW, DAY)
    assert chain.count(b"BEGIN CERTIFICATE") == 2
    assert chain.endswith(crossed.pem)
    assert len(verify_chain(chain, ROOT.cert_pem, NOW)) == 3
    assert len(verify_chain(chain, new.pem, NOW)) == 2


def make_key(root: Root) -> object:
    return serialization.load_pem_private_key(root.key_pem, None)
