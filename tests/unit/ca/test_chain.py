"""Chain validation and issuer information (contract/security.md, 3.4; cases 12, 13, 17)."""

import pytest

from swarmkit.ca.chain import tls_info, verify_chain
from swarmkit.ca.errors import CertificateError, ExpiredError, UnknownAuthorityError
from swarmkit.ca.tokens import new_join_token, parse_join_token
from swarmkit.ca.x509util import raw_fields
from tests.unit.ca.builders import DAY, NOW, OTHER_ROOT, ROOT, issue, make

OLD = make("old root")
NEW = make("new root")
CROSSED = make("new root", OLD, key=NEW.key)
LEAF = make("leaf", NEW, authority=False)


def test_a_chain_is_returned_from_the_leaf_to_the_root() -> None:
    verified = verify_chain(LEAF.pem + CROSSED.pem, OLD.pem, NOW)
    assert verified == [LEAF.certificate, CROSSED.certificate, OLD.certificate]
    assert verify_chain(LEAF.pem, NEW.pem, NOW) == [LEAF.certificate, NEW.certificate]


def test_a_root_at_the_end_and_an_intermediate_alone_are_valid() -> None:
    assert verify_chain(LEAF.pem + CROSSED.pem + OLD.pem, OLD.pem, NOW)[-1] == OLD.certificate
    assert verify_chain(CROSSED.pem, OLD.pem, NOW) == [CROSSED.certificate, OLD.certificate]


def test_a_leaf_without_its_intermediate_does_not_lead_to_the_old_root() -> None:
    with pytest.raises(UnknownAuthorityError):
        verify_chain(LEAF.pem, OLD.pem, NOW)


@pytest.mark.parametrize(
    "chain",
    [
        LEAF.pem + CROSSED.pem + LEAF.pem,
        CROSSED.pem + LEAF.pem,
        LEAF.pem + OLD.pem,
        LEAF.pem + LEAF.pem,
    ],
)
def test_certificates_that_do_not_follow_from_each_other_are_refused(chain: bytes) -> None:
    with pytest.raises(CertificateError, match="certificates do not form a chain"):
        verify_chain(chain, OLD.pem + NEW.pem, NOW)


def test_a_foreign_root_is_refused_even_with_the_same_name() -> None:
    with pytest.raises(UnknownAuthorityError):
        verify_chain(issue().cert_pem, OTHER_ROOT.cert_pem, NOW)


def test_a_certificate_that_is_no_authority_signs_nothing() -> None:
    child = make("child", LEAF, authority=False)
    with pytest.raises(CertificateError, match="do not form a chain"):
        verify_chain(child.pem + LEAF.pem, NEW.pem, NOW)
    with pytest.raises(UnknownAuthorityError):
        verify_chain(child.pem, LEAF.pem, NOW)


def test_a_path_length_is_kept() -> None:
    root = make("short", path_length=0)
    middle = make("middle", root)
    leaf = make("end", middle, authority=False)
    with pytest.raises(UnknownAuthorityError, match="allows 0 intermediates"):
        verify_chain(leaf.pem + middle.pem, root.pem, NOW)
    assert verify_chain(middle.pem, root.pem, NOW)


def test_the_text_names_the_position_of_an_expired_member() -> None:
    expired = make("leaf", NEW, authority=False, begin=-3 * DAY, end=-DAY)
    with pytest.raises(ExpiredError, match=r"certificate \(1 - leaf\) not valid after 2025-12-31T"):
        verify_chain(expired.pem + CROSSED.pem, OLD.pem, NOW)
    crossed = make("new root", OLD, key=NEW.key, begin=-3 * DAY, end=-DAY)
    with pytest.raises(ExpiredError, match=r"certificate \(2 - new root\) not valid after"):
        verify_chain(LEAF.pem + crossed.pem, OLD.pem + NEW.pem, NOW)


def test_a_member_of_the_future_is_refused_even_where_expired_ones_pass() -> None:
    future = make("leaf", NEW, authority=False, begin=DAY)
    for allow_expired in (False, True):
        with pytest.raises(ExpiredError, match=r"certificate \(1 - leaf\) not valid before 2026-01-02T"):
            verify_chain(future.pem, NEW.pem, NOW, allow_expired=allow_expired)


def test_an_expired_root_does_not_count_unless_allowed() -> None:
    root = make("root", begin=-9 * DAY, end=-DAY)
    leaf = make("leaf", root, authority=False)
    with pytest.raises(ExpiredError, match="the root certificate root is not valid"):
        verify_chain(leaf.pem, root.pem, NOW)
    assert verify_chain(leaf.pem, root.pem, NOW, allow_expired=True)


def test_of_two_fitting_roots_the_valid_one_is_taken() -> None:
    old = make("root", begin=-9 * DAY, end=-DAY)
    new = make("root", key=old.key)
    leaf = make("leaf", new, authority=False)
    assert verify_chain(leaf.pem, old.pem + new.pem, NOW)[-1] == new.certificate


def test_expired_members_pass_if_one_instant_fits_all() -> None:
    leaf = make("leaf", NEW, authority=False, begin=-5 * DAY, end=-2 * DAY)
    crossed = make("new root", OLD, key=NEW.key, begin=-3 * DAY, end=-DAY)
    old = make("old root", key=OLD.key, begin=-9 * DAY)
    assert verify_chain(leaf.pem + crossed.pem, old.pem, NOW, allow_expired=True)
    later = make("new root", OLD, key=NEW.key, begin=-DAY)
    with pytest.raises(ExpiredError, match="there is no time span"):
        verify_chain(leaf.pem + later.pem, old.pem, NOW, allow_expired=True)


@pytest.mark.parametrize("chain", [b"", b"garbage", ROOT.key_pem])
def test_what_is_not_a_chain_is_refused(chain: bytes) -> None:
    with pytest.raises(CertificateError):
        verify_chain(chain, ROOT.cert_pem, NOW)


def test_a_very_long_chain_is_refused_unseen() -> None:
    with pytest.raises(CertificateError, match="too long"):
        verify_chain(9 * ROOT.cert_pem, ROOT.cert_pem, NOW)


def test_the_issuer_is_the_second_of_the_verified_chain_in_raw_bytes() -> None:
    info = tls_info(verify_chain(LEAF.pem + CROSSED.pem, OLD.pem, NOW), OLD.pem)
    assert info.trust_root == OLD.pem
    assert info.cert_issuer_subject == raw_fields(NEW.certificate).subject
    assert info.cert_issuer_public_key == raw_fields(NEW.certificate).public_key
    assert info.cert_issuer_subject in NEW.certificate.tbs_certificate_bytes


def test_a_bundle_of_two_pins_as_a_whole_and_verifies_leaves_of_both() -> None:
    bundle = ROOT.cert_pem + OTHER_ROOT.cert_pem
    token = parse_join_token(new_join_token(bundle))
    assert token.pins(bundle)
    assert not token.pins(ROOT.cert_pem)
    for root in (ROOT, OTHER_ROOT):
        assert verify_chain(issue(root=root).cert_pem, bundle, NOW)
