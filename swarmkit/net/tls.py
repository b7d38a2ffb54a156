"""TLS contexts made of a node's credentials, and the identity in a client's certificate.

Source: contract/security.md, 4.
"""

import os
import ssl
from collections.abc import Mapping
from typing import Any

from swarmkit.ca.credentials import Credentials
from swarmkit.net.authorization import STREAM

#: TLS 1.2 suites of the contract; TLS 1.3 brings its own.
_CIPHERS = ":".join(
    f"ECDHE-{key}-{cipher}"
    for key in ("ECDSA", "RSA")
    for cipher in ("AES256-GCM-SHA384", "AES128-GCM-SHA256", "CHACHA20-POLY1305")
)


#: The name of gRPC's HTTP/2 in ALPN (RFC 9113, 3.2).
HTTP2 = "h2"


class CertificateIdentityError(Exception):
    """A client certificate that verifies does not name a node: CN, OU or O is missing."""


def remote_context(credentials: Credentials) -> ssl.SSLContext:
    """Return the context of the remote port: a client certificate is optional, and verified when given.

    Besides HTTP/2 it takes the managers' own stream.

    Raises:
        ssl.SSLError: certificate, key or root cannot be used.
    """
    context = _server_context(credentials, [HTTP2, STREAM])
    _trust(context, credentials)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def member_context(credentials: Credentials) -> ssl.SSLContext:
    """Return the context of who dials another manager for a stream; that one must show whose it is.

    Raises:
        ssl.SSLError: certificate, key or root cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([STREAM])
    _trust(context, credentials)
    _load_chain(context, credentials)
    return context


def control_context(credentials: Credentials) -> ssl.SSLContext:
    """Return the context of the control socket: its file mode is what guards it, nobody is asked.

    Raises:
        ssl.SSLError: certificate or key cannot be used.
    """
    return _server_context(credentials, [HTTP2])


def _server_context(credentials: Credentials, protocols: list[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    # A client without ALPN is served nevertheless: the original's nodes offer none after their first renewal.
    context.set_alpn_protocols(protocols)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    # No tickets: a resumed session would skip the check of the client's certificate.
    context.num_tickets = 0
    _load_chain(context, credentials)
    return context


def _trust(context: ssl.SSLContext, credentials: Credentials) -> None:
    """Take the trust bundle, every certificate of which is an anchor (partial chains).

    During a rotation it holds a cross-signed intermediate that shares its name with the old root
    (contract/security.md, 3.5).
    """
    context.load_verify_locations(cadata=credentials.root_pem.decode("ascii"))
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def _load_chain(context: ssl.SSLContext, credentials: Credentials) -> None:
    """Load certificate and key, which ``ssl`` takes from named files only.

    An anonymous file in memory has a name, and a key that is encrypted at rest never touches a disk in clear.
    """
    descriptor = os.memfd_create("swarmkit-credentials", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(credentials.key_pem.rstrip() + b"\n" + credentials.cert_pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def identity(certificate: Mapping[str, Any]) -> tuple[str, frozenset[str], str]:
    """Return CN, all OUs and the first O of a verified certificate (as ``SSLObject.getpeercert`` gives it).

    Raises:
        CertificateIdentityError: one of them is missing or empty.
    """
    names: dict[str, list[str]] = {}
    for relative_name in certificate.get("subject", ()):
        for key, value in relative_name:
            names.setdefault(key, []).append(value)

    def first(key: str) -> str:
        return next(iter(names.get(key, ())), "")

    node_id, organization = first("commonName"), first("organizationName")
    roles = frozenset(filter(None, names.get("organizationalUnitName", ())))
    if not (node_id and organization and roles):
        raise CertificateIdentityError("the client certificate names no node: CN, OU or O is missing")
    return node_id, roles, organization
