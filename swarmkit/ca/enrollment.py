"""How a node gets its certificate: founding, joining, renewing (contract/security.md, 6 and 7).

The calls themselves go through ``CaConnector`` and ``CaClient``; whoever knows gRPC implements them.
"""

import datetime
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from swarmkit.api import messages as api
from swarmkit.ca.backoff import STATUS_POLLING
from swarmkit.ca.certificates import MANAGER_ROLE, WORKER_ROLE, Subject, check_pair, new_request
from swarmkit.ca.chain import verify_chain
from swarmkit.ca.credentials import Credentials, CredentialsError
from swarmkit.ca.errors import (
    CallError,
    CallRefusedError,
    CallTimeoutError,
    CertificateError,
    EnrollmentError,
    FingerprintError,
    NoSuchNodeError,
    NotServedError,
    RejectedError,
    UnknownAuthorityError,
)
from swarmkit.ca.keyfile import Kek
from swarmkit.ca.root import NODE_VALIDITY, Root, Signer, check_roots, make_root
from swarmkit.ca.statedir import check_fips
from swarmkit.ca.tokens import JoinToken
from swarmkit.clock import Clock
from swarmkit.identity import new_id
from swarmkit.log import get_logger

log = get_logger(__name__)

ATTEMPTS = 5
#: Pause between attempts of the first issuance and of the root download, in seconds.
RETRY_PAUSE_SECONDS = 2.0
#: Deadline that a ``CaClient`` sets on each of its calls, in seconds.
CALL_SECONDS = 5.0

_FINAL = (api.IssuanceStatus.ISSUED, api.IssuanceStatus.ROTATE)


@dataclass(frozen=True)
class Connect:
    """What a connection to a manager's CA is for, and so how it is secured.

    Attributes:
        root_pem: trusted roots; None: the server is not verified (root download).
        credentials: shown to the server; None: no client certificate.
        to_ca: expect the server name ``swarm-ca`` instead of ``swarm-manager``.
        remote_only: do not use this node's own manager.
    """

    root_pem: bytes | None = None
    credentials: Credentials | None = None
    to_ca: bool = False
    remote_only: bool = False


class CaClient(Protocol):
    """One connection to one manager. Each call ends within ``CALL_SECONDS`` or raises ``CallTimeoutError``.

    All methods but ``close`` raise a ``CallError``.
    """

    async def get_root_ca_certificate(self) -> bytes:
        """Call CA.GetRootCACertificate and return the bundle."""
        ...

    async def get_unlock_key(self) -> api.GetUnlockKeyResponse:
        """Call CA.GetUnlockKey."""
        ...

    async def issue_node_certificate(
        self, request: api.IssueNodeCertificateRequest
    ) -> api.IssueNodeCertificateResponse:
        """Call NodeCA.IssueNodeCertificate."""
        ...

    async def node_certificate_status(
        self, request: api.NodeCertificateStatusRequest
    ) -> api.NodeCertificateStatusResponse:
        """Call NodeCA.NodeCertificateStatus."""
        ...

    async def close(self, success: bool) -> None:
        """End the connection; without ``success`` its manager is asked less often from now on."""
        ...


class CaConnector(Protocol):
    """Chooses a manager."""

    async def connect(self, how: Connect) -> CaClient:
        """Return a new connection.

        Raises:
            CallUnavailableError: the manager chosen does not answer; another one may.
            EnrollmentError: no manager is known (any more).
        """
        ...


@dataclass(frozen=True)
class Founding:
    """A new swarm's beginning: its root, whose key goes into the cluster object, and the first manager."""

    root: Root
    credentials: Credentials


def found_cluster(now: datetime.datetime) -> Founding:
    """Make a root, a cluster id, and the certificate of the first manager. Nothing is written."""
    root = make_root(now)
    request = new_request()
    subject = Subject(new_id(), MANAGER_ROLE, new_id())
    certificate = Signer(root.cert_pem, root.key_pem).sign(request.csr_pem, subject, now, NODE_VALIDITY)
    return Founding(root, Credentials.from_pem(root.cert_pem, certificate, request.key_pem))


@dataclass(frozen=True)
class Issued:
    """A certificate that was checked and not yet written.

    Attributes:
        credentials: with the root they verify under.
        kek: what encrypts the key on disk.
    """

    credentials: Credentials
    kek: Kek


@dataclass(frozen=True)
class _Answer:
    """What a manager issued."""

    node_id: str
    cert_pem: bytes
    key_pem: bytes = field(repr=False)


