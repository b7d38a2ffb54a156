"""The leader's certificate authority (contract/security.md, 6; cases 30 to 37, 40, 69 to 71, 73)."""

import asyncio
import datetime

import pytest
from cryptography import x509

from swarmkit.api import messages as api
from swarmkit.ca import issuing
from swarmkit.ca.bootstrap import root_ca_object
from swarmkit.ca.certificates import MANAGER_ROLE, WORKER_ROLE, new_request
from swarmkit.ca.errors import (
    CaStartingError,
    CaStoppedError,
    CertificateError,
    InvalidRequestError,
    NodeNotFoundError,
)
from swarmkit.ca.issuing import Requester, signer_for, validity_of
from swarmkit.ca.root import Signer
from swarmkit.identity import is_id
from swarmkit.store import LeadershipLostError, Watch
from tests.fakes.loop import VirtualClock
from tests.unit.ca.authority import LOOPBACK, REMOTE, Swarm, leaf_of
from tests.unit.ca.builders import CLUSTER, NOW, ROOT

State = api.IssuanceStatus
W, M = api.NodeRole.WORKER, api.NodeRole.MANAGER
HASH = b"$2b$04$r9.fdV3QEIa8kwtcCdQMI.Cxz/AX452so3VwtQxGzPOIh5MPdAFHy"


def not_after(node: api.Node) -> datetime.datetime:
    return x509.load_pem_x509_certificate(node.certificate.certificate).not_valid_after_utc


@pytest.mark.parametrize("asked", [W, M])
async def test_the_token_decides_the_role_and_the_role_field_nothing(
    swarm: Swarm, asked: api.NodeRole.ValueType
) -> None:
    tokens = swarm.root_ca.join_tokens
    async with swarm.running():
        for token, role, name in ((tokens.worker, W, WORKER_ROLE), (tokens.manager, M, MANAGER_ROLE)):
            csr = new_request().csr_pem
            node = await swarm.issue(token=token, csr=csr, role=asked, availability=api.NodeSpec.DRAIN)
            assert is_id(node.id)
            assert (node.role, node.spec.desired_role, node.certificate.role) == (role, role, role)
            assert node.spec.membership == api.NodeSpec.ACCEPTED
            assert node.spec.availability == api.NodeSpec.DRAIN
            assert node.VXLANUDPPort == 4790
            node = await swarm.status(node.id)
            assert node.certificate.status.state == State.ISSUED
            assert node.certificate.csr == csr
            assert node.certificate.cn == node.id
            leaf = leaf_of(node)
            assert (leaf.node_id, leaf.role, leaf.organization) == (node.id, name, CLUSTER)


async def test_after_a_rotation_of_one_token_only_the_old_one_is_refused(swarm: Swarm) -> None:
    old = swarm.root_ca.join_tokens.worker
    new = root_ca_object(ROOT.cert_pem).join_tokens.worker
    async with swarm.running():
        await swarm.change_cluster(lambda cluster: setattr(cluster.root_ca.join_tokens, "worker", new))
        with pytest.raises(InvalidRequestError, match="A valid join token is necessary to join this cluster"):
            await swarm.issue(token=old)
        assert (await swarm.issue(token=new)).role == W
        assert (await swarm.issue(token=swarm.root_ca.join_tokens.manager)).role == M


async def test_a_caller_with_a_certificate_renews_in_its_observed_role(swarm: Swarm) -> None:
    async with swarm.running():
        node = await swarm.issue(token=swarm.root_ca.join_tokens.worker)
        await swarm.status(node.id)
        await swarm.change(node.id, lambda changed: setattr(changed.spec, "desired_role", M))
        csr = new_request().csr_pem
        token = swarm.root_ca.join_tokens.manager
        renewed = await swarm.issue(Requester(node.id, "192.0.2.1"), token=token, csr=csr, role=M)
        assert renewed.id == node.id
        renewed = await swarm.status(node.id)
        assert renewed.certificate.csr == csr
        assert leaf_of(renewed).role == WORKER_ROLE
        await swarm.change(node.id, lambda changed: setattr(changed, "role", M))
        await swarm.issue(Requester(node.id))
        assert leaf_of(await swarm.status(node.id)).role == MANAGER_ROLE
    assert swarm.store.view().count(api.Node) == 1


