"""Who may call what: one table over every RPC, those of the wire contract and our own, and the rule for it.

Source: contract/security.md, 15; contract/dispatcher-agent.md, 2. Pure: a peer, the call's metadata and the
state of the swarm go in, a ``Caller`` or a refusal comes out.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from swarmkit.net.caller import MANAGER_ROLE, WORKER_ROLE, Caller
from swarmkit.net.errors import RpcError, permission_denied

PACKAGE = "docker.swarmkit.v1"
#: What only managers of this project say to each other (protos/swarmkit/raft/service.proto).
OWN_PACKAGE = "swarmkit.raft.v1"
#: Their stream, beside gRPC: its name in ALPN (``frames.py``). The last part is the version.
STREAM = "swarmkit-raft/1"
_PREFIX = "Permission denied: "

#: Roles of an RPC that needs no certificate at all.
ANYONE: frozenset[str] = frozenset()
_MANAGERS = frozenset({MANAGER_ROLE})
_NODES = frozenset({MANAGER_ROLE, WORKER_ROLE})

_CONTROL_METHODS = """
    GetNode ListNodes UpdateNode RemoveNode
    GetTask ListTasks RemoveTask
    GetService ListServices CreateService UpdateService RemoveService ListServiceStatuses
    GetNetwork ListNetworks CreateNetwork RemoveNetwork
    GetCluster ListClusters UpdateCluster
    GetSecret UpdateSecret ListSecrets CreateSecret RemoveSecret
    GetConfig UpdateConfig ListConfigs CreateConfig RemoveConfig
    GetExtension CreateExtension RemoveExtension
    GetResource UpdateResource ListResources CreateResource RemoveResource
    CreateVolume GetVolume UpdateVolume ListVolumes RemoveVolume
"""
_GRANTS: tuple[tuple[str, frozenset[str], str], ...] = (
    ("CA", ANYONE, "GetRootCACertificate"),
    ("CA", _MANAGERS, "GetUnlockKey"),
    ("NodeCA", ANYONE, "IssueNodeCertificate NodeCertificateStatus"),
    ("Control", _MANAGERS, _CONTROL_METHODS),
    ("Dispatcher", _NODES, "Session Heartbeat UpdateTaskStatus UpdateVolumeStatus Tasks Assignments"),
    ("Health", _MANAGERS, "Check"),
    ("Logs", _MANAGERS, "SubscribeLogs"),
    ("LogBroker", _NODES, "ListenSubscriptions PublishLogs"),
    ("Raft", _MANAGERS, "ProcessRaftMessage StreamRaftMessage ResolveAddress"),
    ("RaftMembership", _MANAGERS, "Join Leave"),
    ("ResourceAllocator", _NODES, "AttachNetwork DetachNetwork"),
    ("Watch", _MANAGERS, "Watch"),
)
_OWN_GRANTS: tuple[tuple[str, frozenset[str], str], ...] = (("Raft", _MANAGERS, "Join Leave"),)

#: Full method name, as in ``/docker.swarmkit.v1.Health/Check``, or ``STREAM``, to the roles (certificate OUs)
#: that may call it, ``ANYONE`` for the open ones. What is not here cannot be served.
TABLE: Mapping[str, frozenset[str]] = {
    f"/{package}.{service}/{method}": roles
    for package, grants in ((PACKAGE, _GRANTS), (OWN_PACKAGE, _OWN_GRANTS))
    for service, roles, methods in grants
    for method in methods.split()
} | {STREAM: _MANAGERS}


#: What a node is told whose id is on the list of those that an operator has removed.
_REMOVED = "was removed from swarm"


def says_removed(text: str) -> bool:
    """Tell whether a manager's refusal means that the caller was removed from the swarm."""
    return _REMOVED in text


@dataclass(frozen=True)
class Peer:
    """The other end of one connection, as the gateway saw it.

    Attributes:
        node_id: CN of the verified client certificate; empty if none was shown.
        roles: its OUs.
        organization: its first O.
        remote_addr: ``ip:port`` of the other end.
        local: the connection came over the control socket; identity and address are then this manager's own.
    """

    node_id: str = ""
    roles: frozenset[str] = frozenset()
    organization: str = ""
    remote_addr: str = ""
    local: bool = False

    @property
    def anonymous(self) -> bool:
        """Whether no certificate was shown. The gateway lets no certificate without a CN pass."""
        return not self.node_id


@dataclass(frozen=True)
class _Forwarded:
    """The identity that a manager vouches for when it passes a call on."""

    node_id: str
    roles: frozenset[str]
    organization: str
    remote_addr: str

    @property
    def complete(self) -> bool:
        return bool(self.node_id and self.organization and self.roles)


@dataclass(frozen=True, slots=True)
class _Swarm:
    """What a certificate does not tell of a node: whose it must be, and what became of the node."""

    cluster_id: str
    is_blacklisted: Callable[[str], bool]
    is_manager: Callable[[str], bool]

    def reproach(self, node_id: str, organization: str, expected: frozenset[str]) -> str:
        """Say why a node with one of the ``expected`` roles must not act all the same; empty if it may."""
        if self.is_blacklisted(node_id):
            return f"node {node_id} {_REMOVED}"
        if organization != self.cluster_id:
            return f"organization mismatch, expecting: {self.cluster_id}"
        # Where workers may call too, an old manager's certificate still is that of a node.
        if WORKER_ROLE not in expected and not self.is_manager(node_id):
            return f"node {node_id} is no longer a manager"
        return ""


