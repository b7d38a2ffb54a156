"""Chain validation, stricter than TLS does it, and issuer information (contract/security.md, 3.4). Pure."""

import datetime
from collections.abc import Sequence

from cryptography import x509

from swarmkit.api import messages as api
from swarmkit.ca.errors import CertificateError, ExpiredError, UnknownAuthorityError
from swarmkit.ca.x509util import issued, label_of, moment, parse_certificates, raw_fields

#: Longest chain that is looked at: leaf, two intermediates and a root are the most that occurs.
MAX_CHAIN = 8


def verify_chain(
    chain_pem: bytes, root_pem: bytes, now: datetime.datetime, *, allow_expired: bool = False
) -> list[x509.Certificate]:
    """Check a certificate chain and return it as verified: leaf first, trusted root last.

    Every certificate of ``chain_pem``, needed or not, must be valid now and signed by the next one.

    Args:
        chain_pem: leaf, then intermediates; a self-signed root at the end is tolerated.
        root_pem: the trusted roots.
        now: the present.
        allow_expired: accept what is over, if there was an instant at which all of it was valid.

    Raises:
        ExpiredError: a member or every fitting root is outside its validity.
        UnknownAuthorityError: the chain does not lead to a trusted root.
        CertificateError: malformed, or "certificates do not form a chain".
    """
    chain = parse_certificates(chain_pem)
    if len(chain) > MAX_CHAIN:
        raise CertificateError(f"a chain of {len(chain)} certificates is too long")
    for position, certificate in enumerate(chain, start=1):
        _check_dates(position, certificate, now, allow_expired)
        if position > 1 and not issued(chain[position - 2], certificate):
            raise CertificateError(
                f"certificates do not form a chain: ({position - 1} - {label_of(chain[position - 2])})"
                f" is not signed by ({position} - {label_of(certificate)})"
            )
    roots = parse_certificates(root_pem)
    outside: ExpiredError | None = None
    for path in _paths(chain, roots):
        try:
            _check_path_lengths(path)
            _check_span([*chain, *path], path[-1], now, allow_expired)
        except ExpiredError as error:
            outside = error
        else:
            return path
    raise outside or UnknownAuthorityError("certificate signed by unknown authority")


def _check_dates(
    position: int, certificate: x509.Certificate, now: datetime.datetime, allow_expired: bool
) -> None:
    where = f"certificate ({position} - {label_of(certificate)})"
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begin:
        raise ExpiredError(f"{where} not valid before {moment(begin)}, and it is currently {moment(now)}")
    if now > end and not allow_expired:
        raise ExpiredError(f"{where} not valid after {moment(end)}, and it is currently {moment(now)}")


def _paths(
    chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]
) -> list[list[x509.Certificate]]:
    """Return the ways from the leaf to a trusted root, the shortest first."""
    paths = []
    for end, certificate in enumerate(chain):
        if end > 0 and certificate in roots:
            paths.append(list(chain[: end + 1]))
            continue
        paths += [[*chain[: end + 1], root] for root in roots if issued(certificate, root)]
    return paths


def _check_path_lengths(path: Sequence[x509.Certificate]) -> None:
    """Hold every authority of a path to its path length: the authorities below it, without the leaf."""
    for below, certificate in enumerate(path[1:]):
        limit = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
        if limit is not None and below > limit:
            raise UnknownAuthorityError(
                f"the authority {label_of(certificate)} allows {limit} intermediates, the chain has {below}"
            )


def _check_span(
    members: Sequence[x509.Certificate], root: x509.Certificate, now: datetime.datetime, allow_expired: bool
) -> None:
    if now < root.not_valid_before_utc or (now > root.not_valid_after_utc and not allow_expired):
        raise ExpiredError(f"the root certificate {label_of(root)} is not valid at {moment(now)}")
    begin = max(certificate.not_valid_before_utc for certificate in members)
    end = min(certificate.not_valid_after_utc for certificate in members)
    if begin > end:
        raise ExpiredError("there is no time span at which all certificates of the chain are valid")


def tls_info(verified: Sequence[x509.Certificate], root_pem: bytes) -> api.NodeTLSInfo:
    """Return what a node reports about its TLS: the second certificate of the verified chain, and the root.

    Wrong or missing bytes here keep a rotation of the root from ever ending.

    Args:
        verified: what ``verify_chain`` returned.
        root_pem: the root file's bytes.
    """
    issuer = raw_fields(verified[1])
    return api.NodeTLSInfo(
        trust_root=root_pem, cert_issuer_subject=issuer.subject, cert_issuer_public_key=issuer.public_key
    )
