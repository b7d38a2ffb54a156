"""Services CA and NodeCA (contract/security.md, 6 and 15.3; cases 31, 32, 34, 35)."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterator

import grpc
import pytest

from swarmkit.api import messages as api
from swarmkit.ca.bootstrap import root_ca_object
from swarmkit.ca.certificates import new_request
from swarmkit.ca.issuing import ANONYMOUS_BURST, CertificateAuthority
from swarmkit.manager.caapi import CaService, NodeCaService
from swarmkit.net.caller import MANAGER_ROLE, WORKER_ROLE, Caller, as_caller
from swarmkit.net.errors import RpcError
from swarmkit.store import Store
from tests.fakes.loop import VirtualClock
from tests.fakes.proposer import FakeProposer
from tests.unit.ca.builders import CLUSTER, ROOT

Code = grpc.StatusCode
State = api.IssuanceStatus
LOOPBACK = Caller(remote_addr="127.0.0.1:1234")
REMOTE = Caller(remote_addr="192.0.2.1:1234")


class Manager:
    """The two services over a store, as a manager has them."""

    def __init__(self, clock: VirtualClock) -> None:
        self.store = Store(clock)
        self.proposer = FakeProposer(self.store)
        self.store.attach(self.proposer)
        self.authority = CertificateAuthority(self.store, clock, random.Random(1), CLUSTER)
        self.ca = CaService(self.authority)
        self.node_ca = NodeCaService(self.authority)
        self.root_ca = root_ca_object(ROOT.cert_pem, ROOT.key_pem)

    async def create_cluster(self) -> None:
        spec = api.ClusterSpec(annotations=api.Annotations(name="default"))
        cluster = api.Cluster(id=CLUSTER, spec=spec, root_ca=self.root_ca)
        await self.store.update(lambda tx: tx.create(cluster))

    @contextlib.asynccontextmanager
    async def leading(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.authority.run())
        await asyncio.sleep(0)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def issue(
        self, caller: Caller, token: str = "", csr: bytes | None = None
    ) -> api.IssueNodeCertificateResponse:
        csr = new_request().csr_pem if csr is None else csr
        with as_caller(caller):
            return await self.node_ca.IssueNodeCertificate(
                api.IssueNodeCertificateRequest(token=token, csr=csr), None
            )

    async def status(self, caller: Caller, node_id: str) -> api.NodeCertificateStatusResponse:
        with as_caller(caller):
            return await self.node_ca.NodeCertificateStatus(
                api.NodeCertificateStatusRequest(node_id=node_id), None
            )


@pytest.fixture
async def manager(clock: VirtualClock) -> Manager:
    manager = Manager(clock)
    await manager.create_cluster()
    return manager


@contextlib.contextmanager
def refused(code: grpc.StatusCode, text: str) -> Iterator[None]:
    with pytest.raises(RpcError) as raised:
        yield
    assert (raised.value.code, raised.value.text) == (code, text)


async def test_a_token_brings_a_certificate_in_two_calls(manager: Manager) -> None:
    csr = new_request().csr_pem
    async with manager.leading():
        response = await manager.issue(REMOTE, manager.root_ca.join_tokens.worker, csr)
        assert response.node_membership == api.NodeSpec.ACCEPTED
        answer = await manager.status(REMOTE, response.node_id)
    assert answer.HasField("status")
    assert answer.status.state == State.ISSUED
    assert answer.certificate.csr == csr
    assert answer.certificate.certificate.count(b"BEGIN CERTIFICATE") == 1


async def test_the_address_of_the_caller_decides_without_a_token(manager: Manager) -> None:
    async with manager.leading():
        for caller, membership in (
            (LOOPBACK, api.NodeSpec.ACCEPTED),
            (Caller(remote_addr="[::1]:1234"), api.NodeSpec.ACCEPTED),
            (Caller(remote_addr="127.0.0.1:9", forwarded_by="m"), api.NodeSpec.ACCEPTED),
            (REMOTE, api.NodeSpec.PENDING),
            (Caller(), api.NodeSpec.PENDING),
            (Caller(remote_addr="unparsable"), api.NodeSpec.PENDING),
        ):
            assert (await manager.issue(caller)).node_membership == membership


async def test_a_caller_with_a_certificate_renews_its_own(manager: Manager) -> None:
    async with manager.leading():
        joined = await manager.issue(LOOPBACK)
        worker = Caller(joined.node_id, frozenset({WORKER_ROLE}), CLUSTER, "127.0.0.1:1")
        assert (await manager.issue(worker)).node_id == joined.node_id


async def test_a_call_over_the_control_socket_renews_this_managers_own_whatever_the_token(
    manager: Manager,
) -> None:
    own = api.Node(id="own", role=api.NodeRole.MANAGER, spec=api.NodeSpec(membership=api.NodeSpec.ACCEPTED))
    await manager.store.update(lambda tx: tx.create(own))
    socket = Caller("own", frozenset({MANAGER_ROLE}), CLUSTER, "127.0.0.1:0", local=True)
    async with manager.leading():
        for token in ("", "nonsense", manager.root_ca.join_tokens.worker):
            assert (await manager.issue(socket, token)).node_id == "own"


async def test_refusals_have_the_contracts_codes_and_texts(manager: Manager) -> None:
    async with manager.leading():
        with refused(Code.INVALID_ARGUMENT, "InvalidArgument"):
            await manager.issue(REMOTE, csr=b"")
        with refused(Code.INVALID_ARGUMENT, "A valid join token is necessary to join this cluster"):
            await manager.issue(REMOTE, "SWMTKN-1-x-y")
        with refused(Code.NOT_FOUND, "node gone not found when attempting to renew certificate"):
            await manager.issue(Caller("gone", frozenset({WORKER_ROLE}), CLUSTER))
        with refused(Code.INVALID_ARGUMENT, "InvalidArgument"):
            await manager.status(REMOTE, "")
        with refused(Code.NOT_FOUND, "NotFound"):
            await manager.status(REMOTE, "gone")


async def test_a_manager_that_does_not_lead_says_stopped_and_one_without_a_cluster_starting(
    manager: Manager, clock: VirtualClock
) -> None:
    with refused(Code.ABORTED, "CA signer is stopped"):
        await manager.issue(LOOPBACK)
    with refused(Code.ABORTED, "CA signer is stopped"):
        await manager.status(LOOPBACK, "any")
    empty = Manager(clock)
    async with empty.leading():
        with refused(Code.ABORTED, "CA signer is still starting"):
            await empty.issue(LOOPBACK)
        with refused(Code.ABORTED, "CA signer is still starting"):
            await empty.ca.GetRootCACertificate(api.GetRootCACertificateRequest(), None)


async def test_too_many_requests_are_resource_exhausted(manager: Manager) -> None:
    async with manager.leading():
        answers = await asyncio.gather(
            *(manager.issue(REMOTE) for _ in range(ANONYMOUS_BURST + 1)), return_exceptions=True
        )
    refusals = [answer for answer in answers if isinstance(answer, BaseException)]
    assert [getattr(refusal, "code", None) for refusal in refusals] == [Code.RESOURCE_EXHAUSTED]


async def test_leadership_lost_in_between_is_unavailable(manager: Manager) -> None:
    async with manager.leading():
        manager.proposer.lose_leadership()
        with refused(Code.UNAVAILABLE, "node lost leader status"):
            await manager.issue(LOOPBACK)


async def test_the_root_and_the_unlock_key_are_answered_from_the_cluster_object(manager: Manager) -> None:
    root = await manager.ca.GetRootCACertificate(api.GetRootCACertificateRequest(), None)
    assert root.certificate == ROOT.cert_pem
    answer = await manager.ca.GetUnlockKey(api.GetUnlockKeyRequest(), None)
    assert answer.unlock_key == b""
    stored = manager.store.view().get(api.Cluster, CLUSTER)
    assert stored is not None
    assert answer.version == stored.meta.version


async def test_an_answer_has_a_status_even_for_a_node_without_a_record(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swarmkit.ca.issuing.MAX_ANONYMOUS_WAITERS", 0)
    await manager.store.update(lambda tx: tx.create(api.Node(id="bare")))
    async with manager.leading():
        answer = await manager.status(REMOTE, "bare")
    assert api.NodeCertificateStatusResponse.FromString(answer.SerializeToString()).HasField("status")
