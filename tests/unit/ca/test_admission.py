"""Who may join (contract/security.md, 6.3 and 12; cases 30, 31, 69, 71, 73)."""

import pytest

from swarmkit.api import messages as api
from swarmkit.ca.admission import (
    Admission,
    RateLimit,
    RecentRequests,
    admit,
    is_final,
    needs_signature,
    secret_for,
)
from swarmkit.ca.bootstrap import root_ca_object
from swarmkit.ca.errors import InvalidRequestError
from swarmkit.ca.policysecret import wrong_secret
from tests.unit.ca.builders import ROOT

W, M = api.NodeRole.WORKER, api.NodeRole.MANAGER
ACCEPTED, PENDING = api.NodeSpec.ACCEPTED, api.NodeSpec.PENDING
Secret = api.AcceptancePolicy.RoleAdmissionPolicy.Secret
HASH = b"$2b$04$r9.fdV3QEIa8kwtcCdQMI.Cxz/AX452so3VwtQxGzPOIh5MPdAFHy"
TOKEN_TEXT = "A valid join token is necessary to join this cluster"


def cluster(*policies: api.AcceptancePolicy.RoleAdmissionPolicy) -> api.Cluster:
    made = api.Cluster(id="c", root_ca=root_ca_object(ROOT.cert_pem))
    made.spec.acceptance_policy.policies.extend(policies)
    return made


def policy(
    role: api.NodeRole.ValueType, autoaccept: bool, secret: Secret | None = None
) -> api.AcceptancePolicy.RoleAdmissionPolicy:
    return api.AcceptancePolicy.RoleAdmissionPolicy(role=role, autoaccept=autoaccept, secret=secret)


SECRET = Secret(data=HASH, alg="bcrypt")


@pytest.mark.parametrize("role", [W, M])
@pytest.mark.parametrize("policies", [(), (policy(W, False), policy(M, False, SECRET))])
def test_a_join_token_decides_the_role_alone_policy_or_not(
    role: api.NodeRole.ValueType, policies: tuple[api.AcceptancePolicy.RoleAdmissionPolicy, ...]
) -> None:
    stored = cluster(*policies)
    tokens = stored.root_ca.join_tokens
    for token, granted in ((tokens.worker, W), (tokens.manager, M)):
        admission = admit(stored, token, role, from_loopback=False)
        assert admission == Admission(granted, ACCEPTED, anonymous=False)
        assert secret_for(stored, token, role) is None


def test_a_wrong_token_is_refused_even_from_the_loopback() -> None:
    stored = cluster()
    rotated = root_ca_object(ROOT.cert_pem).join_tokens.worker
    for token in (rotated, rotated[:-1], "SWMTKN-", "a secret", stored.root_ca.join_tokens.worker + " "):
        with pytest.raises(InvalidRequestError, match=TOKEN_TEXT):
            admit(stored, token, W, from_loopback=True)


def test_a_cluster_without_tokens_admits_nobody_by_token() -> None:
    stored = api.Cluster(id="c")
    with pytest.raises(InvalidRequestError):
        admit(stored, "SWMTKN-1--", W, from_loopback=True)


@pytest.mark.parametrize(
    ("role", "loopback", "membership"),
    [(W, True, ACCEPTED), (W, False, PENDING), (M, True, PENDING), (M, False, PENDING)],
)
def test_without_a_token_only_a_worker_from_the_loopback_is_accepted_at_once(
    role: api.NodeRole.ValueType, loopback: bool, membership: api.NodeSpec.Membership.ValueType
) -> None:
    assert admit(cluster(), "", role, from_loopback=loopback) == Admission(role, membership, anonymous=True)


@pytest.mark.parametrize(
    ("policies", "worker", "manager"),
    [
        ([policy(W, True), policy(M, False)], ACCEPTED, PENDING),
        ([policy(W, False), policy(M, True)], PENDING, PENDING),
        ([policy(M, True)], PENDING, PENDING),
    ],
)
def test_a_policy_decides_for_workers_from_anywhere_and_never_alone_for_managers(
    policies: list[api.AcceptancePolicy.RoleAdmissionPolicy],
    worker: api.NodeSpec.Membership.ValueType,
    manager: api.NodeSpec.Membership.ValueType,
) -> None:
    stored = cluster(*policies)
    for loopback in (True, False):
        assert admit(stored, "", W, from_loopback=loopback).membership == worker
        assert admit(stored, "", M, from_loopback=loopback).membership == manager