class Enroller:
    """Gets certificates from managers.

    Args:
        connector: makes the connections.
        clock: time.
        rng: randomness of the pauses.
        on_pending: told the node id, once, when an operator has to accept the node first.
        fips: the node runs in FIPS mode.
    """

    def __init__(
        self,
        connector: CaConnector,
        clock: Clock,
        rng: random.Random,
        on_pending: Callable[[str], None] = lambda _: None,
        *,
        fips: bool = False,
    ) -> None:
        self._connector = connector
        self._clock = clock
        self._rng = rng
        self._on_pending = on_pending
        self._fips = fips

    async def download_root(self, token: JoinToken | None) -> bytes:
        """Fetch the swarm's root bundle; the token's digest pins it, without one it is trusted as it comes.

        PARITY: a bundle that does not fit the token ends it at once; asking again would not mend that.

        Raises:
            FingerprintError: it is not the root the token names.
            EnrollmentError: no manager answered, or what it sent cannot be trusted.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                bundle = await self._fetch_root()
                break
            except CallRefusedError:
                raise
            except CallError as error:
                log.warning("the swarm's root certificate did not come", attempt=attempt, error=str(error))
                if attempt == ATTEMPTS:
                    raise EnrollmentError(f"cannot download the swarm's root certificate: {error}") from error
            await self._clock.sleep(RETRY_PAUSE_SECONDS)
        if token is not None and not token.pins(bundle):
            raise FingerprintError(token.digest.hex())
        return self._checked_root(bundle)

    async def _fetch_root(self) -> bytes:
        client = await self._connector.connect(Connect())
        success = False
        try:
            bundle = await client.get_root_ca_certificate()
            success = True
        finally:
            await client.close(success)
        return bundle

    def _checked_root(self, bundle: bytes) -> bytes:
        try:
            check_roots(bundle, self._clock.now())
        except CertificateError as error:
            raise EnrollmentError(f"the swarm's root certificate cannot be trusted: {error}") from error
        return bundle

    async def join(
        self,
        root_pem: bytes,
        token_text: str,
        availability: api.NodeSpec.Availability.ValueType = api.NodeSpec.ACTIVE,
    ) -> Issued:
        """Get the first certificate of this node; waits without end while an operator has to accept it.

        Args:
            root_pem: the swarm's root bundle, checked before.
            token_text: the whole join token, or empty.
            availability: what the node starts with.

        Raises:
            RejectedError: the swarm turned the node away.
            EnrollmentError: it did not work.
        """
        request = api.IssueNodeCertificateRequest(token=token_text, availability=availability)
        answer = await self._obtain(Connect(root_pem, to_ca=True), request, RETRY_PAUSE_SECONDS)
        try:
            credentials = self._checked(answer, root_pem)
        except CertificateError as error:
            raise EnrollmentError(f"the certificate the swarm issued cannot be used: {error}") from error
        return Issued(credentials, await self._kek(credentials))

    async def renew(self, current: Credentials) -> Issued:
        """Get a new certificate for the same node, with a new key.

        A worker adopts a new root of the swarm if its present certificate verifies under it.

        Raises:
            EnrollmentError: it did not work.
        """
        try:
            try:
                credentials = await self._renewed(current, current.root_pem)
            except UnknownAuthorityError:
                credentials = await self._renewed(current, await self._next_root(current))
        except CertificateError as error:
            raise EnrollmentError(f"the certificate the swarm issued cannot be used: {error}") from error
        return Issued(credentials, await self._kek(credentials))

    async def _renewed(self, current: Credentials, root_pem: bytes) -> Credentials:
        how = Connect(root_pem, current)
        answer = await self._obtain(how, api.IssueNodeCertificateRequest(), pause=0.0)
        try:
            credentials = self._checked(answer, root_pem)
        except UnknownAuthorityError as error:
            if _role(answer) == WORKER_ROLE and root_pem == current.root_pem:
                raise
            raise EnrollmentError(f"the certificate the swarm issued cannot be used: {error}") from error
        if (credentials.node_id, credentials.organization) != (current.node_id, current.organization):
            raise EnrollmentError("the swarm answered a renewal with the certificate of another node")
        return credentials

    async def _next_root(self, current: Credentials) -> bytes:
        """Fetch the root unpinned and adopt it if the present certificate, which was pinned, fits it."""
        bundle = self._checked_root(await self._fetch_root())
        try:
            verify_chain(current.cert_pem, bundle, self._clock.now())
        except CertificateError as error:
            raise EnrollmentError(
                f"the swarm shows a new root certificate that this node's own does not fit: {error}"
            ) from error
        log.info("the swarm has a new root certificate")
        return bundle

    # One request

    async def _obtain(self, how: Connect, request: api.IssueNodeCertificateRequest, pause: float) -> _Answer:
        """Ask up to five times, with one fresh key: a manager knows a repeated request by its bytes."""
        pair = new_request()
        asked = api.IssueNodeCertificateRequest()
        asked.CopyFrom(request)
        asked.csr = pair.csr_pem
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._attempt(how, asked, pair.key_pem)
            except CallRefusedError:
                raise
            except CallError as error:
                log.warning("the certificate request failed", attempt=attempt, error=str(error))
                if attempt == ATTEMPTS:
                    raise EnrollmentError(f"cannot get a certificate from the swarm: {error}") from error
            how = replace(how, remote_only=True)
            await self._clock.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    async def _attempt(
        self, how: Connect, request: api.IssueNodeCertificateRequest, key_pem: bytes
    ) -> _Answer:
        """Ask once and wait for the answer."""
        client = await self._connector.connect(how)
        try:
            response = await client.issue_node_certificate(request)
        except BaseException:
            await client.close(False)
            raise
        if response.node_membership == api.NodeSpec.PENDING:
            self._on_pending(response.node_id)
        certificate = await self._wait(client, how, response.node_id, request.csr)
        return _Answer(response.node_id, certificate, key_pem)

    async def _wait(self, client: CaClient | None, how: Connect, node_id: str, csr: bytes) -> bytes:
        """Wait for the node's certificate, on another manager when the connection breaks."""
        failures = 0
        while True:
            success = False
            try:
                if client is None:
                    client = await self._connector.connect(replace(how, remote_only=True))
                certificate = await self._poll(client, node_id, csr)
                success = True
                return certificate
            except CallRefusedError:
                raise
            except CallError as error:
                failures += 1
                log.warning("lost the manager that issues the certificate", node_id=node_id, error=str(error))
            finally:
                if client is not None:
                    await client.close(success)
                    client = None
            await self._clock.sleep(STATUS_POLLING.pause(failures, self._rng))

    async def _poll(self, client: CaClient, node_id: str, csr: bytes) -> bytes:
        """Poll until the node has its certificate; the manager holds each call while there is none.

        PARITY: FAILED, and a node that is gone, end this client; the original polls on for ever. After a
        call that timed out there is no further pause: it was held by the manager all that time.
        """
        request = api.NodeCertificateStatusRequest(node_id=node_id)
        polls = 0
        while True:
            try:
                response = await client.node_certificate_status(request)
            except CallTimeoutError:
                polls = 0
                continue
            except NoSuchNodeError as error:
                raise RejectedError(f"node {node_id} was turned away or removed by an operator") from error
            state = response.status.state
            if state == api.IssuanceStatus.FAILED:
                raise RejectedError(f"the swarm issues no certificate to this node: {response.status.err}")
            if state in _FINAL and response.certificate.csr == csr:
                return response.certificate.certificate
            polls += 1
            await self._clock.sleep(STATUS_POLLING.pause(polls, self._rng))

    def _checked(self, answer: _Answer, root_pem: bytes) -> Credentials:
        verify_chain(answer.cert_pem, root_pem, self._clock.now())
        check_pair(answer.cert_pem, answer.key_pem)
        try:
            credentials = Credentials.from_pem(root_pem, answer.cert_pem, answer.key_pem)
        except CredentialsError as error:
            raise CertificateError(str(error)) from error
        if credentials.node_id != answer.node_id:
            raise CertificateError("it names another node")
        check_fips(credentials.organization, fips=self._fips)
        return credentials

    async def _kek(self, credentials: Credentials) -> Kek:
        """Ask for the unlock key before anything is written: a locked swarm's key never lies open on disk."""
        if credentials.role != MANAGER_ROLE:
            return Kek()
        how = Connect(credentials.root_pem, credentials, to_ca=True)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._ask_unlock_key(how)
            except NotServedError:
                return Kek()
            except CallRefusedError:
                raise
            except CallError as error:
                log.warning("the unlock key did not come", attempt=attempt, error=str(error))
                if attempt == ATTEMPTS:
                    raise EnrollmentError(f"cannot learn whether the swarm is locked: {error}") from error
            how = replace(how, remote_only=True)
            await self._clock.sleep(RETRY_PAUSE_SECONDS)
        raise AssertionError("the last attempt returns or raises")

    async def _ask_unlock_key(self, how: Connect) -> Kek:
        client = await self._connector.connect(how)
        success = False
        try:
            response = await client.get_unlock_key()
            success = True
        except NotServedError:
            success = True
            raise
        finally:
            await client.close(success)
        return Kek(response.unlock_key, response.version.index)


def _role(answer: _Answer) -> str:
    try:
        return Credentials.from_pem(b"", answer.cert_pem, b"").role
    except CredentialsError:
        return ""
