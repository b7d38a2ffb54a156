"""The syntaxes of parts of a service spec; pure (contract/cli.md, 3). ``ValueError`` on wrong text."""

import re

from swarmctl.flags.values import MAX_COUNT, key_value, unsigned
from swarmkit.api import messages as api

_PROTOCOLS = {"tcp": api.PortConfig.TCP, "udp": api.PortConfig.UDP, "sctp": api.PortConfig.SCTP}
_ULIMITS = frozenset(
    "core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack".split()
)
_SIZE = re.compile(r"^(\d+)([kmg]?)$")
_MODE = re.compile(r"^0*[0-7]{1,4}$")
_SIZE_FACTORS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
MAX_PORT = 65535


def _port_number(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) > MAX_PORT:
        raise ValueError(f"failed to parse {what}: {text!r} is not a port from 0 to {MAX_PORT}")
    return int(text)


def _port_half(text: str, what: str) -> "tuple[int, api.PortConfig.Protocol.ValueType]":
    number, slash, protocol = text.partition("/")
    if slash and protocol.lower() not in _PROTOCOLS:
        raise ValueError(f"invalid protocol string: {protocol!r}: use tcp, udp or sctp")
    return _port_number(number, what), _PROTOCOLS[protocol.lower() if slash else "tcp"]


def port(text: str) -> api.PortConfig:
    """Parse ``NAME:TARGET[/PROTO][:PUBLISHED[/PROTO]]``; published on the node that runs the task."""
    parts = text.split(":")
    if not 2 <= len(parts) <= 3:
        raise ValueError(
            f"insufficient parameters in port {text!r}: write NAME:TARGET[/PROTO][:PUBLISHED[/PROTO]]"
        )
    target, protocol = _port_half(parts[1], "port")
    config = api.PortConfig(
        name=parts[0], protocol=protocol, target_port=target, publish_mode=api.PortConfig.HOST
    )
    if len(parts) == 3:
        published, other = _port_half(parts[2], "node port")
        if other != protocol:
            raise ValueError(f"protocol mismatch in port {text!r}: both sides must name the same protocol")
        config.published_port = published
    return config


def bind(text: str) -> api.Mount:
    """Parse ``SOURCE:TARGET``."""
    source, colon, target = text.partition(":")
    if not colon or not source or not target:
        raise ValueError(f'bind format "{text}" not supported: write SOURCE:TARGET')
    return api.Mount(type=api.Mount.BIND, source=source, target=target)


def volume(text: str) -> api.Mount:
    """Parse ``TARGET``: an anonymous volume."""
    if ":" in text or not text:
        raise ValueError(f'volume format "{text}" not supported: write the TARGET alone')
    return api.Mount(type=api.Mount.VOLUME, target=text)


def tmpfs(text: str) -> api.Mount:
    """Parse ``TARGET[:OPT,OPT…]`` with size=N[kmg], mode=OCTAL, ro, rw, exec, noexec."""
    target, _, options = text.partition(":")
    if not target.startswith("/") or ":" in options:
        raise ValueError(f"invalid mount spec: {text}: write an absolute TARGET[:OPT,OPT…]")
    mount = api.Mount(type=api.Mount.TMPFS, target=target)
    other = []
    for option in filter(None, options.split(",")):
        key, _, value = option.partition("=")
        if key == "size":
            match = _SIZE.match(value.lower())
            if match is None:
                raise ValueError(f"invalid size format: {value}: write for example 64m")
            mount.tmpfs_options.size_bytes = _tmpfs_size(match[1], match[2])
        elif key == "mode":
            if not _MODE.match(value):
                raise ValueError(f"invalid mode: {value}: write up to four octal digits, as in mode=1777")
            mount.tmpfs_options.mode = int(value, 8)
        elif option in ("ro", "rw"):
            mount.readonly = option == "ro"
        elif option in ("exec", "noexec"):
            other.append(option)
        else:
            raise ValueError(f"unsupported flag in tmpfs mount: {option}")
    if other:
        mount.tmpfs_options.options = ",".join(other)
    return mount


def _tmpfs_size(number: str, unit: str) -> int:
    size = unsigned(number, "size format") * _SIZE_FACTORS[unit]
    if size > MAX_COUNT:
        raise ValueError(f"invalid size format: {number}{unit}: it is out of range")
    return size


def ulimit(text: str) -> api.ContainerSpec.Ulimit:
    """Parse ``TYPE=SOFT[:HARD]``."""
    kind, limits = key_value(text, "ulimit")
    if kind not in _ULIMITS:
        raise ValueError(f"invalid ulimit type: {kind}: use one of {', '.join(sorted(_ULIMITS))}")
    soft_text, colon, hard_text = limits.partition(":")
    soft = unsigned(soft_text, "ulimit argument")
    hard = unsigned(hard_text, "ulimit argument") if colon else soft
    if soft > hard:
        raise ValueError(f"ulimit {text}: the soft limit is above the hard one")
    return api.ContainerSpec.Ulimit(name=kind, soft=soft, hard=hard)
