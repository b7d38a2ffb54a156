from pathlib import Path

import pytest

from swarmkit.node.config import ConfigError, NodeConfig, split_address


def test_the_defaults_are_valid() -> None:
    NodeConfig().validate()


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("0.0.0.0:4242", "0.0.0.0", 4242), (":0", "", 0), ("[::1]:1", "::1", 1), ("host:65535", "host", 65535)],
)
def test_addresses_have_host_and_port(text: str, host: str, port: int) -> None:
    assert split_address(text, "x") == (host, port)


@pytest.mark.parametrize(
    "text", ["", "host", "host:", "host:x", "host:65536", "host:-1", "::1:4242", "host:1e3"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        split_address(text, "--join-addr")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"join_addr": "host:0"}, "--join-addr"),
        ({"join_addr": ":4242"}, "--join-addr"),
        ({"join_token": "SWMTKN-1-x"}, "--join-token needs --join-addr"),
        ({"unlock_key": "SWMKEY-1-x"}, "SWARM_UNLOCK_KEY\\) is not one"),
        ({"join_token": "SWMTKN-1-x", "join_addr": "h:1"}, "--join-token is not one"),
        ({"control_socket": Path("/" + "x" * 107)}, "is longer than the 107 bytes"),
        ({"hostname": "a b"}, "is not a host name"),
        ({"hostname": "-a"}, "is not a host name"),
        ({"engine_addr": "nonsense"}, "must be unix:///PATH or tcp://HOST:PORT"),
        ({"engine_addr": "unix://docker.sock"}, "must be unix:///PATH or tcp://HOST:PORT"),
        ({"engine_addr": "ssh://host"}, "must be unix:///PATH or tcp://HOST:PORT"),
        ({"engine_addr": "tcp://x:y"}, "with a port from 0 to 65535"),
        ({"engine_addr": "tcp://:2375"}, "must name a host and a port"),
        ({"executor": "podman"}, "must be one of docker, process, simulated"),
        ({"advertise_remote": "host:0"}, "--advertise-remote-api"),
        ({"listen_remote": "4242"}, "--listen-remote-api"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        NodeConfig(**settings).validate()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "address",
    ["unix:///var/run/docker.sock", "tcp://127.0.0.1:2375", "https://engine:2376/", "tcp://[::1]:2375"],
)
def test_engines_are_reached_by_socket_or_by_address(address: str) -> None:
    NodeConfig(engine_addr=address).validate()


def test_the_engine_is_of_no_interest_to_other_executors() -> None:
    NodeConfig(engine_addr="nonsense", executor="process").validate()


def test_a_mistyped_token_is_not_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        NodeConfig(join_addr="h:1", join_token="SWMTKN-1-secret").validate()
    assert "secret" not in str(caught.value)


def test_the_token_is_not_shown() -> None:
    assert "secret" not in repr(NodeConfig(join_addr="h:1", join_token="secret", unlock_key="secret"))
