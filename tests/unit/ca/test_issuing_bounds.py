"""What strangers may ask of the certificate authority, and how often (contract/security.md, 6)."""

import asyncio
import random

import pytest

from swarmkit.api import messages as api
from swarmkit.ca import issuing
from swarmkit.ca.certificates import new_request
from swarmkit.ca.errors import (
    InvalidRequestError,
    TooManyRequestsError,
)
from swarmkit.ca.issuing import CertificateAuthority, Requester
from tests.unit.ca.authority import LOOPBACK, REMOTE, Swarm, leaf_of
from tests.unit.ca.builders import CLUSTER

State = api.IssuanceStatus


async def test_an_empty_or_huge_request_is_refused_and_makes_no_node(swarm: Swarm) -> None:
    async with swarm.running():
        with pytest.raises(InvalidRequestError, match=r"^InvalidArgument$"):
            await swarm.issue(csr=b"")
        with pytest.raises(InvalidRequestError, match="over 16384 bytes"):
            await swarm.issue(csr=b"x" * 20_000)
        with pytest.raises(InvalidRequestError, match="no availability 9"):
            await swarm.issue(LOOPBACK, availability=9)
    assert swarm.store.view().count(api.Node) == 0


async def test_garbage_makes_a_node_that_fails(swarm: Swarm) -> None:
    async with swarm.running():
        node = await swarm.issue(token=swarm.root_ca.join_tokens.worker, csr=b"garbage")
        node = await swarm.status(node.id)
    assert node.certificate.status.state == State.FAILED
    assert "CSR Decode failed" in node.certificate.status.err
    assert not node.certificate.certificate


async def test_a_repeated_request_without_a_token_gets_the_same_node(swarm: Swarm) -> None:
    csr = new_request().csr_pem
    async with swarm.running():
        for requester in (LOOPBACK, REMOTE):
            csr = new_request().csr_pem
            nodes = [await swarm.issue(requester, csr=csr) for _ in range(100)]
            assert len({node.id for node in nodes}) == 1
    async with swarm.running():
        other_leader = CertificateAuthority(swarm.store, swarm.clock, random.Random(2), CLUSTER)
        task = asyncio.create_task(other_leader.run())
        await asyncio.sleep(0)
        response = await other_leader.issue(REMOTE, api.IssueNodeCertificateRequest(csr=csr))
        assert response.node_id == nodes[0].id
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_repeated_requests_in_flight_together_get_the_same_node(swarm: Swarm) -> None:
    csr = new_request().csr_pem
    async with swarm.running():
        nodes = await asyncio.gather(*(swarm.issue(REMOTE, csr=csr) for _ in range(10)))
    assert len({node.id for node in nodes}) == 1


@pytest.mark.slow
async def test_ten_thousand_calls_without_a_token_make_few_nodes_and_do_no_harm(swarm: Swarm) -> None:
    refused = 0
    async with swarm.running():
        for count in range(10_000):
            requester = Requester(ip=f"10.0.{count // 200}.{count % 200}")
            try:
                await swarm.issue(requester, csr=b"different %d" % count)
            except TooManyRequestsError:
                refused += 1
        assert swarm.store.view().count(api.Node) == issuing.MAX_PENDING_NODES
        assert refused == 10_000 - issuing.MAX_PENDING_NODES
        node = await swarm.issue(token=swarm.root_ca.join_tokens.worker)
        assert leaf_of(await asyncio.wait_for(swarm.status(node.id), 1))


async def test_one_address_without_a_token_is_held_to_its_rate_and_a_token_is_not(swarm: Swarm) -> None:
    async with swarm.running():
        for _ in range(issuing.ANONYMOUS_BURST):
            await swarm.issue(LOOPBACK)
        with pytest.raises(TooManyRequestsError, match="from this address"):
            await swarm.issue(LOOPBACK)
        await swarm.issue(LOOPBACK, token=swarm.root_ca.join_tokens.worker)
        await asyncio.sleep(issuing.ANONYMOUS_INTERVAL_SECONDS)
        await swarm.issue(LOOPBACK)


async def test_beyond_the_bound_status_calls_are_answered_at_once(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuing, "MAX_ANONYMOUS_WAITERS", 2)
    monkeypatch.setattr(issuing, "MAX_WAITERS", 3)
    async with swarm.running():
        node = await swarm.issue(REMOTE)
        held = [asyncio.create_task(swarm.status(node.id)) for _ in range(2)]
        await asyncio.sleep(1)
        assert (await swarm.status(node.id)).certificate.status.state == State.PENDING
        held.append(asyncio.create_task(swarm.ca.certificate_status(node.id, anonymous=False)))
        await asyncio.sleep(1)
        assert not any(task.done() for task in held)
        assert await swarm.ca.certificate_status(node.id, anonymous=False)
        held.pop(0).cancel()
        await asyncio.sleep(1)
        held.append(asyncio.create_task(swarm.ca.certificate_status(node.id, anonymous=False)))
        await asyncio.sleep(1)
        assert not any(task.done() for task in held)
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)
