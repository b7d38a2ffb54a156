"""The RPCs of clusters (contract/control-api.md, 6)."""

import datetime
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from swarmkit.api import messages as api
from swarmkit.clock import timestamp
from tests.fakes.loop import EPOCH
from tests.unit.manager.controlapi.conftest import Control

Code = grpc.StatusCode
Edit = Callable[[Any], object]


def cluster() -> api.Cluster:
    made = api.Cluster(id="c1", spec=api.ClusterSpec(annotations=api.Annotations(name="default")))
    made.spec.annotations.labels["a"] = "b"
    made.root_ca.ca_cert = b"PEM"
    made.root_ca.ca_key = b"PRIVATE KEY"
    made.root_ca.join_tokens.worker = "worker-token"
    made.root_ca.join_tokens.manager = "manager-token"
    made.root_ca.root_rotation.ca_cert = b"next"
    made.root_ca.root_rotation.ca_key = b"PRIVATE KEY"
    made.spec.ca_config.signing_ca_cert = b"wanted"
    made.spec.ca_config.signing_ca_key = b"PRIVATE KEY"
    made.spec.acceptance_policy.policies.add(role=api.NodeRole.WORKER, autoaccept=True)
    made.spec.acceptance_policy.policies[0].secret.CopyFrom(
        api.AcceptancePolicy.RoleAdmissionPolicy.Secret(data=b"$2a$10$hash", alg="bcrypt")
    )
    made.spec.encryption_config.auto_lock_managers = True
    made.unlock_keys.add(subsystem="swarm-manager", key=b"UNLOCK")
    made.unlock_keys.add(subsystem="other", key=b"UNLOCK OTHERS")
    made.network_bootstrap_keys.add(subsystem="net", key=b"NETWORK")
    made.encryption_key_lamport_clock = 7
    made.fips = True
    made.blacklisted_certificates["gone"].SetInParent()
    return made


async def update(control: Control, edit: Edit | None = None, **fields: Any) -> api.Cluster:
    request = await update_request(control, edit, **fields)
    updated: api.Cluster = (await control.call("UpdateCluster", request)).cluster
    return updated


async def update_request(
    control: Control, edit: Edit | None = None, **fields: Any
) -> api.UpdateClusterRequest:
    """Read, modify, write back, as a client does."""
    shown = (await control.call("GetCluster", api.GetClusterRequest(cluster_id="c1"))).cluster
    if edit is not None:
        edit(shown.spec)
    return api.UpdateClusterRequest(
        cluster_id="c1", cluster_version=shown.meta.version, spec=shown.spec, **fields
    )


@pytest.fixture
async def stored(control: Control) -> api.Cluster:
    made: api.Cluster = await control.put(cluster())
    return made


async def test_no_answer_holds_a_secret_and_join_tokens_are_there(
    control: Control, stored: api.Cluster
) -> None:
    got = (await control.call("GetCluster", api.GetClusterRequest(cluster_id="c1"))).cluster
    listed = (await control.call("ListClusters", api.ListClustersRequest())).clusters[0]
    updated = await update(control)
    for shown in (got, listed, updated):
        data = shown.SerializeToString()
        for secret in (b"PRIVATE KEY", b"UNLOCK", b"NETWORK", b"$2a$10$hash"):
            assert secret not in data
        assert shown.root_ca.join_tokens == stored.root_ca.join_tokens
        assert shown.root_ca.root_rotation.ca_cert == b"next"
        assert shown.spec.ca_config == api.CAConfig()
        assert shown.spec.acceptance_policy.policies[0].secret.data == b"[REDACTED]"
        assert (shown.encryption_key_lamport_clock, shown.fips) == (0, False)
        assert "gone" in shown.blacklisted_certificates
        assert list(shown.defaultAddressPool) == ["10.0.0.0/8"]
        assert (shown.subnetSize, shown.VXLANUDPPort) == (24, 4789)


