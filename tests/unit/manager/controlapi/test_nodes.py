"""The RPCs of nodes (contract/control-api.md, 2)."""

import datetime
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from swarmkit.api import messages as api
from swarmkit.api.naming import IMPLEMENTATION_LABEL
from swarmkit.clock import timestamp
from swarmkit.manager.controlapi import ControlService
from swarmkit.store import Store
from tests.fakes.loop import EPOCH, VirtualClock
from tests.fakes.proposer import FakeProposer
from tests.unit.manager.controlapi.conftest import Control

Code = grpc.StatusCode
MANAGER, WORKER = api.NodeRole.MANAGER, api.NodeRole.WORKER
ACCEPTED = api.NodeSpec.ACCEPTED


def node(id: str, **fields: Any) -> api.Node:
    made = api.Node(id=id, **fields)
    made.description.hostname = f"host-{id}"
    return made


def manager(id: str) -> api.Node:
    return node(id, role=MANAGER, spec=api.NodeSpec(desired_role=MANAGER))


def update_of(stored: api.Node, **spec: Any) -> api.UpdateNodeRequest:
    return api.UpdateNodeRequest(
        node_id=stored.id, node_version=stored.meta.version, spec=api.NodeSpec(**spec)
    )


async def test_get_shows_the_member_of_this_moment_and_stores_it_not(control: Control) -> None:
    stale = manager("n1")
    stale.manager_status.raft_id = 99
    await control.put(stale)
    request = api.GetNodeRequest(node_id="n1")
    assert not (await control.call("GetNode", request)).node.HasField("manager_status")
    control.member("n1", leader=True)
    shown = (await control.call("GetNode", request)).node
    assert shown.manager_status == api.ManagerStatus(
        raft_id=1, addr="n1:4242", leader=True, reachability=api.RaftMemberStatus.REACHABLE
    )
    stored = control.store.view().get(api.Node, "n1")
    assert stored is not None
    assert stored.manager_status.raft_id == 99


async def test_get_needs_an_id_that_exists(control: Control) -> None:
    await control.refused("GetNode", api.GetNodeRequest(), Code.INVALID_ARGUMENT, "invalid argument")
    await control.refused("GetNode", api.GetNodeRequest(node_id="x"), Code.NOT_FOUND, "node x not found")


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, ["n1", "n2", "n3"]),
        ({"names": ["host-n1"]}, ["n1"]),
        ({"names": ["HOST-N1"]}, []),
        ({"names": [""]}, []),
        ({"name_prefixes": ["host"]}, ["n1", "n2"]),
        ({"name_prefixes": [""]}, ["n1", "n2"]),
        ({"id_prefixes": ["n3", "n1"]}, ["n1", "n3"]),
        ({"labels": {"engine": ""}}, ["n1"]),
        ({"node_labels": {"rack": "a"}}, ["n2"]),
        ({"memberships": [api.NodeSpec.ACCEPTED]}, ["n2"]),
        ({"roles": [MANAGER]}, ["n2"]),
        ({"roles": [WORKER], "memberships": [api.NodeSpec.PENDING]}, ["n1", "n3"]),
    ],
)
async def test_list_filters(control: Control, wanted: dict[str, Any], expected: list[str]) -> None:
    one = node("n1", spec=api.NodeSpec(desired_role=MANAGER))
    one.description.engine.labels["engine"] = "x"
    two = node("n2", role=MANAGER, spec=api.NodeSpec(membership=api.NodeSpec.ACCEPTED))
    two.spec.annotations.labels["rack"] = "a"
    for made in (api.Node(id="n3"), two, one):
        await control.put(made)
    control.member("n2")
    request = api.ListNodesRequest(filters=api.ListNodesRequest.Filters(**wanted))
    response = await control.call("ListNodes", request)
    assert [each.id for each in response.nodes] == expected
    assert [each.id for each in response.nodes if each.HasField("manager_status")] == [
        id for id in expected if id == "n2"
    ]


