"""contract/security.md, 15 and tests 18, 22, 53, 80 to 82; contract/dispatcher-agent.md, 2."""

from pathlib import Path

import grpc
import pytest

from swarmkit.net.authorization import ANYONE, STREAM, TABLE, Peer, authorize
from swarmkit.net.caller import MANAGER_ROLE, WORKER_ROLE, Caller
from swarmkit.net.errors import RpcError

WIRE = Path(__file__).parents[2] / "contract" / "wire.tsv"
CLUSTER = "cluster-1"
OPEN = "/docker.swarmkit.v1.NodeCA/IssueNodeCertificate"
NODES = "/docker.swarmkit.v1.Dispatcher/Heartbeat"
MANAGERS = "/docker.swarmkit.v1.Control/ListNodes"

MANAGER = Peer("m1", frozenset({MANAGER_ROLE}), CLUSTER, "10.0.0.1:1")
WORKER = Peer("w1", frozenset({WORKER_ROLE}), CLUSTER, "10.0.0.2:2")
STRANGER = Peer(remote_addr="10.0.0.3:3")
FOREIGNER = Peer("m9", frozenset({MANAGER_ROLE}), "cluster-2", "10.0.0.4:4")
DIRECT_TEXT = "Permission denied: unauthorized peer role: rpc error: code = PermissionDenied desc = "
FORWARDER_TEXT = "Permission denied: unauthorized forwarder role: rpc error: code = PermissionDenied desc = "
NO_CERTIFICATE = "no client certificates in request"

Metadata = tuple[tuple[str, str], ...]


def wire_table() -> dict[str, frozenset[str]]:
    """The WHO column of the wire contract."""
    table, service = {}, ""
    for line in WIRE.read_text().splitlines():
        kind, *columns = line.split("\t")
        if kind == "service":
            service = columns[0]
        elif kind == "rpc":
            who = frozenset(columns[3].split(","))
            table[f"/{service}/{columns[0]}"] = ANYONE if who == {"insecure"} else who
    return table


#: What is this project's own: a service (protos/swarmkit/raft/service.proto), and the stream beside it.
OWN = {
    name: frozenset({MANAGER_ROLE})
    for name in ("/swarmkit.raft.v1.Raft/Join", "/swarmkit.raft.v1.Raft/Leave", STREAM)
}


def forwarded(cn: str = "w1", org: str = CLUSTER, *ous: str, addr: str = "192.0.2.7:77") -> Metadata:
    head = (("forwarded_cert", "true"), ("forwarded_cert_cn", cn), ("forwarded_cert_org", org))
    return (*head, *(("forwarded_cert_ou", ou) for ou in ous), ("remote_addr", addr))


def ask(method: str, peer: Peer, metadata: Metadata = (), removed: tuple[str, ...] = ()) -> Caller:
    return authorize(method, peer, metadata, CLUSTER, lambda node_id: node_id in removed)


def refusal(method: str, peer: Peer, metadata: Metadata = (), removed: tuple[str, ...] = ()) -> str:
    with pytest.raises(RpcError) as caught:
        ask(method, peer, metadata, removed)
    assert caught.value.code is grpc.StatusCode.PERMISSION_DENIED
    return caught.value.text


def test_the_table_is_the_who_column_of_the_wire_contract_and_our_own_service_no_more_and_no_less() -> None:
    assert len(wire_table()) > 60
    assert dict(TABLE) == wire_table() | OWN


@pytest.mark.parametrize("method", sorted(TABLE))
@pytest.mark.parametrize(
    "peer", [MANAGER, WORKER, STRANGER, FOREIGNER], ids=["manager", "worker", "none", "foreign"]
)
def test_each_rpc_answers_or_refuses_each_kind_of_caller_as_the_contract_says(
    method: str, peer: Peer
) -> None:
    roles = (wire_table() | OWN)[method]
    if not roles or (peer.organization == CLUSTER and peer.roles & roles):
        assert ask(method, peer).remote_addr == peer.remote_addr
    else:
        assert refusal(method, peer).startswith(DIRECT_TEXT)


def test_a_method_without_an_entry_is_refused_to_everybody() -> None:
    for peer in (MANAGER, Peer("m1", local=True)):
        assert "not in the authorisation table" in refusal("/docker.swarmkit.v1.Control/Explode", peer)


def test_a_call_without_certificate_gets_the_text_that_peers_know() -> None:
    assert refusal(NODES, STRANGER) == DIRECT_TEXT + NO_CERTIFICATE


def test_a_worker_at_a_manager_only_call_learns_which_role_is_expected() -> None:
    expected = DIRECT_TEXT + "Permission denied: unauthorized role, expecting: swarm-manager"
    assert refusal(MANAGERS, WORKER) == expected


def test_any_of_several_roles_in_a_certificate_suffices() -> None:
    both = Peer("m1", frozenset({"something", MANAGER_ROLE}), CLUSTER)
    assert ask(MANAGERS, both).node_id == "m1"


def test_a_certificate_of_another_cluster_is_refused_and_named_as_such() -> None:
    assert refusal(MANAGERS, FOREIGNER).endswith(f"organization mismatch, expecting: {CLUSTER}")