async def test_what_is_stored_is_shown_instead_of_fill_ins(control: Control) -> None:
    made = cluster()
    made.defaultAddressPool.append("172.30.0.0/16")
    made.subnetSize = 26
    made.VXLANUDPPort = 5000
    await control.put(made)
    shown = (await control.call("GetCluster", api.GetClusterRequest(cluster_id="c1"))).cluster
    assert (list(shown.defaultAddressPool), shown.subnetSize, shown.VXLANUDPPort) == (
        ["172.30.0.0/16"],
        26,
        5000,
    )


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, True),
        ({"names": ["default"]}, True),
        ({"names": ["DEFAULT"]}, False),
        ({"name_prefixes": ["def"]}, True),
        ({"id_prefixes": ["c2"]}, False),
        ({"labels": {"a": ""}}, True),
        ({"labels": {"a": "x"}}, False),
    ],
)
async def test_list_filters(
    control: Control, stored: api.Cluster, wanted: dict[str, Any], found: bool
) -> None:
    request = api.ListClustersRequest(filters=api.ListClustersRequest.Filters(**wanted))
    response = await control.call("ListClusters", request)
    assert [each.id for each in response.clusters] == ([stored.id] if found else [])


async def test_get_and_update_need_what_they_need(control: Control) -> None:
    await control.refused("GetCluster", api.GetClusterRequest(), Code.INVALID_ARGUMENT, "invalid argument")
    request = api.GetClusterRequest(cluster_id="x")
    await control.refused("GetCluster", request, Code.NOT_FOUND, "cluster x not found")
    spec, version = cluster().spec, api.Version(index=1)
    for update_request in (
        api.UpdateClusterRequest(cluster_version=version, spec=spec),
        api.UpdateClusterRequest(cluster_id="x", spec=spec),
        api.UpdateClusterRequest(cluster_id="x", cluster_version=version),
    ):
        await control.refused("UpdateCluster", update_request, Code.INVALID_ARGUMENT, "invalid argument")
    unknown = api.UpdateClusterRequest(cluster_id="x", cluster_version=version, spec=spec)
    await control.refused("UpdateCluster", unknown, Code.NOT_FOUND, "cluster x not found")


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (
            lambda s: s.ca_config.node_cert_expiry.CopyFrom(Duration(seconds=59 * 60)),
            "minimum certificate expiry time is: 1h0m0s",
        ),
        (
            lambda s: setattr(s.acceptance_policy.policies[0].secret, "alg", "md5"),
            "hashing algorithm is not supported: md5",
        ),
        (
            lambda s: s.dispatcher.heartbeat_period.CopyFrom(Duration(seconds=-1)),
            "heartbeat time period cannot be a negative duration",
        ),
        (
            lambda s: s.dispatcher.heartbeat_period.CopyFrom(Duration()),
            "heartbeat time period cannot be zero",
        ),
        (
            lambda s: setattr(s.annotations, "name", "other"),
            "modification of cluster name is not allowed",
        ),
    ],
)
async def test_specs_that_are_refused(control: Control, stored: api.Cluster, edit: Edit, text: str) -> None:
    request = await update_request(control, edit)
    await control.refused("UpdateCluster", request, Code.INVALID_ARGUMENT, text)


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (lambda s: setattr(s.ca_config, "signing_ca_cert", b"x"), "does not rotate the root CA"),
        (lambda s: setattr(s.ca_config, "signing_ca_key", b"x"), "does not rotate the root CA"),
        (lambda s: setattr(s.ca_config, "force_rotate", 1), "does not rotate the root CA"),
        (lambda s: s.ca_config.external_cas.add(url="https://x"), "does not use external CAs"),
    ],
)
async def test_what_is_not_served_says_so(
    control: Control, stored: api.Cluster, edit: Edit, text: str
) -> None:
    await control.refused("UpdateCluster", await update_request(control, edit), Code.UNIMPLEMENTED, text)


async def test_a_spec_that_is_read_and_sent_back_changes_nothing_secret(
    control: Control, stored: api.Cluster
) -> None:
    await update(control, lambda spec: setattr(spec.orchestration, "task_history_retention_limit", -1))
    now = control.store.view().find(api.Cluster)[0]
    assert now.spec.orchestration.task_history_retention_limit == -1
    assert now.spec.acceptance_policy == stored.spec.acceptance_policy
    assert now.root_ca == stored.root_ca
    assert list(now.unlock_keys) == list(stored.unlock_keys)
    assert now.encryption_key_lamport_clock == 7


