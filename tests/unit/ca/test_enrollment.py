"""How a node gets its certificate (contract/security.md, 6 and 7; cases 4, 30, 36, 38, 44)."""

import random
from collections.abc import Callable, Iterable

import pytest
from cryptography import x509

from swarmkit.api import messages as api
from swarmkit.ca.certificates import MANAGER_ROLE, WORKER_ROLE, Subject, new_request
from swarmkit.ca.credentials import Credentials
from swarmkit.ca.enrollment import CALL_SECONDS, Connect, Enroller
from swarmkit.ca.errors import (
    CallRefusedError,
    CallTimeoutError,
    CallUnavailableError,
    EnrollmentError,
    FingerprintError,
    NoSuchNodeError,
    NotServedError,
    RejectedError,
    StateDirError,
)
from swarmkit.ca.keyfile import Kek
from swarmkit.ca.root import NODE_VALIDITY, Root, Signer
from swarmkit.ca.tokens import new_join_token, parse_join_token
from tests.fakes.loop import VirtualClock
from tests.unit.ca.builders import CLUSTER, DAY, HOUR, NODE, NOW, OTHER_ROOT, ROOT, issue, make

State = api.IssuanceStatus
Status = api.NodeCertificateStatusResponse
UNLOCK = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
Move = Callable[["Manager"], Status]


