"""A node's TLS credentials in memory, and the holder through which a change reaches every user at once."""

from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.x509.oid import NameOID


class CredentialsError(Exception):
    """A certificate does not carry the identity it must: CN, OU and O."""


@dataclass(frozen=True)
class Credentials:
    """What a node shows to its peers and what it trusts.

    Attributes:
        root_pem: the trusted root bundle, byte for byte as pinned and distributed.
        cert_pem: the node certificate, leaf first, then any intermediates.
        key_pem: its private key, plain PKCS#8 PEM without headers; never shown in a ``repr``.
        node_id: CN of the leaf.
        role: first OU of the leaf, ``swarm-manager`` or ``swarm-worker``.
        organization: O of the leaf, the cluster id.
    """

    root_pem: bytes
    cert_pem: bytes
    key_pem: bytes = field(repr=False)
    node_id: str
    role: str
    organization: str

    @classmethod
    def from_pem(cls, root_pem: bytes, cert_pem: bytes, key_pem: bytes) -> "Credentials":
        """Read the identity out of the leaf certificate.

        Raises:
            CredentialsError: CN, OU or O is missing.
        """
        leaf = x509.load_pem_x509_certificates(cert_pem)[0]

        def first(oid: x509.ObjectIdentifier, what: str) -> str:
            values = leaf.subject.get_attributes_for_oid(oid)
            if not values or not values[0].value:
                raise CredentialsError(f"the node certificate has no {what} in its subject")
            return str(values[0].value)

        return cls(
            root_pem,
            cert_pem,
            key_pem,
            node_id=first(NameOID.COMMON_NAME, "node id (CN)"),
            role=first(NameOID.ORGANIZATIONAL_UNIT_NAME, "role (OU)"),
            organization=first(NameOID.ORGANIZATION_NAME, "cluster id (O)"),
        )


class CredentialsHolder:
    """Holds the current credentials; established connections keep the ones they were made with."""

    def __init__(self, credentials: Credentials) -> None:
        self._current = credentials
        self._callbacks: list[Callable[[Credentials], None]] = []

    @property
    def current(self) -> Credentials:
        """The credentials for new connections."""
        return self._current

    def replace(self, credentials: Credentials) -> None:
        """Switch to ``credentials`` and tell every subscriber, in the order they subscribed."""
        self._current = credentials
        for callback in list(self._callbacks):
            callback(credentials)

    def subscribe(self, callback: Callable[[Credentials], None]) -> Callable[[], None]:
        """Call ``callback`` on the event loop at each change; returns the function that ends that."""
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)
