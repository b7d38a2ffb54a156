"""Who may join, with which role, and what waits for an operator (contract/security.md, 6.3 and 12). Pure.

A right join token admits at once, with the token's role. Without one a worker from the loopback is admitted
at once and everybody else waits as PENDING; an acceptance policy in the cluster's spec changes that.
"""

import hashlib
import ipaddress
from collections import OrderedDict
from dataclasses import dataclass

from swarmkit.api import messages as api
from swarmkit.ca.errors import InvalidRequestError
from swarmkit.ca.tokens import JOIN_PREFIX, same_token

TOKEN_TEXT = "A valid join token is necessary to join this cluster"
SECRET_TEXT = "A valid secret token is necessary to join this cluster"

_State = api.IssuanceStatus


@dataclass(frozen=True)
class Admission:
    """How a new node comes in.

    Attributes:
        role: its role.
        membership: ACCEPTED, or PENDING until an operator accepts it.
        anonymous: it proved nothing: the bounds for callers without a token hold.
    """

    role: api.NodeRole.ValueType
    membership: api.NodeSpec.Membership.ValueType
    anonymous: bool


def policy_for(
    cluster: api.Cluster, role: api.NodeRole.ValueType
) -> api.AcceptancePolicy.RoleAdmissionPolicy | None:
    """Return the cluster's policy for a role, or None."""
    policies = cluster.spec.acceptance_policy.policies
    return next((policy for policy in policies if policy.role == role), None)


def secret_for(
    cluster: api.Cluster, token: str, role: api.NodeRole.ValueType
) -> api.AcceptancePolicy.RoleAdmissionPolicy.Secret | None:
    """Return the policy's secret that a caller without a join token has to know, or None."""
    policy = None if token.startswith(JOIN_PREFIX) else policy_for(cluster, role)
    return policy.secret if policy is not None and policy.HasField("secret") else None


def admit(
    cluster: api.Cluster,
    token: str,
    role: api.NodeRole.ValueType,
    *,
    from_loopback: bool,
    proven: bool = False,
) -> Admission:
    """Decide how a caller without a certificate of this swarm comes in.

    Args:
        cluster: the cluster object.
        token: the request's token: a join token, a policy's secret, or empty.
        role: the role the request names; only looked at without a join token.
        from_loopback: the caller is known to be on this machine.
        proven: ``token`` was checked to be the secret of the role's policy.

    Raises:
        InvalidRequestError: the token fits no role.
    """
    if token.startswith(JOIN_PREFIX):
        return _admit_by_token(cluster.root_ca.join_tokens, token)
    if role not in api.NodeRole.values():
        raise InvalidRequestError(f"there is no role {role}")
    if not proven and (token or secret_for(cluster, token, role) is not None):
        raise InvalidRequestError(TOKEN_TEXT)
    policy = policy_for(cluster, role)
    if cluster.spec.acceptance_policy.policies:
        accepted = policy is not None and policy.autoaccept
    else:
        accepted = from_loopback
    if role == api.NodeRole.MANAGER and not proven:
        accepted = False
    membership = api.NodeSpec.ACCEPTED if accepted else api.NodeSpec.PENDING
    return Admission(role, membership, anonymous=not proven)


def _admit_by_token(tokens: api.JoinTokens, token: str) -> Admission:
    for stored, role in ((tokens.manager, api.NodeRole.MANAGER), (tokens.worker, api.NodeRole.WORKER)):
        if same_token(token, stored):
            return Admission(role, api.NodeSpec.ACCEPTED, anonymous=False)
    raise InvalidRequestError(TOKEN_TEXT)


def needs_signature(node: api.Node) -> bool:
    """Tell whether the signer has to act on a node (contract/security.md, 6.5)."""
    state = node.certificate.status.state
    accepted = node.spec.membership == api.NodeSpec.ACCEPTED
    return state == _State.RENEW or (state == _State.PENDING and accepted)


def is_final(node: api.Node) -> bool:
    """Tell whether a call for the node's certificate status is answered at once."""
    return node.certificate.status.state in (_State.ISSUED, _State.FAILED, _State.ROTATE)


class RateLimit:
    """A token bucket for each address: so many requests at once, then one every so many seconds.

    Args:
        burst: requests that may come at once.
        interval: seconds until one more may come.
        addresses: how many addresses are remembered; the one silent for longest is forgotten first.
    """

    def __init__(self, burst: int, interval: float, addresses: int) -> None:
        self._burst = burst
        self._interval = interval
        self._addresses = addresses
        self._used: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, ip: str, now: float) -> bool:
        """Count one request of ``ip`` at ``now``, in seconds; False if it comes too soon.

        All addresses of one IPv6 /64, and all unknown ones, count as one.
        """
        key = _network(ip)
        used, since = self._used.pop(key, (0.0, now))
        used = max(used - (now - since) / self._interval, 0.0)
        allowed = used + 1 <= self._burst
        self._used[key] = (used + 1 if allowed else used, now)
        while len(self._used) > self._addresses:
            self._used.popitem(last=False)
        return allowed


def _network(ip: str) -> str:
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address.packed, 64), strict=False))
    return ip


class RecentRequests:
    """Remembers which node a certificate request was answered with, for the newest ``limit`` requests."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._nodes: OrderedDict[bytes, str] = OrderedDict()

    def get(self, csr: bytes) -> str | None:
        """Return the node id of a request with exactly these bytes, or None."""
        return self._nodes.get(hashlib.sha256(csr).digest())

    def put(self, csr: bytes, node_id: str) -> None:
        """Remember a request."""
        self._nodes[hashlib.sha256(csr).digest()] = node_id
        while len(self._nodes) > self._limit:
            self._nodes.popitem(last=False)