async def test_update_replaces_the_whole_spec(control: Control) -> None:
    before = node("n1", spec=api.NodeSpec(membership=api.NodeSpec.ACCEPTED))
    before.spec.annotations.labels["a"] = "b"
    stored = await control.put(before)
    response = await control.call("UpdateNode", update_of(stored, availability=api.NodeSpec.DRAIN))
    assert response.node.spec == api.NodeSpec(availability=api.NodeSpec.DRAIN)
    assert response.node.meta.version.index > stored.meta.version.index
    await control.refused("UpdateNode", update_of(stored), Code.ABORTED, "update out of sequence")


async def test_an_update_needs_id_version_spec_and_an_existing_node(control: Control) -> None:
    version, spec = api.Version(index=1), api.NodeSpec()
    for request in (
        api.UpdateNodeRequest(node_version=version, spec=spec),
        api.UpdateNodeRequest(node_id="x", spec=spec),
        api.UpdateNodeRequest(node_id="x", node_version=version),
    ):
        await control.refused("UpdateNode", request, Code.INVALID_ARGUMENT, "invalid argument")
    request = api.UpdateNodeRequest(node_id="x", node_version=version, spec=spec)
    await control.refused("UpdateNode", request, Code.NOT_FOUND, "node x not found")


async def test_the_last_manager_stays_one(control: Control) -> None:
    stored = await control.put(manager("n1"))
    await control.put(node("n2", spec=api.NodeSpec(desired_role=MANAGER)))
    control.member("n1")
    request = update_of(stored, desired_role=WORKER)
    text = "attempting to demote the last manager of the swarm"
    await control.refused("UpdateNode", request, Code.FAILED_PRECONDITION, text)


async def test_managers_are_not_demoted_one_after_the_other_until_none_is_left(control: Control) -> None:
    first, second = await control.put(manager("n1")), await control.put(manager("n2"))
    await control.put(manager("n3"))  # has not joined the group yet
    control.member("n1")
    control.member("n2")
    await control.call("UpdateNode", update_of(first, desired_role=WORKER))
    text = "attempting to demote the last manager of the swarm"
    request = update_of(second, desired_role=WORKER)
    await control.refused("UpdateNode", request, Code.FAILED_PRECONDITION, text)


def own_worker(id: str) -> api.Node:
    made = node(id, spec=api.NodeSpec(membership=ACCEPTED))
    made.description.engine.labels[IMPLEMENTATION_LABEL] = "0.1.0"
    return made


async def test_promotion_changes_the_wish_and_any_number_of_managers_will_do(control: Control) -> None:
    for number in range(9):
        stored = await control.put(own_worker(f"n{number}"))
        response = await control.call(
            "UpdateNode", update_of(stored, desired_role=MANAGER, membership=ACCEPTED)
        )
        assert (response.node.spec.desired_role, response.node.role) == (MANAGER, WORKER)


async def test_only_nodes_of_this_project_are_promoted(control: Control) -> None:
    foreign = own_worker("n1")
    del foreign.description.engine.labels[IMPLEMENTATION_LABEL]
    unknown = own_worker("n2")
    unknown.ClearField("description")
    for made, text in (
        (foreign, "only nodes of this project can be managers"),
        (unknown, "node n2 has not described itself yet"),
    ):
        stored = await control.put(made)
        request = update_of(stored, desired_role=MANAGER, membership=ACCEPTED)
        await control.refused("UpdateNode", request, Code.FAILED_PRECONDITION, text)
        await control.call(
            "UpdateNode", update_of(stored, membership=ACCEPTED, availability=api.NodeSpec.DRAIN)
        )


async def test_a_node_that_was_not_accepted_is_not_promoted(control: Control) -> None:
    stored = await control.put(own_worker("n1"))
    text = "node n1 has not been accepted into the swarm"
    request = update_of(stored, desired_role=MANAGER)
    await control.refused("UpdateNode", request, Code.FAILED_PRECONDITION, text)


