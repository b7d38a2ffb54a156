"""What a new cluster object holds of its authority (contract/raft-store-manager.md, 19)."""

from swarmkit.ca.bootstrap import root_ca_object
from swarmkit.ca.enrollment import found_cluster
from swarmkit.ca.tokens import fingerprint, parse_join_token
from swarmkit.identity import is_id
from tests.unit.ca.builders import NOW, ROOT


def test_the_root_its_key_its_digest_and_two_tokens() -> None:
    stored = root_ca_object(ROOT.cert_pem, ROOT.key_pem)
    assert (stored.ca_cert, stored.ca_key) == (ROOT.cert_pem, ROOT.key_pem)
    assert stored.ca_cert_hash == fingerprint(ROOT.cert_pem)
    worker, manager = (
        parse_join_token(text) for text in (stored.join_tokens.worker, stored.join_tokens.manager)
    )
    assert worker.pins(ROOT.cert_pem)
    assert manager.pins(ROOT.cert_pem)
    assert worker.secret != manager.secret


def test_a_founding_is_a_root_and_the_first_manager_of_a_new_cluster() -> None:
    first, second = found_cluster(NOW), found_cluster(NOW)
    credentials = first.credentials
    assert credentials.role == "swarm-manager"
    assert is_id(credentials.node_id)
    assert is_id(credentials.organization)
    assert credentials.organization != second.credentials.organization
    assert credentials.root_pem == first.root.cert_pem
    assert "PRIVATE" not in repr(first)
