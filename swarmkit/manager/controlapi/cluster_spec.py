"""Clusters: validation of a new spec, and what of a cluster is shown (contract/control-api.md, 6). Pure."""

from swarmkit.api import messages as api
from swarmkit.manager.controlapi.errors import InvalidError, UnsupportedError
from swarmkit.manager.tasks import nanoseconds

#: Stands for a secret in answers; in requests it means: keep the stored one.
REDACTED = b"[REDACTED]"

_NAME = "default"
_HASH = "bcrypt"
_MIN_EXPIRY_NANOSECONDS = 3600 * 1_000_000_000
_DEFAULT_POOL = "10.0.0.0/8"
_DEFAULT_SUBNET_SIZE = 24
_DEFAULT_VXLAN_PORT = 4789


def check_cluster_spec(spec: api.ClusterSpec) -> None:
    """Check what can be told from the spec alone.

    Raises:
        InvalidError: the first rule that is broken.
    """
    ca_config = spec.ca_config
    if ca_config.HasField("node_cert_expiry") and (
        nanoseconds(ca_config.node_cert_expiry) < _MIN_EXPIRY_NANOSECONDS
    ):
        raise InvalidError("minimum certificate expiry time is: 1h0m0s")
    for policy in spec.acceptance_policy.policies:
        if policy.HasField("secret") and policy.secret.alg.lower() != _HASH:
            raise InvalidError(f"hashing algorithm is not supported: {policy.secret.alg}")
    if spec.dispatcher.HasField("heartbeat_period"):
        period = nanoseconds(spec.dispatcher.heartbeat_period)
        if period < 0:
            raise InvalidError("heartbeat time period cannot be a negative duration")
        if period == 0:  # the original takes it, and workers spin
            raise InvalidError("heartbeat time period cannot be zero")
    if spec.annotations.name != _NAME:
        raise InvalidError("modification of cluster name is not allowed")


def check_supported(stored: api.Cluster, spec: api.ClusterSpec) -> None:
    """Refuse what this manager does not serve.

    Raises:
        UnsupportedError: the text says what.
    """
    ca_config = spec.ca_config
    if ca_config.signing_ca_cert or ca_config.signing_ca_key:
        raise UnsupportedError(
            "this manager does not rotate the root CA: leave signing_ca_cert and key unset"
        )
    if ca_config.force_rotate != stored.root_ca.last_forced_rotation:
        raise UnsupportedError("this manager does not rotate the root CA: leave force_rotate as it is")
    if ca_config.external_cas:
        raise UnsupportedError("this manager does not use external CAs: leave external_cas empty")


def keep_redacted_secrets(stored: api.ClusterSpec, spec: api.ClusterSpec) -> None:
    """Put the stored policy secrets where ``spec``, a copy of the caller's, says they are to be kept.

    Raises:
        InvalidError: there is none to keep.
    """
    policies = stored.acceptance_policy.policies
    known = {policy.role: policy.secret for policy in policies if policy.HasField("secret")}
    for policy in spec.acceptance_policy.policies:
        if policy.secret.data == REDACTED:
            if policy.role not in known:
                role = "manager" if policy.role == api.NodeRole.MANAGER else "worker"
                raise InvalidError(f"there is no stored secret for role {role} to keep: give its hash")
            policy.secret.CopyFrom(known[policy.role])


def shown(cluster: api.Cluster) -> api.Cluster:
    """Return what callers may see of a cluster: no key, no secret; join tokens stay."""
    visible = api.Cluster(
        id=cluster.id,
        meta=cluster.meta,
        spec=cluster.spec,
        root_ca=cluster.root_ca,
        blacklisted_certificates=cluster.blacklisted_certificates,
        defaultAddressPool=cluster.defaultAddressPool,
        subnetSize=cluster.subnetSize,
        VXLANUDPPort=cluster.VXLANUDPPort or _DEFAULT_VXLAN_PORT,
    )
    # The certificate goes too: sending the spec back must not start another rotation.
    visible.spec.ca_config.ClearField("signing_ca_cert")
    visible.spec.ca_config.ClearField("signing_ca_key")
    visible.root_ca.ClearField("ca_key")
    if visible.root_ca.HasField("root_rotation"):
        visible.root_ca.root_rotation.ClearField("ca_key")
    for policy in visible.spec.acceptance_policy.policies:
        if policy.HasField("secret"):
            policy.secret.data = REDACTED
    if not visible.defaultAddressPool:
        visible.defaultAddressPool.append(_DEFAULT_POOL)
        visible.subnetSize = _DEFAULT_SUBNET_SIZE
    return visible