async def test_a_renewal_replaces_the_whole_record(swarm: Swarm) -> None:
    async with swarm.running():
        node = await swarm.issue(token=swarm.root_ca.join_tokens.worker)
        await swarm.status(node.id)
        watcher = swarm.store.watch(Watch(api.Node))
        await swarm.issue(Requester(node.id))
        commit = watcher.next_nowait()
        assert commit is not None
        asked = commit.events[0].object
        assert isinstance(asked, api.Node)
        assert asked.certificate.status.state == State.RENEW
        assert not asked.certificate.certificate
        watcher.close()


async def test_a_renewal_of_a_deleted_node_names_it(swarm: Swarm) -> None:
    async with swarm.running():
        with pytest.raises(
            NodeNotFoundError, match=r"^node gone not found when attempting to renew certificate$"
        ):
            await swarm.issue(Requester("gone"))


async def test_without_a_token_the_loopback_is_a_worker_at_once_and_others_wait(swarm: Swarm) -> None:
    async with swarm.running():
        local = await swarm.issue(LOOPBACK)
        assert local.spec.membership == api.NodeSpec.ACCEPTED
        assert leaf_of(await swarm.status(local.id)).role == WORKER_ROLE
        remote = await swarm.issue(REMOTE)
        assert remote.spec.membership == api.NodeSpec.PENDING
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(swarm.status(remote.id), 60)
        assert swarm.node(remote.id).certificate.status.state == State.PENDING


async def test_an_accepted_node_is_issued_and_whoever_waits_is_answered(swarm: Swarm) -> None:
    async with swarm.running():
        node = await swarm.issue(REMOTE, role=M)
        waiting = asyncio.create_task(swarm.status(node.id))
        await asyncio.sleep(5)
        accept = api.NodeSpec.ACCEPTED
        await swarm.change(node.id, lambda changed: setattr(changed.spec, "membership", accept))
        started = swarm.clock.monotonic()
        assert leaf_of(await waiting).role == MANAGER_ROLE
        assert swarm.clock.monotonic() - started < 1


async def test_a_rejected_node_reads_why_and_is_issued_when_accepted_after_all(swarm: Swarm) -> None:
    async with swarm.running():
        node = await swarm.issue(REMOTE)
        waiting = asyncio.create_task(swarm.status(node.id))
        await asyncio.sleep(1)
        failed = State(state=State.FAILED, err="not here")
        await swarm.change(node.id, lambda changed: changed.certificate.status.CopyFrom(failed))
        assert (await waiting).certificate.status.err == "not here"

        def accept(changed: api.Node) -> None:
            changed.spec.membership = api.NodeSpec.ACCEPTED
            changed.certificate.status.CopyFrom(State(state=State.PENDING))

        await swarm.change(node.id, accept)
        assert (await swarm.status(node.id)).certificate.status.state == State.ISSUED


async def test_membership_pending_does_not_keep_a_renewal_from_being_signed(swarm: Swarm) -> None:
    async with swarm.running():
        node = await swarm.issue(REMOTE)
        await swarm.issue(Requester(node.id))
        assert (await swarm.status(node.id)).certificate.status.state == State.ISSUED
        assert swarm.node(node.id).spec.membership == api.NodeSpec.PENDING


async def test_rotate_is_answered_at_once_with_the_old_certificate_and_nothing_is_signed(
    swarm: Swarm,
) -> None:
    async with swarm.running():
        node = await swarm.issue(token=swarm.root_ca.join_tokens.worker)
        old = (await swarm.status(node.id)).certificate
        await swarm.change(
            node.id, lambda changed: setattr(changed.certificate.status, "state", State.ROTATE)
        )
        await asyncio.sleep(60)
        answer = await swarm.status(node.id)
        assert answer.certificate.status.state == State.ROTATE
        assert answer.certificate.certificate == old.certificate