async def test_a_foreign_manager_may_still_be_changed_otherwise(control: Control) -> None:
    stored = await control.put(manager("n1"))
    await control.call("UpdateNode", update_of(stored, desired_role=MANAGER, availability=api.NodeSpec.DRAIN))


async def test_demotion_needs_a_member_and_a_quorum_without_it(control: Control) -> None:
    stored = await control.put(manager("n1"))
    await control.put(manager("n2"))
    await control.put(manager("n3"))
    request = update_of(stored, desired_role=WORKER)
    await control.refused("UpdateNode", request, Code.NOT_FOUND, "can't find manager in raft memberlist")
    control.member("n1")
    control.member("n2")
    control.member("n3", reachable=False)
    text = "can't remove member from the raft: this would result in a loss of quorum"
    await control.refused("UpdateNode", request, Code.FAILED_PRECONDITION, text)
    control.members[2].status.reachability = api.RaftMemberStatus.REACHABLE
    response = await control.call("UpdateNode", request)
    assert response.node.spec.desired_role == WORKER
    assert response.node.role == MANAGER


async def test_accepting_a_node_that_was_turned_away_reopens_its_request(control: Control) -> None:
    rejected = node("n1")
    rejected.certificate.csr = b"csr"
    rejected.certificate.status.state = api.IssuanceStatus.FAILED
    rejected.certificate.status.err = "turned away"
    stored = await control.put(rejected)
    stored = (await control.call("UpdateNode", update_of(stored))).node
    assert stored.certificate.status.state == api.IssuanceStatus.FAILED
    response = await control.call("UpdateNode", update_of(stored, membership=api.NodeSpec.ACCEPTED))
    assert response.node.certificate == api.Certificate(
        csr=b"csr", status=api.IssuanceStatus(state=api.IssuanceStatus.PENDING)
    )


def certificate(end: datetime.datetime) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "n1")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, EPOCH, end)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def cluster() -> api.Cluster:
    made = api.Cluster(id="c", spec=api.ClusterSpec(annotations=api.Annotations(name="default")))
    made.blacklisted_certificates["old"].expiry.CopyFrom(timestamp(EPOCH - datetime.timedelta(days=8)))
    made.blacklisted_certificates["recent"].expiry.CopyFrom(timestamp(EPOCH - datetime.timedelta(days=6)))
    made.blacklisted_certificates["endless"].SetInParent()
    return made


async def test_removal_blacklists_orphans_and_deletes_in_one_transaction(control: Control) -> None:
    end = EPOCH + datetime.timedelta(days=3)
    gone = node("n1")
    gone.certificate.certificate = certificate(end)
    await control.put(cluster())
    await control.put(gone)
    await control.put(node("n2"))
    for id, node_id, state in (
        ("live", "n1", api.TaskState.RUNNING),
        ("done", "n1", api.TaskState.COMPLETE),
        ("other", "n2", api.TaskState.RUNNING),
    ):
        task = api.Task(id=id, node_id=node_id)
        task.status.state = state
        await control.put(task)
    with control.store.watch() as watcher:
        await control.call("RemoveNode", api.RemoveNodeRequest(node_id="n1"))
        assert len(watcher) == 1
    reader = control.store.view()
    assert [each.id for each in reader.find(api.Node)] == ["n2"]
    states = {task.id: task.status.state for task in reader.find(api.Task)}
    assert states == {
        "live": api.TaskState.ORPHANED,
        "done": api.TaskState.COMPLETE,
        "other": api.TaskState.RUNNING,
    }
    live = reader.get(api.Task, "live")
    assert live is not None
    assert "node that has been deleted" in live.status.message
    listed = reader.find(api.Cluster)[0].blacklisted_certificates
    assert sorted(listed) == ["endless", "n1", "recent"]
    assert listed["n1"].expiry == timestamp(end)


