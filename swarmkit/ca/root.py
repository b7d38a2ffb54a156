"""The root of trust: making one, checking bundles, the signer (contract/security.md, 3.1 and 3.3). Pure."""

import datetime
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from swarmkit.ca import pem
from swarmkit.ca.certificates import Request, Subject, parse_request
from swarmkit.ca.errors import CertificateError, ExpiredError
from swarmkit.ca.x509util import (
    BACKDATE,
    PrivateKey,
    check_public_key,
    check_signature_algorithm,
    is_authority,
    issued,
    label_of,
    load_private_key,
    moment,
    parse_certificates,
    public_der,
    raw_fields,
    rounded,
    signature_hash,
)

ROOT_NAME = "swarm-ca"
ROOT_VALIDITY = datetime.timedelta(seconds=630_720_000)
NODE_VALIDITY = datetime.timedelta(hours=2160)
MIN_NODE_VALIDITY = datetime.timedelta(hours=1)
#: Most certificates of a root bundle: one is usual, two or three while operators change authorities.
MAX_ROOTS = 16


@dataclass(frozen=True)
class Root:
    """A root certificate with its key, as a new swarm makes it.

    Attributes:
        cert_pem: the certificate.
        key_pem: its key, ``EC PRIVATE KEY``; lives in memory and in the cluster object, never on disk.
    """

    cert_pem: bytes
    key_pem: bytes = field(repr=False)


def make_root(now: datetime.datetime, name: str = ROOT_NAME) -> Root:
    """Make a self-signed root on P-256.

    PARITY: it begins 1 h before ``now``, not 5 minutes, so that a joiner with a slow clock accepts it.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    begin = rounded(now) - BACKDATE
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + ROOT_VALIDITY)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    key_pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    return Root(certificate.public_bytes(serialization.Encoding.PEM), key_pem)


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=not authority,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def check_roots(root_pem: bytes, now: datetime.datetime) -> list[x509.Certificate]:
    """Return the certificates of a root bundle if every one may be trusted.

    PARITY: the original does not check that they are self-signed authorities.

    Raises:
        ExpiredError: one is not valid now.
        CertificateError: one is malformed, weak, not an authority or not self-signed.
    """
    roots = parse_certificates(root_pem)
    if len(roots) > MAX_ROOTS:
        raise CertificateError(f"a root bundle of {len(roots)} certificates is too large")
    for root in roots:
        what = f"root certificate {label_of(root)}"
        try:
            check_public_key(root.public_key())
            check_signature_algorithm(root.signature_algorithm_oid)
        except CertificateError as error:
            raise CertificateError(f"{what}: {error}") from error
        begin, end = root.not_valid_before_utc, root.not_valid_after_utc
        if now < begin:
            raise ExpiredError(f"{what} is not valid before {moment(begin)}")
        if now > end:
            raise ExpiredError(f"{what} is not valid after {moment(end)}")
        if not is_authority(root):
            raise CertificateError(f"{what} is not an authority")
        if not issued(root, root):
            raise CertificateError(f"{what} is not self-signed")
    return roots


class Signer:
    """Signs node certificates with a root's key. Immutable; signing takes about 0.2 ms.

    Args:
        cert_pem: the signing certificate; the first one of a bundle signs.
        key_pem: its key.
        intermediates_pem: appended to each leaf: the cross-signed certificate of a running rotation.

    Raises:
        CertificateError: one of them cannot be read or used, or they are no pair.
    """

    def __init__(self, cert_pem: bytes, key_pem: bytes, intermediates_pem: bytes = b"") -> None:
        self._certificate = parse_certificates(cert_pem)[0]
        self._key: PrivateKey = load_private_key(key_pem, "the key of the root certificate")
        self._intermediates = pem.normalize(intermediates_pem)
        check_public_key(self._certificate.public_key())
        check_signature_algorithm(self._certificate.signature_algorithm_oid)
        if not is_authority(self._certificate):
            raise CertificateError("the signing certificate is not an authority")
        if public_der(check_public_key(self._certificate.public_key())) != public_der(self._key.public_key()):
            raise CertificateError("certificate key mismatch: the root's key does not fit its certificate")

    def sign(
        self, csr_pem: bytes, subject: Subject, now: datetime.datetime, validity: datetime.timedelta
    ) -> bytes:
        """Return the chain for a request: the leaf, then the intermediates, as PEM.

        Of the request only the public key counts. A validity under an hour becomes 2160 h.

        Raises:
            CertificateError: the request cannot be used ("CSR Decode failed"), or the subject is incomplete.
            ExpiredError: the signing certificate is not valid now.
        """
        request = parse_request(csr_pem)
        signer = self._certificate
        if not signer.not_valid_before_utc <= now <= signer.not_valid_after_utc:
            raise ExpiredError(f"the root certificate {label_of(signer)} is not valid at {moment(now)}")
        leaf = self._leaf(request, subject, rounded(now), validity).sign(self._key, signature_hash(self._key))
        if raw_fields(leaf).issuer != raw_fields(signer).subject:
            raise CertificateError("the root's name is encoded in a way that certificates cannot repeat")
        return leaf.public_bytes(serialization.Encoding.PEM) + self._intermediates

    def _leaf(
        self, request: Request, subject: Subject, start: datetime.datetime, validity: datetime.timedelta
    ) -> x509.CertificateBuilder:
        if validity < MIN_NODE_VALIDITY:
            validity = NODE_VALIDITY
        hosts = [subject.role, subject.node_id] + ([ROOT_NAME] if subject.is_manager else [])
        return (
            x509.CertificateBuilder()
            .subject_name(subject.name())
            .issuer_name(self._certificate.subject)
            .public_key(request.public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start - BACKDATE)
            .not_valid_after(start + validity)
            .add_extension(_key_usage(authority=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(request.public_key), critical=False)
            .add_extension(self._authority_key_identifier(), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(h) for h in hosts]), critical=False)
        )

    def _authority_key_identifier(self) -> x509.AuthorityKeyIdentifier:
        try:
            found = self._certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        except x509.ExtensionNotFound:
            return x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(found.value)