async def test_a_new_secret_is_taken_and_one_hour_and_any_case_of_bcrypt_pass(
    control: Control, stored: api.Cluster
) -> None:
    def edit(spec: api.ClusterSpec) -> None:
        spec.ca_config.node_cert_expiry.seconds = 3600
        spec.acceptance_policy.policies[0].secret.data = b"$2a$10$new"
        spec.acceptance_policy.policies[0].secret.alg = "BCRYPT"

    await update(control, edit)
    now = control.store.view().find(api.Cluster)[0].spec
    assert now.acceptance_policy.policies[0].secret.data == b"$2a$10$new"
    assert now.ca_config.node_cert_expiry.seconds == 3600


async def test_a_secret_that_is_not_stored_cannot_be_kept(control: Control, stored: api.Cluster) -> None:
    def edit(spec: api.ClusterSpec) -> None:
        policy = spec.acceptance_policy.policies.add(role=api.NodeRole.MANAGER)
        policy.secret.data = b"[REDACTED]"
        policy.secret.alg = "bcrypt"

    request = await update_request(control, edit)
    await control.refused(
        "UpdateCluster", request, Code.INVALID_ARGUMENT, "no stored secret for role manager"
    )


async def test_a_stale_version_is_out_of_sequence(control: Control, stored: api.Cluster) -> None:
    stale = await update_request(control)
    await update(control)
    await control.refused("UpdateCluster", stale, Code.ABORTED, "update out of sequence")


@pytest.mark.parametrize("role", ["worker", "manager"])
async def test_rotating_one_join_token_leaves_the_other(
    control: Control, stored: api.Cluster, role: str
) -> None:
    other = {"worker": "manager", "manager": "worker"}[role]
    rotation = api.KeyRotation(**{f"{role}_join_token": True})
    tokens = (await update(control, rotation=rotation)).root_ca.join_tokens
    assert getattr(tokens, role) == "token-1-PEM"
    assert getattr(tokens, other) == f"{other}-token"


def autolock(on: bool) -> Edit:
    return lambda spec: setattr(spec.encryption_config, "auto_lock_managers", on)


def unlock_keys(control: Control) -> dict[str, bytes]:
    (found,) = control.store.view().find(api.Cluster)
    return {entry.subsystem: entry.key for entry in found.unlock_keys}


async def test_the_unlock_key_comes_and_goes_with_autolock_and_other_subsystems_keep_theirs(
    control: Control, stored: api.Cluster
) -> None:
    await update(control, autolock(False))
    assert unlock_keys(control) == {"other": b"UNLOCK OTHERS"}
    await update(control, rotation=api.KeyRotation(manager_unlock_key=True))
    assert unlock_keys(control) == {"other": b"UNLOCK OTHERS"}  # off: there is nothing to rotate

    await update(control, autolock(True))
    first = unlock_keys(control)["swarm-manager"]
    assert len(first) == 32
    await update(control, autolock(True))
    assert unlock_keys(control)["swarm-manager"] == first

    await update(control, rotation=api.KeyRotation(manager_unlock_key=True))
    second = unlock_keys(control)["swarm-manager"]
    assert second not in (first, b"UNLOCK")
    assert len(second) == 32
    assert unlock_keys(control)["other"] == b"UNLOCK OTHERS"


async def test_no_answer_holds_an_unlock_key(control: Control, stored: api.Cluster) -> None:
    updated = await update(control, rotation=api.KeyRotation(manager_unlock_key=True))
    assert not updated.unlock_keys
    assert unlock_keys(control)["swarm-manager"] not in updated.SerializeToString()


async def test_expired_blacklist_entries_are_dropped(control: Control) -> None:
    made = cluster()
    old = timestamp(EPOCH - datetime.timedelta(days=8))
    made.blacklisted_certificates["old"].expiry.CopyFrom(old)
    await control.put(made)
    await update(control)
    assert sorted(control.store.view().find(api.Cluster)[0].blacklisted_certificates) == ["gone"]
