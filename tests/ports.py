"""Ports for daemons of tests."""

import itertools
import os
import random
import socket
from pathlib import Path

#: Where ephemeral ports begin, on Linux by default.
_EPHEMERAL = 32768
_FIRST = 10_000


def _ephemeral() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        return _EPHEMERAL


def _candidates() -> "itertools.cycle[int]":
    ports = list(range(_FIRST, max(_ephemeral(), _FIRST + 1000)))
    # Test runs beside this one begin elsewhere.
    start = random.Random(os.getpid()).randrange(len(ports))
    return itertools.cycle(ports[start:] + ports[:start])


_ports = _candidates()


def free_port() -> int:
    """Return a port of the loopback that nobody listens on, another one each time.

    It lies below those that the system hands out: one of those may be some connection's own port by the time
    a daemon listens on it, or starts again.
    """
    for port in _ports:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("an endless list has ended")
