"""The leader's certificate authority: admits nodes and signs certificates (contract/security.md, 6 and 12).

README.md beside this has the states of a request.
"""

import asyncio
import datetime
import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from swarmkit.aio import TaskOwner
from swarmkit.api import messages as api
from swarmkit.ca.admission import (
    SECRET_TEXT,
    Admission,
    RateLimit,
    RecentRequests,
    admit,
    is_final,
    needs_signature,
    secret_for,
)
from swarmkit.ca.autolock import stored_unlock_key
from swarmkit.ca.certificates import MAX_REQUEST_BYTES, Subject, role_name
from swarmkit.ca.errors import (
    CaStartingError,
    CaStoppedError,
    CertificateError,
    ExpiredError,
    InvalidRequestError,
    NodeNotFoundError,
    TooManyRequestsError,
)
from swarmkit.ca.policysecret import wrong_secret
from swarmkit.ca.root import Signer
from swarmkit.clock import Clock
from swarmkit.identity import new_id
from swarmkit.log import get_logger
from swarmkit.store import Action, Commit, ExistsError, ProposalError, Store, Tx, Watch, by

log = get_logger(__name__)

#: How often nodes are tried again whose certificate could not be signed, in seconds.
RETRY_SECONDS = 10.0
#: Tries to find a node id that is not taken.
ID_TRIES = 4
#: Nodes that wait for an operator: more are turned away.
MAX_PENDING_NODES = 256
#: Requests without a token that one address may make at once, and seconds until it may make one more.
ANONYMOUS_BURST = 32
ANONYMOUS_INTERVAL_SECONDS = 2.0
#: Addresses and requests that are remembered for these rules.
REMEMBERED_ADDRESSES = 4096
REMEMBERED_REQUESTS = 1024
#: Status calls that are held: more, without and with a certificate, are answered at once with what there is.
MAX_ANONYMOUS_WAITERS = 1024
MAX_WAITERS = 16 * 1024
#: Longest validity that is signed: beyond it dates would overflow.
MAX_VALIDITY = datetime.timedelta(days=36_500)
_MAX_VALIDITY_SECONDS = int(MAX_VALIDITY.total_seconds())
#: Signatures between two turns of the event loop: about 10 ms.
_SIGNATURES_PER_TURN = 32

_State = api.IssuanceStatus


@dataclass(frozen=True)
class Requester:
    """Who asks for a certificate.

    Attributes:
        node_id: the caller's, if it showed a certificate of this swarm and was not removed; for a call over
            the control socket this manager's own; else empty.
        ip: its address, empty if unknown.
        from_loopback: the address is known to be this machine's.
    """

    node_id: str = ""
    ip: str = ""
    from_loopback: bool = False


def signer_for(cluster: api.Cluster) -> Signer | None:
    """Return what signs certificates of a cluster, or None if this manager holds no key to do it.

    Raises:
        CertificateError: root and key cannot be used.
    """
    if not cluster.root_ca.ca_key:
        return None
    return Signer(cluster.root_ca.ca_cert, cluster.root_ca.ca_key)


def validity_of(cluster: api.Cluster) -> datetime.timedelta:
    """Return how long the next certificates are valid; under an hour means the default of 90 days."""
    seconds = cluster.spec.ca_config.node_cert_expiry.seconds
    return datetime.timedelta(seconds=min(max(seconds, 0), _MAX_VALIDITY_SECONDS))