def authorize(
    method: str,
    peer: Peer,
    metadata: Iterable[tuple[str, str | bytes]],
    cluster_id: str,
    is_blacklisted: Callable[[str], bool],
    is_manager: Callable[[str], bool] = lambda _: True,
) -> Caller:
    """Return who acts in this call, or refuse it.

    On an open RPC the caller carries an identity only if that identity is a node of this swarm that was not
    removed; anybody else is anonymous there, whatever certificate was shown (contract/security.md, 6.3).

    Args:
        method: full method name, a key of ``TABLE``.
        peer: the connection's other end.
        metadata: the call's metadata, keys in lower case.
        cluster_id: O of this manager's own certificate.
        is_blacklisted: tells whether a node id was removed from the swarm.
        is_manager: tells whether a node id is a manager of the swarm now: one that was demoted keeps its
            certificate for a while. Asked about whoever needs that role: direct callers of manager-only RPCs,
            forwarded ones, and those who forward.

    Raises:
        RpcError: PERMISSION_DENIED with the contract's text.
    """
    allowed = TABLE.get(method)
    if allowed is None:
        raise permission_denied(f"{_PREFIX}{method} is not in the authorisation table")
    if peer.local:
        return Caller(peer.node_id, peer.roles, peer.organization, peer.remote_addr, local=True)
    swarm = _Swarm(cluster_id, is_blacklisted, is_manager)
    forwarded = _forwarded(metadata)
    if forwarded is None:
        return _direct(peer, allowed, swarm)
    refusal = _refusal(peer, _MANAGERS, swarm)
    if refusal:
        # PARITY: on open RPCs too, where the original would take such a caller for an anonymous one.
        raise _denied("unauthorized forwarder role", refusal)
    return _passed_on(peer, forwarded, allowed, swarm)


def _direct(peer: Peer, allowed: frozenset[str], swarm: _Swarm) -> Caller:
    """Rule 2: the peer acts for itself."""
    refusal = _refusal(peer, allowed or _NODES, swarm)
    if not refusal:
        return Caller(peer.node_id, peer.roles, peer.organization, peer.remote_addr)
    if allowed is ANYONE:
        return Caller(remote_addr=peer.remote_addr)
    raise _denied("unauthorized peer role", refusal)


def _passed_on(peer: Peer, who: _Forwarded, allowed: frozenset[str], swarm: _Swarm) -> Caller:
    """Rule 1: ``peer``, a manager of this swarm, passes on a call of ``who``."""
    expected = allowed or _NODES
    if not who.complete:
        refusal = "missing information in forwarded request"
    elif not who.roles & expected:
        refusal = f"unauthorized forwarded role, expecting: {_names(expected)}"
    else:
        refusal = swarm.reproach(who.node_id, who.organization, expected)
    if not refusal:
        return Caller(who.node_id, who.roles, who.organization, who.remote_addr, forwarded_by=peer.node_id)
    if allowed is ANYONE:
        return Caller(remote_addr=who.remote_addr, forwarded_by=peer.node_id)
    raise permission_denied(_PREFIX + refusal)


def _refusal(peer: Peer, expected: frozenset[str], swarm: _Swarm) -> str:
    """Say why ``peer`` is not a node of this swarm with one of the ``expected`` roles; empty if it is."""
    if peer.anonymous:
        return "no client certificates in request"
    if not peer.roles & expected:
        return f"{_PREFIX}unauthorized role, expecting: {_names(expected)}"
    reproach = swarm.reproach(peer.node_id, peer.organization, expected)
    return _PREFIX + reproach if reproach else ""


def _forwarded(metadata: Iterable[tuple[str, str | bytes]]) -> _Forwarded | None:
    """Read the forwarded identity; None unless ``forwarded_cert`` is there exactly once and ``true``."""
    values: dict[str, list[str]] = {}
    for key, value in metadata:
        if key.startswith("forwarded_cert") or key == "remote_addr":
            text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
            values.setdefault(key, []).append(text)
    if values.get("forwarded_cert") != ["true"]:
        return None

    def only(key: str) -> str:
        found = values.get(key, [])
        return found[0] if len(found) == 1 else ""

    return _Forwarded(
        node_id=only("forwarded_cert_cn"),
        roles=frozenset(filter(None, values.get("forwarded_cert_ou", ()))),
        organization=only("forwarded_cert_org"),
        remote_addr=only("remote_addr"),
    )


def _denied(what: str, refusal: str) -> RpcError:
    """Nest the reason as the original's peers print it."""
    return permission_denied(f"{_PREFIX}{what}: rpc error: code = PermissionDenied desc = {refusal}")


def _names(roles: frozenset[str]) -> str:
    return ", ".join(sorted(roles, reverse=True))
