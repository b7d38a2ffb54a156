import pytest

from swarmkit.net.address import AddressError, dialable, join_address, plain_ip, split_address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:4242", "127.0.0.1", 4242),
        ("node-1:0", "node-1", 0),
        (":4242", "", 4242),
        ("[::1]:2377", "::1", 2377),
        ("0.0.0.0:65535", "0.0.0.0", 65535),
    ],
)
def test_an_address_splits_into_host_and_port_and_back(text: str, host: str, port: int) -> None:
    assert split_address(text) == (host, port)
    assert join_address(host, port) == text


@pytest.mark.parametrize(
    "text", ["", "host", "host:", "host:x", "host:65536", "host:-1", "::1:22", "a b:1", "host:²"]
)
def test_anything_else_is_refused_with_a_sentence_that_names_it(text: str) -> None:
    with pytest.raises(AddressError, match=r"is not an address: expected host:port"):
        split_address(text)


@pytest.mark.parametrize(
    ("raw", "plain"),
    [
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("10.0.0.1", "10.0.0.1"),
        ("somewhere", "somewhere"),
    ],
)
def test_a_peer_on_a_dual_stack_socket_has_its_own_ipv4_address(raw: str, plain: str) -> None:
    assert plain_ip(raw) == plain


@pytest.mark.parametrize(
    ("told", "reached", "expected"),
    [
        ("10.0.0.1:4242", "10.0.0.9:1", "10.0.0.1:4242"),
        ("10.0.0.2:4242", "10.0.0.1:4242", "10.0.0.2:4242"),
        ("0.0.0.0:4242", "10.0.0.9:1", "10.0.0.9:4242"),
        (":4242", "10.0.0.9:1", "10.0.0.9:4242"),
        ("[::]:4242", "[fd00::1]:1", "[fd00::1]:4242"),
        ("0.0.0.0:4242", "manager.example:1", "manager.example:4242"),
        ("manager.example:4242", "0.0.0.0:1", "manager.example:4242"),
        ("0.0.0.0:4243", "0.0.0.0:4242", "0.0.0.0:4243"),
        ("0.0.0.0:4242", "", "0.0.0.0:4242"),
        ("10.0.0.1:4242", "", "10.0.0.1:4242"),
        ("nonsense", "10.0.0.9:1", "nonsense"),
    ],
)
def test_a_wildcard_host_becomes_the_one_at_which_its_owner_was_reached(
    told: str, reached: str, expected: str
) -> None:
    assert dialable(told, reached) == expected
