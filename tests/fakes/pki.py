"""A throw-away certificate authority for tests that need real TLS: P-256, made in about a millisecond."""

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from swarmkit.ca.credentials import Credentials
from swarmkit.net.caller import MANAGER_ROLE, WORKER_ROLE

CLUSTER = "cluster-of-the-tests-0001"
_PEM = serialization.Encoding.PEM


class FakeAuthority:
    """A root and the certificates it signs, laid out as contract/security.md, 3, says."""

    def __init__(self, name: str = "swarm-ca") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(self._name, self._name, self._key.public_key(), days=7300)
        builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
        builder = builder.add_extension(
            x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False
        )
        self.root_pem = builder.sign(self._key, hashes.SHA256()).public_bytes(_PEM)

    def issue(
        self,
        node_id: str,
        role: str = MANAGER_ROLE,
        organization: str = CLUSTER,
        *,
        days: float = 90,
        subject: x509.Name | None = None,
    ) -> Credentials:
        """Issue a node certificate; a negative ``days`` makes one that has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        if subject is None:
            subject = x509.Name(
                [
                    x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
                    x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role),
                    x509.NameAttribute(NameOID.COMMON_NAME, node_id),
                ]
            )
        hosts = [role, node_id] + (["swarm-ca"] if role == MANAGER_ROLE else [])
        builder = _builder(subject, self._name, key.public_key(), days)
        for extension, critical in (
            (x509.BasicConstraints(False, None), True),
            (
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                False,
            ),
            (x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), False),
        ):
            builder = builder.add_extension(extension, critical)
        certificate = builder.sign(self._key, hashes.SHA256()).public_bytes(_PEM)
        key_pem = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return Credentials(self.root_pem, certificate, key_pem, node_id, role, organization)

    def manager(self, node_id: str = "manager-1") -> Credentials:
        return self.issue(node_id, MANAGER_ROLE)

    def worker(self, node_id: str = "worker-1") -> Credentials:
        return self.issue(node_id, WORKER_ROLE)


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, days: float
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    end = now + datetime.timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, end) - datetime.timedelta(hours=1))
        .not_valid_after(end)
    )