def test_a_proven_secret_admits_as_the_policy_of_its_role_says() -> None:
    stored = cluster(policy(W, False, SECRET), policy(M, True, SECRET))
    assert admit(stored, "s", W, from_loopback=True, proven=True) == Admission(W, PENDING, anonymous=False)
    assert admit(stored, "s", M, from_loopback=False, proven=True) == Admission(M, ACCEPTED, anonymous=False)


def test_a_role_whose_policy_has_a_secret_is_not_admitted_without() -> None:
    stored = cluster(policy(W, True, SECRET))
    assert secret_for(stored, "", W) == SECRET
    assert secret_for(stored, "", M) is None
    for token in ("", "s"):
        with pytest.raises(InvalidRequestError):
            admit(stored, token, W, from_loopback=True)


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="no role 7"):
        admit(cluster(), "", 7, from_loopback=True)  # type: ignore[arg-type]


def test_a_secret_is_checked_against_its_hash() -> None:
    assert wrong_secret(SECRET, "geheim") == ""
    assert wrong_secret(Secret(data=HASH, alg="BCRYPT"), "geheim") == ""
    assert wrong_secret(SECRET, "") == "none was given"
    assert wrong_secret(SECRET, "other") == "it is not the right one"
    assert "not supported: sha1" in wrong_secret(Secret(data=HASH, alg="sha1"), "geheim")
    for data in (b"", b"[REDACTED]", b"$2b$x$", b"$2b$04$short"):
        assert "malformed" in wrong_secret(Secret(data=data, alg="bcrypt"), "geheim")
    assert "more than 14" in wrong_secret(Secret(data=HASH.replace(b"$04", b"$31"), alg="bcrypt"), "geheim")
    assert wrong_secret(SECRET, 100 * "é") == "it is not the right one"


def node(state: str, membership: api.NodeSpec.Membership.ValueType) -> api.Node:
    made = api.Node(spec=api.NodeSpec(membership=membership))
    made.certificate.status.state = api.IssuanceStatus.State.Value(state)
    return made


@pytest.mark.parametrize(
    ("state", "accepted", "pending", "final"),
    [
        ("UNKNOWN", False, False, False),
        ("RENEW", True, True, False),
        ("PENDING", True, False, False),
        ("ISSUED", False, False, True),
        ("FAILED", False, False, True),
        ("ROTATE", False, False, True),
    ],
)
def test_what_the_signer_does_in_each_state(state: str, accepted: bool, pending: bool, final: bool) -> None:
    assert needs_signature(node(state, ACCEPTED)) is accepted
    assert needs_signature(node(state, PENDING)) is pending
    assert is_final(node(state, ACCEPTED)) is is_final(node(state, PENDING)) is final


def test_an_address_has_its_burst_and_then_its_interval() -> None:
    limit = RateLimit(burst=2, interval=10.0, addresses=8)
    assert [limit.take("192.0.2.1", 0.0) for _ in range(3)] == [True, True, False]
    assert limit.take("192.0.2.2", 0.0)
    assert not limit.take("192.0.2.1", 9.0)
    assert limit.take("192.0.2.1", 10.0)
    assert not limit.take("192.0.2.1", 10.5)
    assert [limit.take("192.0.2.1", 1000.0) for _ in range(3)] == [True, True, False]


def test_one_ipv6_network_one_mapped_address_and_all_unknown_ones_count_as_one() -> None:
    for first, second in (
        ("2001:db8::1", "2001:db8::ffff:1"),
        ("192.0.2.1", "::ffff:192.0.2.1"),
        ("", "unparsable"),
    ):
        limit = RateLimit(burst=1, interval=10.0, addresses=8)
        assert limit.take(first, 0.0)
        assert not limit.take(second, 0.0)
    limit = RateLimit(burst=1, interval=10.0, addresses=8)
    assert limit.take("2001:db8::1", 0.0)
    assert limit.take("2001:db8:0:1::1", 0.0)


def test_the_address_silent_for_longest_is_forgotten_first() -> None:
    limit = RateLimit(burst=1, interval=1000.0, addresses=2)
    for ip in ("192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.3"):
        limit.take(ip, 0.0)
    assert not limit.take("192.0.2.1", 1.0)
    assert limit.take("192.0.2.2", 1.0)


def test_requests_are_remembered_by_their_bytes_up_to_the_limit() -> None:
    recent = RecentRequests(2)
    for csr in (b"a", b"b", b"c"):
        recent.put(csr, csr.decode())
    assert [recent.get(csr) for csr in (b"a", b"b", b"c", b"d")] == [None, "b", "c", None]