class CertificateAuthority:
    """Answers certificate requests, and signs them while ``run`` runs: on the leader.

    Args:
        store: the replicated store.
        clock: time.
        rng: randomness.
        cluster_id: of this swarm, O of every certificate.
        make_signer: chooses the signer for a cluster object.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        rng: random.Random,
        cluster_id: str,
        make_signer: Callable[[api.Cluster], Signer | None] = signer_for,
    ) -> None:
        self._store = store
        self._clock = clock
        self._rng = rng
        self._cluster_id = cluster_id
        self._make_signer = make_signer
        self._running = False
        self._unsigned: set[str] = set()
        self._waiters: defaultdict[str, set[asyncio.Future[None]]] = defaultdict(set)
        self._waiting = 0
        self._limit = RateLimit(ANONYMOUS_BURST, ANONYMOUS_INTERVAL_SECONDS, REMEMBERED_ADDRESSES)
        self._recent = RecentRequests(REMEMBERED_REQUESTS)

    # Questions that any manager answers

    def root_ca(self) -> bytes:
        """Return the root bundle, byte for byte.

        Raises:
            CaStartingError: there is no cluster object yet.
        """
        return self._cluster().root_ca.ca_cert

    def unlock_key(self) -> tuple[bytes, api.Version]:
        """Return the managers' unlock key, empty while autolock is off, and the cluster object's version.

        Raises:
            CaStartingError: there is no cluster object yet.
        """
        cluster = self._cluster()
        locked = cluster.spec.encryption_config.auto_lock_managers
        return stored_unlock_key(cluster) if locked else b"", cluster.meta.version

    def _cluster(self) -> api.Cluster:
        cluster = self._store.view().get(api.Cluster, self._cluster_id)
        if cluster is None or not cluster.root_ca.ca_cert:
            raise CaStartingError
        return cluster

    # Requests

    async def issue(
        self, requester: Requester, request: api.IssueNodeCertificateRequest
    ) -> api.IssueNodeCertificateResponse:
        """Take a certificate request: a renewal of a node's own certificate, or a new node.

        Raises:
            IssuingError: it is refused; see ``swarmkit.ca.errors``.
            ProposalError: it may or may not have taken effect.
        """
        if not request.csr:
            raise InvalidRequestError("InvalidArgument")
        if len(request.csr) > MAX_REQUEST_BYTES:
            raise InvalidRequestError(f"the certificate request is over {MAX_REQUEST_BYTES} bytes")
        if not self._running:
            raise CaStoppedError
        cluster = self._cluster()
        if requester.node_id:
            node = await self._store.update(lambda tx: _renew(tx, requester.node_id, request.csr))
            log.debug("certificate requested again", node_id=node.id)
        else:
            if request.availability not in api.NodeSpec.Availability.values():
                raise InvalidRequestError(f"there is no availability {request.availability}")
            admission = await self._admit(cluster, requester, request)
            node = await self._store.update(lambda tx: self._join(tx, admission, request))
            if self._store.view().get(api.Node, node.id) is None:
                # A repeated request whose first one is still in flight: no answer before that is committed.
                await self._change_of(node.id)
                if not self._running:
                    raise CaStoppedError
        return api.IssueNodeCertificateResponse(node_id=node.id, node_membership=node.spec.membership)

    async def _admit(
        self, cluster: api.Cluster, requester: Requester, request: api.IssueNodeCertificateRequest
    ) -> Admission:
        """Decide how a new node comes in; checking a policy's secret takes a thread for a moment."""
        secret = secret_for(cluster, request.token, request.role)
        decide = partial(admit, cluster, request.token, request.role, from_loopback=requester.from_loopback)
        if secret is None:
            admission = decide()
            if not admission.anonymous:
                return admission
        known = secret is None and self._recent.get(request.csr) is not None
        if not known and not self._limit.take(requester.ip, self._clock.monotonic()):
            raise TooManyRequestsError(
                "too many requests to join without a token from this address: wait, or join with a token"
            )
        if secret is None:
            return admission
        wrong = await asyncio.to_thread(wrong_secret, secret, request.token)
        if wrong:
            raise InvalidRequestError(f"{SECRET_TEXT}: {wrong}")
        return decide(proven=True)

    def _join(self, tx: Tx, admission: Admission, request: api.IssueNodeCertificateRequest) -> api.Node:
        """Create the node; a request that came before, without a token, gets the same node again."""
        if admission.anonymous:
            known = self._known(tx, request.csr)
            if known is not None:
                return known
        if admission.membership == api.NodeSpec.PENDING:
            if tx.count(api.Node, by.membership(api.NodeSpec.PENDING)) >= MAX_PENDING_NODES:
                raise TooManyRequestsError(
                    f"{MAX_PENDING_NODES} nodes wait for an operator already: accept or reject some,"
                    " or join with a token"
                )
        node = _create(tx, admission, request, tx.get(api.Cluster, self._cluster_id))
        if admission.anonymous:
            self._recent.put(request.csr, node.id)
        return node

    def _known(self, tx: Tx, csr: bytes) -> api.Node | None:
        """Return the node that a request without a token was answered with before, also by another leader."""
        remembered = tx.get(api.Node, self._recent.get(csr) or "")
        if remembered is not None and remembered.certificate.csr == csr:
            return remembered
        pending = tx.find(api.Node, by.membership(api.NodeSpec.PENDING))
        return next((node for node in pending if node.certificate.csr == csr), None)

    # Answers

    async def certificate_status(self, node_id: str, *, anonymous: bool) -> api.Node:
        """Return the node once its certificate request is decided; waits without limit of its own.

        Where too many wait already, it returns at once with what there is.

        Raises:
            InvalidRequestError: ``node_id`` is empty.
            NodeNotFoundError: there is no such node, or no longer.
            CaStoppedError: this manager does not lead, or no longer.
        """
        if not node_id:
            raise InvalidRequestError("InvalidArgument")
        while True:
            if not self._running:
                raise CaStoppedError
            node = self._store.view().get(api.Node, node_id)
            if node is None:
                raise NodeNotFoundError("NotFound")
            limit = MAX_ANONYMOUS_WAITERS if anonymous else MAX_WAITERS
            if is_final(node) or self._waiting >= limit:
                return node
            await self._change_of(node_id)

    async def _change_of(self, node_id: str) -> None:
        """Wait until the node object changes or the authority stops."""
        changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[node_id].add(changed)
        self._waiting += 1
        try:
            await changed
        finally:
            self._waiting -= 1
            self._waiters[node_id].discard(changed)
            if not self._waiters[node_id]:
                del self._waiters[node_id]

    def _wake(self, node_ids: Iterable[str]) -> None:
        for node_id in node_ids:
            for waiter in self._waiters.get(node_id, ()):
                if not waiter.done():
                    waiter.set_result(None)

    # The signer

    async def run(self) -> None:
        """Sign until cancelled; end those who wait when it stops.

        Raises:
            RuntimeError: it runs already.
            ProposalError: this manager does not lead any more.
        """
        if self._running:
            raise RuntimeError("the certificate authority runs already")
        unsigned, watcher = self._store.view_and_watch(
            lambda reader: [node.id for node in reader.find(api.Node) if needs_signature(node)],
            Watch(api.Node),
            Watch(api.Cluster, {Action.UPDATE}),
        )
        owner = TaskOwner("certificate-authority")
        self._running = True
        try:
            with watcher:
                owner.spawn(self._retry(), "retry")
                await self._sign(unsigned)
                async for commit in watcher:
                    await self._handle(commit)
        finally:
            self._running = False
            self._unsigned.clear()
            self._wake(list(self._waiters))
            await owner.close()

    async def _handle(self, commit: Commit) -> None:
        nodes: list[api.Node] = []
        retry = False
        for event in commit.events:
            if isinstance(event.object, api.Node):
                nodes.append(event.object)
            else:
                retry = True
        self._wake(node.id for node in nodes)
        for event in commit.events:
            if event.action is Action.CREATE and isinstance(event.object, api.Node):
                _log_join(event.object)
        unsigned = [node.id for node in nodes if needs_signature(node)]
        if retry:
            unsigned += sorted(self._unsigned)
        await self._sign(dict.fromkeys(unsigned))

    async def _retry(self) -> None:
        """Try again, now and then, what could not be signed."""
        while True:
            await self._clock.sleep(RETRY_SECONDS)
            node_ids = sorted(self._unsigned)
            self._rng.shuffle(node_ids)
            try:
                await self._sign(node_ids)
            except ProposalError as error:
                log.warning("certificates were not recorded", error=str(error))

    async def _sign(self, node_ids: Iterable[str]) -> None:
        """Sign the requests of nodes that need it and record the outcome."""
        node_ids = list(node_ids)
        if not node_ids:
            return
        self._unsigned.update(node_ids)
        cluster = self._store.view().get(api.Cluster, self._cluster_id)
        signer = self._signer(cluster) if cluster is not None else None
        if cluster is None or signer is None:
            return
        done: list[str] = []
        async with self._store.batch() as batch:
            for count, node_id in enumerate(node_ids, start=1):
                node = self._store.view().get(api.Node, node_id)
                if node is not None and needs_signature(node):
                    try:
                        certificate = self._certificate(node, signer, validity_of(cluster))
                    except ExpiredError as error:
                        log.error("no certificate can be signed", error=str(error))
                        break
                    batch.update(partial(_record, node_id, certificate))
                done.append(node_id)
                if count % _SIGNATURES_PER_TURN == 0:
                    await asyncio.sleep(0)
        self._unsigned.difference_update(done)

    def _signer(self, cluster: api.Cluster) -> Signer | None:
        try:
            signer = self._make_signer(cluster)
        except CertificateError as error:
            log.error("no certificate can be signed", error=str(error))
            return None
        if signer is None:
            log.error("no certificate can be signed: no manager holds the key of the root certificate")
        return signer

    def _certificate(self, node: api.Node, signer: Signer, validity: datetime.timedelta) -> api.Certificate:
        """Return the node's certificate record with the outcome of signing it."""
        signed = api.Certificate()
        signed.CopyFrom(node.certificate)
        try:
            subject = Subject(node.id, role_name(node.certificate.role), self._cluster_id)
            signed.certificate = signer.sign(node.certificate.csr, subject, self._clock.now(), validity)
        except ExpiredError:
            raise
        except CertificateError as error:
            log.warning("a certificate request cannot be signed", node_id=node.id, error=str(error))
            signed.status.CopyFrom(_State(state=_State.FAILED, err=str(error)))
        else:
            log.info("certificate issued", node_id=node.id, role=subject.role)
            signed.status.CopyFrom(_State(state=_State.ISSUED))
        return signed