async def test_status_of_an_unknown_node_is_not_found_and_while_stopped_the_authority_says_so(
    swarm: Swarm,
) -> None:
    for _ in range(2):
        with pytest.raises(CaStoppedError, match="CA signer is stopped"):
            await swarm.status("unknown")
        with pytest.raises(CaStoppedError):
            await swarm.issue(LOOPBACK)
        async with swarm.running():
            with pytest.raises(NodeNotFoundError, match=r"^NotFound$"):
                await swarm.status("unknown")
            with pytest.raises(InvalidRequestError, match=r"^InvalidArgument$"):
                await swarm.status("")


async def test_whoever_waits_when_the_authority_stops_is_told(swarm: Swarm) -> None:
    async with swarm.running():
        node = await swarm.issue(REMOTE)
        waiting = asyncio.create_task(swarm.status(node.id))
        await asyncio.sleep(1)
    with pytest.raises(CaStoppedError):
        await waiting


async def test_a_node_deleted_while_somebody_waits_is_not_found(swarm: Swarm) -> None:
    async with swarm.running():
        node = await swarm.issue(REMOTE)
        waiting = asyncio.create_task(swarm.status(node.id))
        await asyncio.sleep(1)
        await swarm.store.update(lambda tx: tx.delete(api.Node, node.id))
        with pytest.raises(NodeNotFoundError):
            await waiting


async def test_before_the_cluster_object_is_there_the_authority_is_starting(clock: VirtualClock) -> None:
    swarm = Swarm(clock)
    async with swarm.running():
        for call in (swarm.ca.root_ca, swarm.ca.unlock_key):
            with pytest.raises(CaStartingError, match="CA signer is still starting"):
                call()
        with pytest.raises(CaStartingError):
            await swarm.issue(LOOPBACK)
        await swarm.create_cluster()
        assert await swarm.issue(LOOPBACK)


async def test_the_root_is_served_byte_for_byte_by_any_manager(swarm: Swarm) -> None:
    assert swarm.ca.root_ca() == ROOT.cert_pem


async def test_the_unlock_key_is_given_while_autolock_is_on_and_the_version_always(swarm: Swarm) -> None:
    keys = [
        api.EncryptionKey(subsystem="other", key=b"other"),
        api.EncryptionKey(subsystem="swarm-manager", key=b"unlock"),
    ]
    await swarm.change_cluster(lambda cluster: cluster.unlock_keys.extend(keys))
    key, version = swarm.ca.unlock_key()
    assert key == b""
    await swarm.change_cluster(
        lambda cluster: setattr(cluster.spec.encryption_config, "auto_lock_managers", True)
    )
    locked, later = swarm.ca.unlock_key()
    assert locked == b"unlock"
    assert 0 < version.index < later.index


async def test_nodes_that_came_while_nobody_led_are_signed_at_the_start(swarm: Swarm) -> None:
    async with swarm.running():
        node = await swarm.issue(REMOTE)
    accept = api.NodeSpec.ACCEPTED
    await swarm.change(node.id, lambda changed: setattr(changed.spec, "membership", accept))
    async with swarm.running():
        assert (await swarm.status(node.id)).certificate.status.state == State.ISSUED


async def test_a_changed_expiry_holds_for_the_next_certificate(swarm: Swarm) -> None:
    async with swarm.running():
        first = await swarm.status((await swarm.issue(LOOPBACK)).id)
        assert not_after(first) == NOW + datetime.timedelta(hours=2160)
        await swarm.change_cluster(lambda cluster: cluster.spec.ca_config.node_cert_expiry.FromSeconds(7200))
        second = await swarm.status((await swarm.issue(LOOPBACK)).id)
        assert not_after(second) == NOW + datetime.timedelta(hours=2)


def test_an_absurd_expiry_is_cut_to_a_century() -> None:
    cluster = api.Cluster()
    cluster.spec.ca_config.node_cert_expiry.seconds = 2**62
    assert validity_of(cluster) == issuing.MAX_VALIDITY
    cluster.spec.ca_config.node_cert_expiry.seconds = -5
    assert validity_of(cluster) == datetime.timedelta(0)


