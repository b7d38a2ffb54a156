"""Addresses as people and the wire write them: ``host:port``, ``[::1]:port``, ``:port``."""

import ipaddress


class AddressError(ValueError):
    """An address is not of the form ``host:port``; the text says so in one sentence."""


def split_address(text: str) -> tuple[str, int]:
    """Split ``host:port`` into host (without brackets; empty means every interface) and port.

    Raises:
        AddressError: there is no port, it is no number from 0 to 65535, or an IPv6 host has no brackets.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise AddressError(f"{text!r} is not an address: expected host:port, with a port from 0 to 65535")
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1], int(port)
    if any(character in host for character in ":[]/ "):
        raise AddressError(f"{text!r} is not an address: expected host:port, IPv6 hosts in brackets")
    return host, int(port)


def join_address(host: str, port: int) -> str:
    """Write ``host:port``, an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_wildcard(host: str) -> bool:
    """Tell whether a host stands for every address of its machine: nobody else can dial it."""
    try:
        return not host or ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def dialable(addr: str, reached: str) -> str:
    """Return where to dial who says ``addr`` of itself: a wildcard host is replaced by that of ``reached``.

    Args:
        addr: the address as it was told; returned as it is if it is malformed.
        reached: an address at which its owner was reached.
    """
    try:
        host, port = split_address(addr)
        return join_address(split_address(reached)[0], port) if is_wildcard(host) else addr
    except AddressError:
        return addr


def plain_ip(host: str) -> str:
    """Return an IP as its owner would write it: no zone, and IPv4 as IPv4 even on a dual-stack socket.

    Whether a caller is on the loopback is judged by this text, and ``::ffff:127.0.0.1`` must be.
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
