"""A manager's state directory with a log of every kind of record and a snapshot, made by the real writers."""

from pathlib import Path

from swarmkit.api import messages as api
from swarmkit.ca.keyfile import Kek, KeyFile, KeyHeaders
from swarmkit.raft import RecordCipher
from swarmkit.raft.entries import NO_OP, membership_command, store_command
from swarmkit.raft.files import OsFiles
from swarmkit.raft.log_pb2 import MembershipChange
from swarmkit.raft.records import Entry, Record, Term, Truncate
from swarmkit.raft.replica import Replica
from swarmkit.raft.snapshots import Image, SnapshotStore
from swarmkit.raft.storage import SNAPSHOT_FOLDER, found_storage
from swarmkit.raft.wal import Identity
from swarmkit.store.store import Store
from tests.fakes.loop import VirtualClock
from tests.fakes.pki import FakeAuthority

DATA_KEY = bytes(range(32))
OWN = Identity(0xA1, "node-1")
SEGMENT_BYTES = 600

#: Entry 15 is the last that is known to be committed, 16 is there as well; the snapshot covers 8.
COMMITTED, LAST, COVERED = 15, 16, 8

#: All that must never be shown unasked. Also the base64 form of those that are bytes is looked for.
SECRETS = (
    b"the CA key",
    b"SWMTKN-worker",
    b"SWMTKN-manager",
    b"the unlock key",
    b"the gossip key",
    b"the content of a secret",
    b"the content of a config",
    b"PASSWORD=in the environment",
    b"registry credentials",
    b"a token of the log driver",
)


def _member(raft_id: int, number: int, port: int = 4242) -> api.RaftMember:
    return api.RaftMember(raft_id=raft_id, node_id=f"node-{number}", addr=f"10.0.0.{number}:{port}")


def _change(kind: "MembershipChange.Kind.ValueType", member: api.RaftMember) -> bytes:
    return membership_command(MembershipChange(kind=kind, member=member))


def _store(number: int, *actions: api.StoreAction) -> bytes:
    return store_command(api.InternalRaftRequest(id=number, action=actions).SerializeToString())


def _cluster() -> api.Cluster:
    cluster = api.Cluster(id="cluster-1")
    cluster.spec.annotations.name = "default"
    cluster.root_ca.ca_cert = b"the CA certificate"
    cluster.root_ca.ca_key = b"the CA key"
    cluster.root_ca.join_tokens.worker = "SWMTKN-worker"
    cluster.root_ca.join_tokens.manager = "SWMTKN-manager"
    cluster.unlock_keys.add(subsystem="swarm-manager", key=b"the unlock key")
    cluster.network_bootstrap_keys.add(subsystem="networking:gossip", key=b"the gossip key")
    return cluster


def service(image: str) -> api.Service:
    found = api.Service(id="service-1")
    found.spec.annotations.name = "Web"
    container = found.spec.task.container
    container.image = image
    container.env.append("PASSWORD=in the environment")
    container.pull_options.registry_auth = "registry credentials"
    found.spec.task.log_driver.name = "splunk"
    found.spec.task.log_driver.options["splunk-token"] = "a token of the log driver"
    return found


def _named(kind: type, id: str, **spec: object) -> object:
    found = kind(id=id)
    found.spec.annotations.name = id
    for name, value in spec.items():
        setattr(found.spec, name, value)
    return found


CREATE, UPDATE, REMOVE = api.STORE_ACTION_CREATE, api.STORE_ACTION_UPDATE, api.STORE_ACTION_REMOVE


def batches() -> list[tuple[list[Record], int]]:
    """Return what follows the founding: (records, commit index) of each sync."""
    secret = _named(api.Secret, "secret-1", data=b"the content of a secret")
    config = _named(api.Config, "config-1", data=b"the content of a config")
    node = api.Node(id="node-1")
    node.description.hostname = "alpha"
    resource = api.Resource(id="resource-1", kind="things")
    resource.payload.type_url = "type.example/unknown"
    resource.payload.value = b"\x01\x02"
    task = api.Task(id="task-1", service_id="service-1", slot=1, spec=service("nginx:2").spec.task)
    act = api.StoreAction
    first = _store(1, act(action=CREATE, cluster=_cluster()), act(action=CREATE, node=node))
    second = _store(
        2,
        act(action=CREATE, secret=secret),  # type: ignore[arg-type]
        act(action=CREATE, config=config),  # type: ignore[arg-type]
        act(action=CREATE, service=service("nginx:1")),
    )
    gone = _store(5, act(action=REMOVE, secret=secret))  # type: ignore[arg-type]
    return [
        ([Term(1, "a1"), Entry(NO_OP, 3, 1)], 2),
        ([Entry(first, 4, 1), Entry(second, 5, 1)], 3),
        ([Entry(_change(MembershipChange.ADD, _member(0xB2, 2)), 6, 1)], 5),
        ([Entry(_change(MembershipChange.ADD, _member(0xC3, 3)), 7, 1)], 6),
        ([Entry(_change(MembershipChange.UPDATE, _member(0xC3, 3, 4343)), 8, 1)], 7),
        ([Entry(_store(3, act(action=UPDATE, service=service("nginx:2"))), 9, 1)], 8),
        ([Entry(_store(4, act(action=CREATE, resource=resource)), 10, 1)], 9),
        ([Entry(_store(9, act(action=REMOVE, node=node)), 11, 1)], 10),
        ([Term(2, "b2"), Truncate(11), Entry(NO_OP, 11, 2), Entry(gone, 12, 2)], 10),
        ([Entry(_change(MembershipChange.REMOVE, _member(0xB2, 2)), 13, 2)], 12),
        ([Entry(_store(6, act(action=CREATE, task=task)), 14, 2)], 13),
        ([Entry(_change(MembershipChange.RESET, _member(0xA1, 1, 4444)), 15, 2)], COMMITTED),
        ([Entry(_store(7, act(action=REMOVE, task=task)), 16, 2)], COMMITTED),
    ]


def write_directory(
    path: Path,
    *,
    node_id: str = OWN.node_id,
    data_key: bytes = DATA_KEY,
    unlock_key: bytes = b"",
    pending_key: bytes | None = None,
) -> None:
    """Make the state directory ``path``, its key file locked under ``unlock_key`` if one is given."""
    certificates = path / "certificates"
    certificates.mkdir(parents=True)
    credentials = FakeAuthority().issue(node_id)
    key_file = KeyFile(certificates)
    key_file.write(credentials.cert_pem, credentials.key_pem, Kek(unlock_key, 3))
    key_file.update_headers(lambda _: KeyHeaders(data_key, pending_key))
    cipher = RecordCipher(data_key)
    storage = found_storage(OsFiles(), path, cipher, OWN, "10.0.0.1:4242", SEGMENT_BYTES)
    replica = Replica(Store(VirtualClock()))
    entries = {entry.index: entry for entry in storage.state.entries}
    for records, commit in batches():
        storage.wal.append(records, commit)
        entries.update({record.index: record for record in records if isinstance(record, Entry)})
    storage.wal.close()
    for index in range(1, COVERED + 1):
        replica.apply(index, entries[index].data)
    image = Image(entries[COVERED - 1], entries[COVERED], replica.pin()())
    SnapshotStore(OsFiles(), path / SNAPSHOT_FOLDER, cipher).save(image, OWN)
