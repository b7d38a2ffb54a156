"""Certificates of every kind, right and wrong, made in a line."""

import datetime
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from swarmkit.ca.certificates import MANAGER_ROLE, WORKER_ROLE, KeyAndRequest, Subject, new_request
from swarmkit.ca.credentials import Credentials
from swarmkit.ca.root import NODE_VALIDITY, Root, Signer, make_root
from tests.fakes.loop import EPOCH

NOW = EPOCH
DAY = datetime.timedelta(days=1)
HOUR = datetime.timedelta(hours=1)
CLUSTER = "clusterclusterclustercluster"[:25]
NODE = "nodenodenodenodenodenoden"
PEM = serialization.Encoding.PEM

ROOT = make_root(NOW)
OTHER_ROOT = make_root(NOW)
SIGNER = Signer(ROOT.cert_pem, ROOT.key_pem)


def issue(
    role: str = WORKER_ROLE,
    *,
    node_id: str = NODE,
    cluster: str = CLUSTER,
    root: Root = ROOT,
    now: datetime.datetime = NOW,
    validity: datetime.timedelta = NODE_VALIDITY,
    request: KeyAndRequest | None = None,
) -> Credentials:
    """Credentials as a manager issues them."""
    request = request or new_request()
    subject = Subject(node_id, role, cluster)
    certificate = Signer(root.cert_pem, root.key_pem).sign(request.csr_pem, subject, now, validity)
    return Credentials.from_pem(root.cert_pem, certificate, request.key_pem)


def manager() -> Credentials:
    return issue(MANAGER_ROLE)


@dataclass(frozen=True)
class Made:
    """A certificate made by hand, with its key."""

    certificate: x509.Certificate
    key: Any

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(PEM)

    @property
    def key_pem(self) -> bytes:
        return bytes(
            self.key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )

    @property
    def root(self) -> Root:
        return Root(self.pem, self.key_pem)


def make(
    name: str = "made",
    issuer: Made | None = None,
    *,
    key: Any = None,
    authority: bool = True,
    path_length: int | None = None,
    begin: datetime.timedelta = -DAY,
    end: datetime.timedelta = 365 * DAY,
    hash: Any = None,
    issuer_name: str = "",
) -> Made:
    """A certificate with the properties given; self-signed without an ``issuer``."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    parent = issuer.certificate.subject if issuer is not None else subject
    if issuer_name:
        parent = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer_name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(parent)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + begin)
        .not_valid_after(NOW + end)
        .add_extension(
            x509.BasicConstraints(ca=authority, path_length=path_length if authority else None), critical=True
        )
    )
    return Made(builder.sign(issuer.key if issuer is not None else key, hash or hashes.SHA256()), key)


def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def hostile_request() -> KeyAndRequest:
    """A request that asks for another name, other hosts and to be an authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody-else")]))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("evil.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    key_pem = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return KeyAndRequest(key_pem, request.public_bytes(PEM))