async def test_what_cannot_be_signed_stays_pending_and_is_signed_within_the_retry_interval(
    clock: VirtualClock,
) -> None:
    broken = True

    def sometimes(cluster: api.Cluster) -> Signer | None:
        if broken:
            raise CertificateError("no signer")
        return signer_for(cluster)

    swarm = Swarm(clock, sometimes)
    await swarm.create_cluster()
    async with swarm.running():
        node = await swarm.issue(LOOPBACK)
        await asyncio.sleep(25)
        assert swarm.node(node.id).certificate.status.state == State.PENDING
        broken = False
        await asyncio.wait_for(swarm.status(node.id), issuing.RETRY_SECONDS)


async def test_a_root_without_a_key_signs_as_soon_as_the_cluster_has_one(clock: VirtualClock) -> None:
    swarm = Swarm(clock)
    swarm.root_ca.ca_key = b""
    await swarm.create_cluster()
    async with swarm.running():
        node = await swarm.issue(LOOPBACK)
        await asyncio.sleep(1)
        assert swarm.node(node.id).certificate.status.state == State.PENDING
        await swarm.change_cluster(lambda cluster: setattr(cluster.root_ca, "ca_key", ROOT.key_pem))
        await asyncio.wait_for(swarm.status(node.id), 1)


async def test_a_certificate_made_for_an_older_request_is_not_recorded(swarm: Swarm) -> None:
    async with swarm.running():
        node = await swarm.issue(LOOPBACK)
        first, second = (new_request().csr_pem for _ in range(2))
        await asyncio.gather(
            swarm.issue(Requester(node.id), csr=first), swarm.issue(Requester(node.id), csr=second)
        )
        answer = await swarm.status(node.id)
        assert answer.certificate.csr == second
        issued = x509.load_pem_x509_certificate(answer.certificate.certificate)
        assert issued.public_key() == x509.load_pem_x509_csr(second).public_key()


@pytest.mark.real_time
async def test_a_policys_secret_fits_its_role_and_renewals_need_none(clock: VirtualClock) -> None:
    swarm = Swarm(clock)
    await swarm.create_cluster()

    def set_policy(cluster: api.Cluster) -> None:
        secret = {"data": HASH, "alg": "bcrypt"}
        policies = cluster.spec.acceptance_policy.policies
        policies.add(role=M, autoaccept=True, secret=secret)
        policies.add(role=W, autoaccept=True)

    async with swarm.running():
        await swarm.change_cluster(set_policy)
        node = await swarm.issue(REMOTE, token="geheim", role=M)
        assert (node.role, node.spec.membership) == (M, api.NodeSpec.ACCEPTED)
        await swarm.issue(Requester(node.id))
        for token in ("", "other"):
            with pytest.raises(InvalidRequestError, match="A valid secret token is necessary to join"):
                await swarm.issue(REMOTE, token=token, role=M)
        with pytest.raises(InvalidRequestError, match="A valid join token"):
            await swarm.issue(REMOTE, token="geheim", role=W)


async def test_lost_leadership_ends_the_loop_and_the_request(swarm: Swarm) -> None:
    async with swarm.running():
        swarm.proposer.lose_leadership()
        with pytest.raises(LeadershipLostError):
            await swarm.ca.issue(LOOPBACK, api.IssueNodeCertificateRequest(csr=b"x"))


async def test_it_runs_once_at_a_time(swarm: Swarm) -> None:
    async with swarm.running():
        with pytest.raises(RuntimeError, match="runs already"):
            await swarm.ca.run()
        assert await swarm.issue(LOOPBACK)


@pytest.mark.slow
async def test_a_thousand_joins_at_once_are_all_issued(swarm: Swarm) -> None:
    token = swarm.root_ca.join_tokens.worker
    csr = new_request().csr_pem
    async with swarm.running():
        nodes = await asyncio.gather(*(swarm.issue(token=token, csr=csr) for _ in range(1000)))
        answers = await asyncio.gather(*(swarm.status(node.id) for node in nodes))
    assert {answer.certificate.status.state for answer in answers} == {State.ISSUED}
