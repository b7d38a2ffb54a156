"""The certificate authority on a store of its own, and what tests ask of them."""

import asyncio
import contextlib
import datetime
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

from swarmkit.api import messages as api
from swarmkit.ca.bootstrap import root_ca_object
from swarmkit.ca.certificates import new_request
from swarmkit.ca.chain import verify_chain
from swarmkit.ca.credentials import Credentials
from swarmkit.ca.issuing import CertificateAuthority, Requester, signer_for
from swarmkit.ca.root import Signer
from swarmkit.store import Store, Tx
from tests.fakes.loop import VirtualClock
from tests.fakes.proposer import FakeProposer
from tests.unit.ca.builders import CLUSTER, NOW, ROOT

LOOPBACK = Requester(ip="127.0.0.1", from_loopback=True)
REMOTE = Requester(ip="192.0.2.1")


class Swarm:
    """A store with a cluster object, an authority on it, and what a test asks of them."""

    def __init__(
        self,
        clock: VirtualClock,
        make_signer: Callable[[api.Cluster], Signer | None] = signer_for,
    ) -> None:
        self.clock = clock
        self.store = Store(clock)
        self.proposer = FakeProposer(self.store)
        self.store.attach(self.proposer)
        self.ca = CertificateAuthority(self.store, clock, random.Random(1), CLUSTER, make_signer)
        self.root_ca = root_ca_object(ROOT.cert_pem, ROOT.key_pem)

    async def create_cluster(self) -> None:
        spec = api.ClusterSpec(annotations=api.Annotations(name="default"))
        cluster = api.Cluster(id=CLUSTER, spec=spec, root_ca=self.root_ca, VXLANUDPPort=4790)
        await self.store.update(lambda tx: tx.create(cluster))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Swarm"]:
        task = asyncio.create_task(self.ca.run())
        await asyncio.sleep(0)
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def issue(
        self, requester: Requester = REMOTE, *, token: str = "", csr: bytes | None = None, **fields: Any
    ) -> api.Node:
        request = api.IssueNodeCertificateRequest(
            token=token, csr=new_request().csr_pem if csr is None else csr, **fields
        )
        response = await self.ca.issue(requester, request)
        assert response.node_membership == self.node(response.node_id).spec.membership
        return self.node(response.node_id)

    async def status(self, node_id: str) -> api.Node:
        return await self.ca.certificate_status(node_id, anonymous=True)

    def node(self, node_id: str) -> api.Node:
        node = self.store.view().get(api.Node, node_id)
        assert node is not None
        return node

    async def change(self, node_id: str, change: Callable[[api.Node], object]) -> None:
        def callback(tx: Tx) -> None:
            node = api.Node()
            stored = tx.get(api.Node, node_id)
            assert stored is not None
            node.CopyFrom(stored)
            change(node)
            tx.update(node)

        await self.store.update(callback)

    async def change_cluster(self, change: Callable[[api.Cluster], object]) -> None:
        def callback(tx: Tx) -> None:
            cluster = api.Cluster()
            stored = tx.get(api.Cluster, CLUSTER)
            assert stored is not None
            cluster.CopyFrom(stored)
            change(cluster)
            tx.update(cluster)

        await self.store.update(callback)


def leaf_of(node: api.Node) -> Credentials:
    verify_chain(node.certificate.certificate, ROOT.cert_pem, NOW + datetime.timedelta(minutes=1))
    return Credentials.from_pem(ROOT.cert_pem, node.certificate.certificate, b"")