class Manager:
    """Stands in for the connector and for the managers behind it: a script of what happens on each call."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.root = ROOT
        self.role = WORKER_ROLE
        self.node_id = NODE
        self.cluster = CLUSTER
        self.membership = api.NodeSpec.ACCEPTED
        self.served_root = ROOT.cert_pem
        self.unlock_key: bytes | Exception = b""
        self.validity = NODE_VALIDITY
        self.failures: dict[str, list[Exception]] = {}
        self.statuses: list[Move] = []
        self.connects: list[Connect] = []
        self.closes: list[bool] = []
        self.requests: list[api.IssueNodeCertificateRequest] = []
        self.calls: list[str] = []

    def _call(self, name: str) -> None:
        self.calls.append(name)
        failures = self.failures.get(name, [])
        if failures:
            raise failures.pop(0)

    async def connect(self, how: Connect) -> "Manager":
        self.connects.append(how)
        self._call("connect")
        return self

    async def close(self, success: bool) -> None:
        self.closes.append(success)

    async def get_root_ca_certificate(self) -> bytes:
        self._call("root")
        return self.served_root

    async def get_unlock_key(self) -> api.GetUnlockKeyResponse:
        self._call("unlock")
        if isinstance(self.unlock_key, Exception):
            raise self.unlock_key
        return api.GetUnlockKeyResponse(unlock_key=self.unlock_key, version=api.Version(index=7))

    async def issue_node_certificate(
        self, request: api.IssueNodeCertificateRequest
    ) -> api.IssueNodeCertificateResponse:
        self._call("issue")
        self.requests.append(request)
        return api.IssueNodeCertificateResponse(node_id=self.node_id, node_membership=self.membership)

    async def node_certificate_status(self, request: api.NodeCertificateStatusRequest) -> Status:
        self._call("status")
        assert request.node_id == self.node_id
        move = self.statuses.pop(0) if self.statuses else issued
        answer = move(self)
        if answer.status.state == State.UNKNOWN:  # the manager held the call until its deadline
            await self.clock.sleep(CALL_SECONDS)
            raise CallTimeoutError("deadline exceeded")
        return answer

    def answer(self, state: str, *, csr: bytes = b"", err: str = "") -> Status:
        asked = csr or self.requests[-1].csr
        chain = b""
        if state in ("ISSUED", "ROTATE"):
            subject = Subject(self.node_id, self.role, self.cluster)
            signer = Signer(self.root.cert_pem, self.root.key_pem)
            chain = signer.sign(asked, subject, self.clock.now(), self.validity)
        status = State(state=State.State.Value(state), err=err)
        return Status(status=status, certificate=api.Certificate(csr=asked, certificate=chain, status=status))


def issued(manager: Manager) -> Status:
    return manager.answer("ISSUED")


def held(_: Manager) -> Status:
    return Status()


@pytest.fixture
def manager(clock: VirtualClock) -> Manager:
    return Manager(clock)


@pytest.fixture
def pending() -> list[str]:
    return []


@pytest.fixture
def enroller(manager: Manager, clock: VirtualClock, pending: list[str]) -> Enroller:
    return Enroller(manager, clock, random.Random(1), pending.append)


def unavailable(count: int) -> list[Exception]:
    return [CallUnavailableError(f"gone {number}") for number in range(count)]


# Root download


async def test_the_root_is_fetched_unverified_and_pinned_by_the_token(
    enroller: Enroller, manager: Manager
) -> None:
    token = parse_join_token(new_join_token(ROOT.cert_pem))
    assert await enroller.download_root(token) == ROOT.cert_pem
    assert await enroller.download_root(None) == ROOT.cert_pem
    assert manager.connects == [Connect(), Connect()]
    assert manager.closes == [True, True]


@pytest.mark.parametrize("fips", [False, True])
async def test_a_root_that_the_token_does_not_pin_ends_it(enroller: Enroller, fips: bool) -> None:
    token = parse_join_token(new_join_token(OTHER_ROOT.cert_pem, fips=fips))
    with pytest.raises(FingerprintError, match=f"not match fingerprint. Expected: {token.digest.hex()}"):
        await enroller.download_root(token)


async def test_the_root_download_is_tried_five_times_two_seconds_apart(
    enroller: Enroller, manager: Manager, clock: VirtualClock
) -> None:
    manager.failures["root"] = unavailable(4)
    assert await enroller.download_root(None) == ROOT.cert_pem
    assert clock.monotonic() == 8
    assert manager.closes == [False] * 4 + [True]
    manager.failures["root"] = unavailable(5)
    with pytest.raises(EnrollmentError, match="cannot download the swarm's root certificate: gone 4"):
        await enroller.download_root(None)


@pytest.mark.parametrize("bundle", [b"", b"garbage", make(end=-HOUR).pem, make(authority=False).pem])
async def test_a_root_that_cannot_be_trusted_is_refused_even_if_pinned(
    enroller: Enroller, manager: Manager, bundle: bytes
) -> None:
    manager.served_root = bundle
    for token in (None, parse_join_token(new_join_token(bundle))):
        with pytest.raises(EnrollmentError, match="cannot be trusted"):
            await enroller.download_root(token)


# The first certificate


async def test_joining_shows_no_certificate_asks_for_the_authority_and_sends_the_whole_token(
    enroller: Enroller, manager: Manager, pending: list[str]
) -> None:
    result = await enroller.join(ROOT.cert_pem, "token", api.NodeSpec.DRAIN)
    assert manager.connects == [Connect(ROOT.cert_pem, to_ca=True)]
    (request,) = manager.requests
    assert (request.token, request.availability) == ("token", api.NodeSpec.DRAIN)
    assert x509.load_pem_x509_csr(request.csr).subject == x509.Name([])
    credentials = result.credentials
    assert (credentials.node_id, credentials.role, credentials.organization) == (NODE, WORKER_ROLE, CLUSTER)
    assert result.kek == Kek()
    assert manager.calls == ["connect", "issue", "status"]
    assert manager.closes == [True]
    assert pending == []


async def test_a_pending_node_says_so_once_and_waits_without_end(
    enroller: Enroller, manager: Manager, clock: VirtualClock, pending: list[str]
) -> None:
    manager.membership = api.NodeSpec.PENDING
    manager.statuses = [held] * 1000
    assert (await enroller.join(ROOT.cert_pem, "")).credentials.node_id == NODE
    assert pending == [NODE]
    assert clock.monotonic() == 1000 * CALL_SECONDS
    assert manager.calls.count("issue") == 1


async def test_an_answer_that_is_not_final_is_asked_for_again_with_growing_pauses(
    enroller: Enroller, manager: Manager, clock: VirtualClock
) -> None:
    manager.statuses = [lambda m: m.answer("PENDING")] * 100
    await enroller.join(ROOT.cert_pem, "")
    assert 100 * 5 < clock.monotonic() < 100 * 30


async def test_a_certificate_for_another_request_is_not_taken(enroller: Enroller, manager: Manager) -> None:
    other = new_request().csr_pem
    manager.statuses = [lambda m: m.answer("ISSUED", csr=other)] * 3
    await enroller.join(ROOT.cert_pem, "")
    assert manager.calls.count("status") == 4


async def test_rotate_is_as_good_as_issued(enroller: Enroller, manager: Manager) -> None:
    manager.statuses = [lambda m: m.answer("ROTATE")]
    assert await enroller.join(ROOT.cert_pem, "")


async def test_a_rejected_node_ends_with_the_swarms_text(enroller: Enroller, manager: Manager) -> None:
    manager.statuses = [held, lambda m: m.answer("FAILED", err="no room for you")]
    with pytest.raises(RejectedError, match="issues no certificate to this node: no room for you"):
        await enroller.join(ROOT.cert_pem, "")
    assert manager.closes == [False]


async def test_a_node_removed_while_it_waits_ends(enroller: Enroller, manager: Manager) -> None:
    manager.failures["status"] = [NoSuchNodeError("NotFound")]
    with pytest.raises(RejectedError, match=f"node {NODE} was turned away or removed by an operator"):
        await enroller.join(ROOT.cert_pem, "")


async def test_a_refused_request_ends_at_once_with_its_text(enroller: Enroller, manager: Manager) -> None:
    manager.failures["issue"] = [CallRefusedError("A valid join token is necessary to join this cluster")]
    with pytest.raises(CallRefusedError, match="A valid join token"):
        await enroller.join(ROOT.cert_pem, "bad")
    assert manager.calls == ["connect", "issue"]
    assert manager.closes == [False]


async def test_a_failed_request_is_not_polled_but_repeated_with_the_same_bytes(
    enroller: Enroller, manager: Manager, clock: VirtualClock
) -> None:
    manager.failures["issue"] = [*unavailable(2), CallTimeoutError("late")]
    manager.failures["connect"] = unavailable(1)
    await enroller.join(ROOT.cert_pem, "")
    assert clock.monotonic() == 8
    assert manager.calls == ["connect", *["connect", "issue"] * 4, "status"]
    assert [how.remote_only for how in manager.connects] == [False, True, True, True, True]


async def test_after_five_failures_the_join_ends(enroller: Enroller, manager: Manager) -> None:
    manager.failures["issue"] = unavailable(5)
    with pytest.raises(EnrollmentError, match="cannot get a certificate from the swarm: gone 4"):
        await enroller.join(ROOT.cert_pem, "")


async def test_a_lost_connection_goes_on_elsewhere_with_the_same_node(
    enroller: Enroller, manager: Manager
) -> None:
    manager.failures["status"] = unavailable(3)
    assert (await enroller.join(ROOT.cert_pem, "")).credentials.node_id == NODE
    assert manager.calls == ["connect", "issue", *["status", "connect"] * 3, "status"]
    assert [how.remote_only for how in manager.connects] == [False, True, True, True]
    assert manager.closes == [False, False, False, True]


async def test_a_manager_that_restarts_while_the_node_waits_is_waited_for(
    enroller: Enroller, manager: Manager
) -> None:
    manager.statuses = [held]
    original = manager.connect
    outage = unavailable(20)

    async def connect(how: Connect) -> Manager:
        if manager.calls.count("issue") and outage:
            raise outage.pop()
        return await original(how)

    manager.connect = connect  # type: ignore[method-assign]
    manager.failures["status"] = unavailable(1)
    assert await enroller.join(ROOT.cert_pem, "")
    assert manager.calls.count("issue") == 1
    assert outage == []


async def test_when_no_manager_is_known_any_more_the_join_ends(enroller: Enroller, manager: Manager) -> None:
    manager.failures["status"] = unavailable(1)
    original = manager.connect

    async def connect(how: Connect) -> Manager:
        if how.remote_only:
            raise EnrollmentError("no manager is known")
        return await original(how)

    manager.connect = connect  # type: ignore[method-assign]
    with pytest.raises(EnrollmentError, match="no manager is known"):
        await enroller.join(ROOT.cert_pem, "")


# What is checked of the answer


def wrong_answers() -> Iterable[tuple[Move, str]]:
    def of_another_key(manager: Manager) -> Status:
        answer = manager.answer("ISSUED")
        answer.certificate.certificate = issue(node_id=NODE).cert_pem
        return answer

    def of_another_node(manager: Manager) -> Status:
        manager.node_id = "another"
        answer = manager.answer("ISSUED")
        manager.node_id = NODE
        return answer

    def of_another_root(manager: Manager) -> Status:
        manager.root = OTHER_ROOT
        return manager.answer("ISSUED")

    def garbage(manager: Manager) -> Status:
        answer = manager.answer("ISSUED")
        answer.certificate.certificate = b"garbage"
        return answer

    yield of_another_key, "does not fit its certificate"
    yield of_another_node, "names another node"
    yield of_another_root, "unknown authority"
    yield garbage, "no certificate found"


@pytest.mark.parametrize(("move", "text"), [*wrong_answers()])
async def test_a_certificate_that_is_not_ours_is_refused(
    enroller: Enroller, manager: Manager, move: Move, text: str
) -> None:
    manager.statuses = [move]
    with pytest.raises(EnrollmentError, match=text):
        await enroller.join(ROOT.cert_pem, "")


async def test_a_fips_cluster_is_refused_by_a_node_without_fips(
    manager: Manager, clock: VirtualClock
) -> None:
    manager.cluster = "FIPS.abc"
    with pytest.raises(StateDirError, match="cluster requires FIPS"):
        await Enroller(manager, clock, random.Random(1)).join(ROOT.cert_pem, "")
    assert await Enroller(manager, clock, random.Random(1), fips=True).join(ROOT.cert_pem, "")


# The unlock key


async def test_a_manager_asks_for_the_unlock_key_with_its_new_certificate(
    enroller: Enroller, manager: Manager
) -> None:
    manager.role = MANAGER_ROLE
    manager.unlock_key = UNLOCK
    result = await enroller.join(ROOT.cert_pem, "")
    assert result.kek == Kek(UNLOCK, 7)
    assert manager.connects[-1] == Connect(ROOT.cert_pem, result.credentials, to_ca=True)
    manager.unlock_key = b""
    assert (await enroller.join(ROOT.cert_pem, "")).kek == Kek(b"", 7)


async def test_a_worker_never_asks_for_it(enroller: Enroller, manager: Manager) -> None:
    await enroller.join(ROOT.cert_pem, "")
    assert "unlock" not in manager.calls


async def test_a_manager_that_does_not_serve_the_unlock_key_has_none(
    enroller: Enroller, manager: Manager
) -> None:
    manager.role = MANAGER_ROLE
    manager.unlock_key = NotServedError("unimplemented")
    assert (await enroller.join(ROOT.cert_pem, "")).kek == Kek()
    assert manager.calls.count("unlock") == 1


async def test_without_an_answer_about_the_unlock_key_there_are_no_credentials(
    enroller: Enroller, manager: Manager
) -> None:
    manager.role = MANAGER_ROLE
    manager.failures["unlock"] = unavailable(4)
    assert await enroller.join(ROOT.cert_pem, "")
    manager.failures["unlock"] = unavailable(5)
    with pytest.raises(EnrollmentError, match="cannot learn whether the swarm is locked"):
        await enroller.join(ROOT.cert_pem, "")


# Renewal


async def test_a_renewal_shows_the_certificate_and_has_no_token(
    enroller: Enroller, manager: Manager, clock: VirtualClock
) -> None:
    current = issue()
    renewed = (await enroller.renew(current)).credentials
    assert manager.connects == [Connect(ROOT.cert_pem, current)]
    assert manager.requests[0].token == ""
    assert (renewed.node_id, renewed.organization) == (current.node_id, current.organization)
    assert renewed.key_pem != current.key_pem
    assert clock.monotonic() == 0


async def test_renewals_are_tried_five_times_without_a_pause_remotely_after_the_first(
    enroller: Enroller, manager: Manager, clock: VirtualClock
) -> None:
    manager.failures["issue"] = unavailable(4)
    await enroller.renew(issue())
    assert clock.monotonic() == 0
    assert [how.remote_only for how in manager.connects] == [False, True, True, True, True]


async def test_the_certificate_of_another_cluster_is_no_renewal(enroller: Enroller, manager: Manager) -> None:
    manager.cluster = "another"
    with pytest.raises(EnrollmentError, match="certificate of another node"):
        await enroller.renew(issue())


def successor(root: Root, current: Credentials) -> bytes:
    """A bundle with a new root, under which the current certificate still verifies."""
    return root.cert_pem + current.root_pem


async def test_a_worker_adopts_a_new_root_that_its_certificate_fits(
    enroller: Enroller, manager: Manager
) -> None:
    current = issue()
    manager.root = OTHER_ROOT
    manager.served_root = successor(OTHER_ROOT, current)
    renewed = (await enroller.renew(current)).credentials
    assert renewed.root_pem == manager.served_root
    assert manager.calls == ["connect", "issue", "status", "connect", "root", "connect", "issue", "status"]
    assert manager.connects[1] == Connect()


async def test_a_worker_does_not_adopt_a_root_that_its_certificate_does_not_fit(
    enroller: Enroller, manager: Manager
) -> None:
    manager.root = OTHER_ROOT
    manager.served_root = OTHER_ROOT.cert_pem
    with pytest.raises(EnrollmentError, match="that this node's own does not fit"):
        await enroller.renew(issue())


async def test_a_manager_does_not_adopt_a_root(enroller: Enroller, manager: Manager) -> None:
    current = issue(MANAGER_ROLE)
    manager.role = MANAGER_ROLE
    manager.root = OTHER_ROOT
    manager.served_root = successor(OTHER_ROOT, current)
    with pytest.raises(EnrollmentError, match="unknown authority"):
        await enroller.renew(current)
    assert "root" not in manager.calls


async def test_an_expired_answer_is_an_error_and_fetches_no_root(
    enroller: Enroller, manager: Manager
) -> None:
    def expired(manager: Manager) -> Status:
        answer = manager.answer("ISSUED")
        subject = Subject(NODE, WORKER_ROLE, CLUSTER)
        signer = Signer(ROOT.cert_pem, ROOT.key_pem)
        answer.certificate.certificate = signer.sign(answer.certificate.csr, subject, NOW, HOUR)
        return answer

    manager.clock.now = lambda: NOW + 2 * DAY  # type: ignore[method-assign]
    manager.statuses = [expired]
    with pytest.raises(EnrollmentError, match="not valid after"):
        await enroller.renew(issue())
    assert "root" not in manager.calls
