from swarmkit.api import messages as api
from swarmkit.manager.seed import CLUSTER_NAME, OwnNode, seed
from swarmkit.store import Store, Tx
from tests.fakes.loop import VirtualClock

OWN = OwnNode(node_id="n" * 25, cluster_id="c" * 25, certificate_pem=b"PEM")


def root_ca() -> api.RootCA:
    return api.RootCA(ca_cert=b"ROOT", join_tokens=api.JoinTokens(worker="w", manager="m"))


def fail() -> api.RootCA:
    raise AssertionError("a root is made only for a new swarm")


async def test_a_fresh_swarm_contains_its_cluster_and_its_first_manager(clock: VirtualClock) -> None:
    store = Store(clock)
    await store.update(lambda tx: seed(tx, OWN, root_ca))
    (cluster,) = store.view().find(api.Cluster)
    assert (cluster.id, cluster.spec.annotations.name) == (OWN.cluster_id, CLUSTER_NAME)
    assert cluster.spec.orchestration.task_history_retention_limit == 5
    assert cluster.spec.dispatcher.heartbeat_period.seconds == 5
    assert cluster.spec.raft.snapshot_interval == 10_000
    assert cluster.spec.raft.log_entries_for_slow_followers == 500
    assert cluster.spec.ca_config.node_cert_expiry.seconds == 2160 * 3600
    assert cluster.root_ca == root_ca()
    (node,) = store.view().find(api.Node)
    assert node.id == OWN.node_id
    assert node.role == node.spec.desired_role == node.certificate.role == api.NodeRole.MANAGER
    assert node.spec.membership == api.NodeSpec.ACCEPTED
    assert node.certificate.status.state == api.IssuanceStatus.ISSUED


async def test_a_swarm_that_is_founded_locked_starts_with_the_key_of_its_founders_file(
    clock: VirtualClock,
) -> None:
    store = Store(clock)
    await store.update(lambda tx: seed(tx, OWN, root_ca, b"k" * 32))
    (cluster,) = store.view().find(api.Cluster)
    assert cluster.spec.encryption_config.auto_lock_managers
    assert [(entry.subsystem, entry.key) for entry in cluster.unlock_keys] == [("swarm-manager", b"k" * 32)]


async def test_a_later_gain_of_leadership_seeds_nothing(clock: VirtualClock) -> None:
    store = Store(clock)
    await store.update(lambda tx: seed(tx, OWN, root_ca))
    before = store.version
    await store.update(lambda tx: seed(tx, OWN, fail))
    assert store.version == before


async def test_what_an_operator_changed_stays(clock: VirtualClock) -> None:
    store = Store(clock)
    await store.update(lambda tx: seed(tx, OWN, root_ca))

    def change(tx: Tx) -> None:
        cluster = api.Cluster()
        cluster.CopyFrom(tx.find(api.Cluster)[0])
        cluster.spec.orchestration.task_history_retention_limit = 1
        tx.update(cluster)

    await store.update(change)
    await store.update(lambda tx: seed(tx, OWN, fail))
    assert store.view().find(api.Cluster)[0].spec.orchestration.task_history_retention_limit == 1