async def test_without_a_readable_certificate_the_entry_lasts_as_long_as_one_could(control: Control) -> None:
    await control.put(cluster())
    await control.put(node("n1"))
    await control.call("RemoveNode", api.RemoveNodeRequest(node_id="n1"))
    stored = control.store.view().find(api.Cluster)[0]
    expiry = stored.blacklisted_certificates["n1"].expiry
    assert expiry == timestamp(EPOCH + datetime.timedelta(hours=2160))
    huge = api.Cluster()
    huge.CopyFrom(stored)
    huge.spec.ca_config.node_cert_expiry.seconds = 10**12
    await control.put(huge)
    await control.put(node("n2"))
    await control.call("RemoveNode", api.RemoveNodeRequest(node_id="n2"))
    assert control.store.view().count(api.Node) == 0


@pytest.mark.parametrize("state", [api.NodeStatus.UNKNOWN, api.NodeStatus.DOWN, api.NodeStatus.DISCONNECTED])
async def test_nodes_that_are_not_ready_need_no_force(control: Control, state: Any) -> None:
    await control.put(node("n1", status=api.NodeStatus(state=state)))
    await control.call("RemoveNode", api.RemoveNodeRequest(node_id="n1"))
    assert control.store.view().count(api.Node) == 0


async def test_a_ready_node_needs_force(control: Control) -> None:
    await control.put(node("n1", status=api.NodeStatus(state=api.NodeStatus.READY)))
    request = api.RemoveNodeRequest(node_id="n1")
    text = "node n1 is not down and can't be removed"
    await control.refused("RemoveNode", request, Code.FAILED_PRECONDITION, text)
    await control.call("RemoveNode", api.RemoveNodeRequest(node_id="n1", force=True))
    assert control.store.view().count(api.Node) == 0


async def test_a_manager_in_the_raft_group_is_never_removed(control: Control) -> None:
    await control.put(manager("n1"))
    control.member("n1")
    for force in (False, True):
        request = api.RemoveNodeRequest(node_id="n1", force=force)
        text = "must be demoted to worker before removal"
        await control.refused("RemoveNode", request, Code.FAILED_PRECONDITION, text)
    control.members.clear()
    await control.call("RemoveNode", api.RemoveNodeRequest(node_id="n1"))


async def test_a_dead_manager_that_was_demoted_is_removed_like_any_node(control: Control) -> None:
    await control.put(cluster())
    stored = manager("n1")
    stored.status.state = api.NodeStatus.DOWN
    stored.certificate.certificate = certificate(EPOCH + datetime.timedelta(days=3))
    stored = await control.put(stored)
    await control.put(manager("n2"))
    await control.put(manager("n3"))
    for id in ("n1", "n2", "n3"):
        control.member(id, reachable=id != "n1")
    await control.call("UpdateNode", update_of(stored, desired_role=WORKER))
    del control.members[0]  # the role manager's work
    await control.call("RemoveNode", api.RemoveNodeRequest(node_id="n1"))
    reader = control.store.view()
    assert [each.id for each in reader.find(api.Node)] == ["n2", "n3"]
    assert "n1" in reader.find(api.Cluster)[0].blacklisted_certificates


async def test_removal_needs_an_id_that_exists(control: Control) -> None:
    await control.refused("RemoveNode", api.RemoveNodeRequest(), Code.INVALID_ARGUMENT, "invalid argument")
    await control.refused(
        "RemoveNode", api.RemoveNodeRequest(node_id="x"), Code.NOT_FOUND, "node x not found"
    )


async def test_a_node_with_more_tasks_than_one_entry_takes_can_be_removed() -> None:
    store = Store(VirtualClock())
    store.attach(FakeProposer(store))
    service = ControlService(store, VirtualClock(), list)
    await store.update(lambda tx: tx.create(node("n1")))
    async with store.batch() as batch:
        for number in range(200):
            task = api.Task(id=f"t{number}", node_id="n1")
            task.spec.container.args.append("x" * 10_000)
            batch.update(lambda tx, task=task: tx.create(task))  # type: ignore[misc]
    await service.RemoveNode(api.RemoveNodeRequest(node_id="n1"), None)
    states = {task.status.state for task in store.view().find(api.Task)}
    assert states == {api.TaskState.ORPHANED}
    assert store.view().count(api.Node) == 0
