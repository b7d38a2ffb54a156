"""Certificates of removed nodes (contract/security.md, 9). Pure."""

import datetime

from cryptography import x509

from swarmkit.api import messages as api
from swarmkit.clock import timestamp

#: How long after its certificate's end an entry is kept.
GRACE = datetime.timedelta(days=7)

#: Validity of node certificates while the cluster names none, in seconds.
_DEFAULT_EXPIRY = 2160 * 3600

#: No certificate is valid for longer than the first root of a swarm, in seconds.
_MAX_EXPIRY = 630_720_000


def blacklist_node(cluster: api.Cluster, node: api.Node, now: datetime.datetime) -> None:
    """Enter a node that is being removed, until its certificate has ended.

    A node's record holds no certificate while a renewal waits to be signed. Then the entry ends when a
    certificate signed now would: nothing stays for ever.
    """
    expiry = _certificate_end(node.certificate.certificate)
    if expiry is None:
        config = cluster.spec.ca_config
        seconds = config.node_cert_expiry.seconds or _DEFAULT_EXPIRY
        expiry = now + datetime.timedelta(seconds=min(seconds, _MAX_EXPIRY))
    cluster.blacklisted_certificates[node.id].expiry.CopyFrom(timestamp(expiry))


def purge_blacklist(cluster: api.Cluster, now: datetime.datetime) -> None:
    """Drop the entries of certificates that ended long enough ago."""
    limit = timestamp(now - GRACE).ToNanoseconds()
    for id in [
        id
        for id, entry in cluster.blacklisted_certificates.items()
        if entry.HasField("expiry") and entry.expiry.ToNanoseconds() < limit
    ]:
        del cluster.blacklisted_certificates[id]


def _certificate_end(pem: bytes) -> datetime.datetime | None:
    try:
        return x509.load_pem_x509_certificates(pem)[0].not_valid_after_utc
    except (ValueError, x509.InvalidVersion):
        return None