def test_a_removed_node_is_told_so() -> None:
    assert refusal(NODES, WORKER, removed=("w1",)).endswith(
        "Permission denied: node w1 was removed from swarm"
    )


def test_a_call_over_the_control_socket_is_the_managers_own_and_unchecked() -> None:
    own = Peer("m1", frozenset({MANAGER_ROLE}), CLUSTER, "10.0.0.1:4242", local=True)
    caller = ask(MANAGERS, own, forwarded("w1", CLUSTER, WORKER_ROLE), removed=("m1",))
    assert caller == Caller("m1", frozenset({MANAGER_ROLE}), CLUSTER, "10.0.0.1:4242", local=True)


@pytest.mark.parametrize(
    ("peer", "removed", "node_id"),
    [
        (MANAGER, (), "m1"),
        (WORKER, (), "w1"),
        (STRANGER, (), ""),
        (FOREIGNER, (), ""),
        (WORKER, ("w1",), ""),
        (Peer("x", frozenset({"swarm-ca"}), CLUSTER), (), ""),
    ],
)
def test_an_open_call_carries_an_identity_only_if_it_is_a_node_of_this_swarm(
    peer: Peer, removed: tuple[str, ...], node_id: str
) -> None:
    caller = ask(OPEN, peer, removed=removed)
    assert caller.node_id == node_id
    assert caller.anonymous is (not node_id)
    assert caller.remote_addr == peer.remote_addr


def test_a_manager_may_act_for_the_caller_it_forwards() -> None:
    caller = ask(NODES, MANAGER, forwarded("w1", CLUSTER, "other", WORKER_ROLE))
    roles = frozenset({"other", WORKER_ROLE})
    assert caller == Caller("w1", roles, CLUSTER, "192.0.2.7:77", forwarded_by="m1")


@pytest.mark.parametrize("method", [OPEN, NODES, MANAGERS])
def test_a_worker_that_claims_to_forward_a_manager_is_refused_even_on_open_calls(method: str) -> None:
    text = refusal(method, WORKER, forwarded("m1", CLUSTER, MANAGER_ROLE))
    assert text == FORWARDER_TEXT + "Permission denied: unauthorized role, expecting: swarm-manager"


def test_nobody_forwards_without_a_certificate() -> None:
    assert refusal(NODES, STRANGER, forwarded("w1", CLUSTER, WORKER_ROLE)) == FORWARDER_TEXT + NO_CERTIFICATE


@pytest.mark.parametrize("removed", ["m1", "w1"])
def test_neither_a_removed_forwarder_nor_a_removed_caller_gets_through(removed: str) -> None:
    text = refusal(NODES, MANAGER, forwarded("w1", CLUSTER, WORKER_ROLE), removed=(removed,))
    assert text.endswith(f"node {removed} was removed from swarm")


@pytest.mark.parametrize(
    "metadata",
    [
        forwarded("", "", addr="192.0.2.7:77"),
        forwarded("w1", "", WORKER_ROLE),
        forwarded("w1", CLUSTER),
        forwarded("w1", CLUSTER, ""),
        (*forwarded("w1", CLUSTER, WORKER_ROLE), ("forwarded_cert_cn", "w2")),
    ],
)
def test_a_forwarded_call_without_a_whole_identity_is_refused_or_anonymous(metadata: Metadata) -> None:
    assert refusal(NODES, MANAGER, metadata) == "Permission denied: missing information in forwarded request"
    caller = ask(OPEN, MANAGER, metadata)
    assert caller == Caller(remote_addr="192.0.2.7:77", forwarded_by="m1")


def test_a_forwarded_identity_must_have_the_role_and_the_cluster() -> None:
    text = refusal(MANAGERS, MANAGER, forwarded("w1", CLUSTER, WORKER_ROLE))
    assert text == "Permission denied: unauthorized forwarded role, expecting: swarm-manager"
    text = refusal(NODES, MANAGER, forwarded("w1", "cluster-2", WORKER_ROLE))
    assert text == f"Permission denied: organization mismatch, expecting: {CLUSTER}"


@pytest.mark.parametrize(
    "metadata",
    [
        (("forwarded_cert", "false"), *forwarded("m1", CLUSTER, MANAGER_ROLE)[1:]),
        (("forwarded_cert", "true"), *forwarded("m1", CLUSTER, MANAGER_ROLE)),
        forwarded("m1", CLUSTER, MANAGER_ROLE)[1:],
    ],
)
def test_forwarded_identities_count_only_with_exactly_one_mark(metadata: Metadata) -> None:
    assert ask(NODES, WORKER, metadata).node_id == "w1"
    assert refusal(MANAGERS, WORKER, metadata).startswith(DIRECT_TEXT)


def test_metadata_that_is_not_text_does_no_harm() -> None:
    metadata = (("forwarded_cert", "true"), ("forwarded_cert_cn", b"\xff"), ("trace-bin", b"\x00\xff"))
    with pytest.raises(RpcError, match="missing information"):
        authorize(NODES, MANAGER, metadata, CLUSTER, lambda _: False)
