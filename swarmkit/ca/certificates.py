"""Node certificates: subjects, requests and keys (contract/security.md, 3.2 and 3.3). Pure."""

from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from swarmkit.api import messages as api
from swarmkit.ca.errors import CertificateError
from swarmkit.ca.x509util import (
    PARSER_ERRORS,
    PublicKey,
    check_public_key,
    load_private_key,
    parse_certificates,
    public_der,
)

MANAGER_ROLE = "swarm-manager"
WORKER_ROLE = "swarm-worker"
_ROLE_NAMES = {api.NodeRole.MANAGER: MANAGER_ROLE, api.NodeRole.WORKER: WORKER_ROLE}

#: Longest request that is looked at; one with a key of 4096 bits has 1.7 KB.
MAX_REQUEST_BYTES = 16 * 1024


def role_name(role: api.NodeRole.ValueType) -> str:
    """Return the name of a role in certificates (OU).

    Raises:
        CertificateError: there is no such role.
    """
    name = _ROLE_NAMES.get(role)
    if name is None:
        raise CertificateError(f"there is no role {role}")
    return name


def role_of(name: str) -> api.NodeRole.ValueType | None:
    """Return the role with this name in certificates, or None."""
    return next((role for role, known in _ROLE_NAMES.items() if known == name), None)


@dataclass(frozen=True)
class Subject:
    """Who a node certificate is for.

    Attributes:
        node_id: CN.
        role: OU, ``swarm-manager`` or ``swarm-worker``.
        cluster_id: O.
    """

    node_id: str
    role: str
    cluster_id: str

    @property
    def is_manager(self) -> bool:
        """Whether the role is manager."""
        return self.role == MANAGER_ROLE

    def name(self) -> x509.Name:
        """Return the X.509 name: O, OU, CN.

        Raises:
            CertificateError: a part is empty.
        """
        if not (self.node_id and self.role and self.cluster_id):
            raise CertificateError("a node certificate needs a node id, a role and a cluster id")
        return x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, self.cluster_id),
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, self.role),
                x509.NameAttribute(NameOID.COMMON_NAME, self.node_id),
            ]
        )


@dataclass(frozen=True)
class Request:
    """What counts of a certificate request: its key."""

    public_key: PublicKey


def parse_request(csr_pem: bytes) -> Request:
    """Read a certificate request and check that its sender holds the key.

    Raises:
        CertificateError: it cannot be used; the text begins with "CSR Decode failed".
    """
    try:
        if len(csr_pem) > MAX_REQUEST_BYTES:
            raise CertificateError(f"more than {MAX_REQUEST_BYTES} bytes")
        request = x509.load_pem_x509_csr(csr_pem)
        key = check_public_key(request.public_key())
        if not request.is_signature_valid:
            raise CertificateError("its signature is wrong")
    except (CertificateError, *PARSER_ERRORS) as error:
        raise CertificateError(f"CSR Decode failed: {error}") from error
    return Request(key)


@dataclass(frozen=True)
class KeyAndRequest:
    """A fresh key and the request for its certificate; made anew for every issuance.

    Attributes:
        key_pem: the private key, PKCS#8.
        csr_pem: the request.
    """

    key_pem: bytes = field(repr=False)
    csr_pem: bytes


def new_request() -> KeyAndRequest:
    """Make a P-256 key and a request with an empty subject."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return KeyAndRequest(plain_pkcs8(key), request.public_bytes(serialization.Encoding.PEM))


def plain_pkcs8(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Write a key as ``PRIVATE KEY``."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def check_pair(cert_pem: bytes, key_pem: bytes) -> None:
    """Check that a key belongs to the first certificate of a chain.

    Raises:
        CertificateError: it does not, or one of them cannot be read.
    """
    leaf = parse_certificates(cert_pem)[0]
    key = load_private_key(key_pem, "the node's key")
    if public_der(check_public_key(leaf.public_key())) != public_der(key.public_key()):
        raise CertificateError("the node's key does not fit its certificate")
