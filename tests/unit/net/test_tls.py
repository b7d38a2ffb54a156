import ssl

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from swarmkit.ca.credentials import Credentials
from swarmkit.net.tls import CertificateIdentityError, control_context, identity, remote_context
from tests.fakes.pki import FakeAuthority

SUBJECT = {
    "subject": (
        (("organizationName", "cluster-1"),),
        (("organizationalUnitName", "swarm-worker"),),
        (("organizationalUnitName", "swarm-manager"),),
        (("commonName", "node-1"),),
    )
}


def test_the_identity_is_cn_all_ous_and_o() -> None:
    assert identity(SUBJECT) == ("node-1", frozenset({"swarm-worker", "swarm-manager"}), "cluster-1")


@pytest.mark.parametrize("missing", ["commonName", "organizationName", "organizationalUnitName"])
def test_a_certificate_that_names_no_node_is_an_error(missing: str) -> None:
    subject = tuple(part for part in SUBJECT["subject"] if part[0][0] != missing)
    with pytest.raises(CertificateIdentityError):
        identity({"subject": subject})
    emptied = tuple(((key, "" if key == missing else value),) for ((key, value),) in SUBJECT["subject"])
    with pytest.raises(CertificateIdentityError):
        identity({"subject": emptied})


def test_the_port_asks_for_a_certificate_and_the_socket_does_not() -> None:
    credentials = FakeAuthority().manager()
    assert remote_context(credentials).verify_mode is ssl.CERT_OPTIONAL
    assert control_context(credentials).verify_mode is ssl.CERT_NONE


def test_only_the_contracts_suites_and_versions_are_offered() -> None:
    context = remote_context(FakeAuthority().manager())
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    names = {cipher["name"] for cipher in context.get_ciphers() if not cipher["name"].startswith("TLS_")}
    assert names == {
        f"ECDHE-{key}-{cipher}"
        for key in ("ECDSA", "RSA")
        for cipher in ("AES256-GCM-SHA384", "AES128-GCM-SHA256", "CHACHA20-POLY1305")
    }


def test_a_key_that_does_not_fit_its_certificate_is_an_error() -> None:
    authority = FakeAuthority()
    one, other = authority.manager("a"), authority.manager("b")
    mixed = Credentials(one.root_pem, one.cert_pem, other.key_pem, "a", one.role, one.organization)
    with pytest.raises(ssl.SSLError):
        remote_context(mixed)


def test_a_root_without_a_certificate_is_an_error() -> None:
    one = FakeAuthority().issue("a", subject=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a")]))
    rootless = Credentials(b"no certificate", one.cert_pem, one.key_pem, "a", one.role, one.organization)
    with pytest.raises((ssl.SSLError, ValueError)):
        remote_context(rootless)
