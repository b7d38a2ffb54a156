import pytest

from swarmctl.flags import specs
from swarmkit.api import messages as api


def test_a_port_has_name_target_protocol_and_published() -> None:
    port = specs.port("web:80/TCP:8080/tcp")
    assert (port.name, port.target_port, port.published_port) == ("web", 80, 8080)
    assert port.publish_mode == api.PortConfig.HOST
    assert specs.port(":53/udp").protocol == api.PortConfig.UDP
    assert specs.port("a:80").published_port == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("80", "insufficient parameters"),
        ("a:80/x", "invalid protocol string"),
        ("d:53/udp:5353", "protocol mismatch"),
        ("a:b", "failed to parse port"),
        ("a:80:b", "failed to parse node port"),
        ("a:65536", "failed to parse port"),
    ],
)
def test_wrong_ports_are_refused_with_what_is_wrong(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        specs.port(text)


def test_mounts() -> None:
    assert specs.bind("/a:/b") == api.Mount(type=api.Mount.BIND, source="/a", target="/b")
    assert specs.volume("/v") == api.Mount(type=api.Mount.VOLUME, target="/v")
    tmpfs = specs.tmpfs("/x:size=10m,ro,mode=1777,noexec")
    assert tmpfs.tmpfs_options.size_bytes == 10 << 20
    assert tmpfs.tmpfs_options.mode == 0o1777
    assert tmpfs.tmpfs_options.options == "noexec"
    assert tmpfs.readonly


@pytest.mark.parametrize(
    ("parse", "text", "words"),
    [
        (specs.bind, "/a", "not supported"),
        (specs.volume, "a:b", "not supported"),
        (specs.tmpfs, "x", "invalid mount spec"),
        (specs.tmpfs, "/x:a:b", "invalid mount spec"),
        (specs.tmpfs, "/x:size=1q", "invalid size format"),
        (specs.tmpfs, "/x:what", "unsupported flag"),
        (specs.tmpfs, "/x:mode=9", "invalid mode"),
        (specs.ulimit, "nofile", "malformed ulimit"),
        (specs.ulimit, "what=1", "invalid ulimit type"),
        (specs.ulimit, "nofile=5:4", "soft limit is above"),
        (specs.ulimit, "nofile=x", "invalid ulimit argument"),
    ],
)
def test_wrong_values_are_refused(parse, text: str, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=words):
        parse(text)


def test_a_ulimit_without_hard_limit_has_both_equal() -> None:
    assert specs.ulimit("nofile=1024") == api.ContainerSpec.Ulimit(name="nofile", soft=1024, hard=1024)
    assert specs.ulimit("nofile=1024:2048").hard == 2048


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/x:size=99999999999999999999g", "invalid size format"),
        ("/x:size=9000000000000000000k", "out of range"),
        ("/x:mode=77777777777", "invalid mode"),
        ("/x:mode=-1", "invalid mode"),
        ("/x:mode=9", "invalid mode"),
    ],
)
def test_tmpfs_options_that_do_not_fit_the_wire_are_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        specs.tmpfs(text)
