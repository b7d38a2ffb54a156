"""X.509 building blocks: bundles, raw names, algorithms, rounded times (contract/security.md, 3). Pure."""

import datetime
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from cryptography.x509.oid import SignatureAlgorithmOID as SignatureOID

from swarmkit.ca import pem
from swarmkit.ca.errors import CertificateError

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

SignatureHash = hashes.SHA256 | hashes.SHA384 | hashes.SHA512

#: What the library raises on certificates, requests and keys that are malformed or of unknown kinds.
PARSER_ERRORS = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    InvalidSignature,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)

#: Node certificates and roots begin this long before they are made: for joiners whose clock is slow.
BACKDATE = datetime.timedelta(hours=1)
MIN_RSA_BITS = 2048
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_SIGNATURES = frozenset(
    {
        SignatureOID.ECDSA_WITH_SHA256,
        SignatureOID.ECDSA_WITH_SHA384,
        SignatureOID.ECDSA_WITH_SHA512,
        SignatureOID.RSA_WITH_SHA256,
        SignatureOID.RSA_WITH_SHA384,
        SignatureOID.RSA_WITH_SHA512,
    }
)


def parse_certificates(bundle: bytes) -> list[x509.Certificate]:
    """Return the certificates of a PEM bundle, in order.

    Raises:
        CertificateError: there is none, or a block is not a certificate.
    """
    blocks = pem.decode(bundle)
    if not blocks:
        raise CertificateError("no certificate found: this is not PEM")
    certificates = []
    for block in blocks:
        if block.label != "CERTIFICATE":
            raise CertificateError(f"expected certificates and found a block of type {block.label}")
        try:
            certificate = x509.load_der_x509_certificate(block.data)
            _ = certificate.extensions, certificate.subject, certificate.issuer
            certificate.public_key()
        except PARSER_ERRORS as error:
            raise CertificateError(f"a certificate cannot be read: {error}") from error
        certificates.append(certificate)
    return certificates


@dataclass(frozen=True)
class RawFields:
    """Parts of a certificate exactly as they stand in it, in DER: what Go compares.

    Attributes:
        issuer: the issuer's name.
        subject: the subject's name.
        public_key: the SubjectPublicKeyInfo.
    """

    issuer: bytes
    subject: bytes
    public_key: bytes


def raw_fields(certificate: x509.Certificate) -> RawFields:
    """Cut names and key out of a certificate that was parsed before."""
    content = _content(certificate.tbs_certificate_bytes)
    fields: list[bytes] = []
    while content:
        length = _total_length(content)
        fields.append(content[:length])
        content = content[length:]
    if fields[0][0] == 0xA0:  # [0] EXPLICIT version, absent in X.509 v1
        fields.pop(0)
    _serial, _algorithm, issuer, _validity, subject, public_key, *_ = fields
    return RawFields(issuer, subject, public_key)


def _lengths(der: bytes) -> tuple[int, int]:
    """Return (length of tag and length octets, length of the content) of the first DER element."""
    first = der[1]
    if first < 0x80:
        return 2, first
    octets = first & 0x7F
    return 2 + octets, int.from_bytes(der[2 : 2 + octets], "big")


def _total_length(der: bytes) -> int:
    return sum(_lengths(der))


def _content(der: bytes) -> bytes:
    head, length = _lengths(der)
    return der[head : head + length]


def rounded(now: datetime.datetime) -> datetime.datetime:
    """Return ``now`` at the nearest whole minute: certificates count from there."""
    shifted = now + datetime.timedelta(seconds=30)
    return shifted.replace(second=0, microsecond=0)


def label_of(certificate: x509.Certificate) -> str:
    """Return a certificate's common name, for texts."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else "without a name"


def moment(time: datetime.datetime) -> str:
    """Write a time for texts."""
    return time.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def check_public_key(key: object) -> PublicKey:
    """Return ``key`` if it is strong enough and of a kind every peer can use.

    Raises:
        CertificateError: it is not.
    """
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVES):
        return key
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size >= MIN_RSA_BITS:
            return key
        raise CertificateError(f"an RSA key of {key.key_size} bits is too short: {MIN_RSA_BITS} is the least")
    raise CertificateError("unsupported key: it must be ECDSA on P-256, P-384 or P-521, or RSA")


def check_signature_algorithm(oid: x509.ObjectIdentifier) -> None:
    """Refuse what is not RSA or ECDSA with SHA-256, SHA-384 or SHA-512.

    Raises:
        CertificateError: it is not.
    """
    if oid not in _SIGNATURES:
        raise CertificateError(f"unsupported signature algorithm {oid.dotted_string}")


def signature_hash(key: PrivateKey) -> SignatureHash:
    """Return the hash that goes with a signing key."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        if isinstance(key.curve, ec.SECP384R1):
            return hashes.SHA384()
        if isinstance(key.curve, ec.SECP521R1):
            return hashes.SHA512()
    return hashes.SHA256()


def public_der(key: PublicKey) -> bytes:
    """Return a public key in the form keys are compared in."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def load_private_key(key_pem: bytes, what: str) -> PrivateKey:
    """Read a plain private key, PKCS#8 or SEC1.

    Raises:
        CertificateError: it cannot be read or used; the text begins with ``what``.
    """
    try:
        key = serialization.load_pem_private_key(key_pem, None)
    except PARSER_ERRORS as error:
        raise CertificateError(f"{what} cannot be read") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise CertificateError(f"{what} is of an unsupported kind")
    check_public_key(key.public_key())
    return key


def is_authority(certificate: x509.Certificate) -> bool:
    """Tell whether a certificate may sign others."""
    try:
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return False
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return basic.ca
    return basic.ca and usage.key_cert_sign


def issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Tell whether ``issuer`` is an authority that signed ``certificate``; names are compared by raw DER."""
    if not is_authority(issuer) or raw_fields(certificate).issuer != raw_fields(issuer).subject:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except PARSER_ERRORS:  # wrong signature, algorithm or key: it did not sign this
        return False
    return True