def _log_join(node: api.Node) -> None:
    role = "manager" if node.role == api.NodeRole.MANAGER else "worker"
    if node.spec.membership == api.NodeSpec.PENDING:
        log.info("node waits until an operator accepts it", node_id=node.id, role=role)
    else:
        log.info("node joins", node_id=node.id, role=role)


def _renew(tx: Tx, node_id: str, csr: bytes) -> api.Node:
    """Replace a node's certificate record by a request to renew, in its observed role."""
    stored = tx.get(api.Node, node_id)
    if stored is None:
        raise NodeNotFoundError(f"node {node_id} not found when attempting to renew certificate")
    node = api.Node()
    node.CopyFrom(stored)
    status = _State(state=_State.RENEW)
    node.certificate.CopyFrom(api.Certificate(role=stored.role, csr=csr, cn=node_id, status=status))
    return tx.update(node)


def _create(
    tx: Tx,
    admission: Admission,
    request: api.IssueNodeCertificateRequest,
    cluster: api.Cluster | None,
) -> api.Node:
    """Create the object of a node that joins."""
    if cluster is None:
        raise CaStartingError
    for last in (*[False] * (ID_TRIES - 1), True):
        node_id = new_id()
        node = api.Node(
            id=node_id,
            role=admission.role,
            spec=api.NodeSpec(
                desired_role=admission.role,
                membership=admission.membership,
                availability=request.availability,
            ),
            certificate=api.Certificate(
                role=admission.role, csr=request.csr, cn=node_id, status=_State(state=_State.PENDING)
            ),
            VXLANUDPPort=cluster.VXLANUDPPort,
        )
        try:
            return tx.create(node)
        except ExistsError:
            if last:
                raise
    raise AssertionError("the last try returns or raises")


def _record(node_id: str, certificate: api.Certificate, tx: Tx) -> None:
    """Write the outcome of signing, unless the node has asked with another request meanwhile.

    PARITY: the original writes a certificate that was made for an older request.
    """
    stored = tx.get(api.Node, node_id)
    if stored is None or not needs_signature(stored) or stored.certificate.csr != certificate.csr:
        return
    node = api.Node()
    node.CopyFrom(stored)
    node.certificate.CopyFrom(certificate)
    tx.update(node)
