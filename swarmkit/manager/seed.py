"""What a fresh swarm contains, created by its leaders if absent (contract/raft-store-manager.md, 19).

PARITY: the ingress network and the predefined networks are not seeded: nothing allocates networks yet, and a
service that needs the ingress network is refused with the contract's words while there is none.
"""

from collections.abc import Callable
from dataclasses import dataclass

from google.protobuf.duration_pb2 import Duration

from swarmkit.api import messages as api
from swarmkit.ca.autolock import set_unlock_key
from swarmkit.store import Tx, by

CLUSTER_NAME = "default"
TASK_HISTORY_LIMIT = 5
HEARTBEAT_PERIOD_SECONDS = 5
NODE_CERT_EXPIRY_SECONDS = 2160 * 3600
SNAPSHOT_INTERVAL_ENTRIES = 10_000
LOG_ENTRIES_FOR_SLOW_FOLLOWERS = 500


@dataclass(frozen=True)
class OwnNode:
    """This manager's own node, as its certificate and configuration say.

    Attributes:
        node_id: CN of its certificate.
        cluster_id: O of its certificate.
        certificate_pem: the certificate chain, for the record in the node object.
    """

    node_id: str
    cluster_id: str
    certificate_pem: bytes


def default_cluster(cluster_id: str, root_ca: api.RootCA, unlock_key: bytes = b"") -> api.Cluster:
    """Return the cluster object of a new swarm.

    It has no acceptance policy: nodes without a token are then admitted by where they come from
    (docs/architecture.md, Admission). With an unlock key, which the founder's key file is encrypted under
    already, it locks its managers.
    """
    spec = api.ClusterSpec(
        annotations=api.Annotations(name=CLUSTER_NAME),
        orchestration=api.OrchestrationConfig(task_history_retention_limit=TASK_HISTORY_LIMIT),
        raft=api.RaftConfig(
            snapshot_interval=SNAPSHOT_INTERVAL_ENTRIES,
            log_entries_for_slow_followers=LOG_ENTRIES_FOR_SLOW_FOLLOWERS,
        ),
        dispatcher=api.DispatcherConfig(heartbeat_period=Duration(seconds=HEARTBEAT_PERIOD_SECONDS)),
        ca_config=api.CAConfig(node_cert_expiry=Duration(seconds=NODE_CERT_EXPIRY_SECONDS)),
    )
    cluster = api.Cluster(id=cluster_id, spec=spec, root_ca=root_ca)
    if unlock_key:
        cluster.spec.encryption_config.auto_lock_managers = True
        set_unlock_key(cluster, unlock_key)
    return cluster


def own_node(own: OwnNode) -> api.Node:
    """Return the node object of the manager that founds the swarm.

    PARITY: the original creates it as a worker and corrects that a moment later; here its role is right from
    the start (contract/security.md, 8).
    """
    return api.Node(
        id=own.node_id,
        role=api.NodeRole.MANAGER,
        spec=api.NodeSpec(desired_role=api.NodeRole.MANAGER, membership=api.NodeSpec.ACCEPTED),
        certificate=api.Certificate(
            role=api.NodeRole.MANAGER,
            cn=own.node_id,
            certificate=own.certificate_pem,
            status=api.IssuanceStatus(state=api.IssuanceStatus.ISSUED),
        ),
    )


def seed(tx: Tx, own: OwnNode, make_root_ca: Callable[[], api.RootCA], unlock_key: bytes = b"") -> None:
    """Found the swarm: with the cluster object goes the node of the manager that founds it.

    PARITY: the original creates the node of each leader that has none. One that an operator has removed would
    come back that way, should it lead once more before it hears of it.
    """
    if not tx.find(api.Cluster, by.name(CLUSTER_NAME)):
        tx.create(default_cluster(own.cluster_id, make_root_ca(), unlock_key))
        if tx.get(api.Node, own.node_id) is None:
            tx.create(own_node(own))
