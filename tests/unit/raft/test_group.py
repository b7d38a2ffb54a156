import pytest

from swarmkit.raft.group import told_address


@pytest.mark.parametrize(
    ("known", "own", "told"),
    [
        ("", "10.0.0.1:4242", "10.0.0.1:4242"),
        ("10.0.0.1:4242", "10.0.0.2:4242", "10.0.0.2:4242"),
        ("10.0.0.1:4242", "0.0.0.0:4242", "10.0.0.1:4242"),
        ("10.0.0.1:4242", "[::]:4243", "10.0.0.1:4243"),
        ("0.0.0.0:4242", "0.0.0.0:4243", "0.0.0.0:4243"),
        ("0.0.0.0:4242", "manager.example:4242", "manager.example:4242"),
    ],
)
def test_a_wildcard_host_does_not_replace_an_address_by_which_the_member_was_reached(
    known: str, own: str, told: str
) -> None:
    assert told_address(known, own) == told
