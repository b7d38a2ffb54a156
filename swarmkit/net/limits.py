"""How much of the manager a stranger may take: limits on connections, and the book that keeps to them.

Pure: the gateway asks, and closes what is refused.
"""

import ipaddress
import resource
from dataclasses import dataclass

#: Descriptors a spliced connection holds: both ends in the gateway, the accepted end in the inner server.
_DESCRIPTORS_PER_CONNECTION = 3
#: Descriptors left to the log, the store, the executor and the client channels.
_RESERVED_DESCRIPTORS = 256


@dataclass(frozen=True)
class Limits:
    """The bounds of one gateway; ``swarmkit/net/README.md`` gives the reason of each.

    Attributes:
        connections: open connections in all.
        unproven: of those, connections that have shown no certificate, those in their handshake included.
        unproven_per_address: the same from one IPv4 address or one IPv6 /64 network.
        opening_seconds: from accepting until the HTTP/2 preface has arrived, TLS handshake included.
        anonymous_idle_seconds: longest silence of a client without a certificate.
        anonymous_seconds: longest life of its connection.
        stalled_seconds: how long a side may leave a full buffer unread.
        closing_seconds: how long one side may take to read the rest when the other is gone.
    """

    connections: int = 10_000
    unproven: int = 1_024
    unproven_per_address: int = 128
    opening_seconds: float = 10.0
    anonymous_idle_seconds: float = 60.0
    anonymous_seconds: float = 1800.0
    stalled_seconds: float = 60.0
    closing_seconds: float = 5.0

    def __post_init__(self) -> None:
        """Refuse limits under which nothing could be served."""
        for name, value in vars(self).items():
            if value <= 0:
                raise ValueError(f"the limit {name} must be above zero, not {value}")

    def within_descriptors(self, descriptors: int | None = None) -> "Limits":
        """Return limits lowered to what ``descriptors`` (default: this process's soft limit) can carry.

        At most a quarter of the connections is left to strangers, so that nodes always find room.
        """
        if descriptors is None:
            descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if descriptors == resource.RLIM_INFINITY:
            return self
        possible = max((descriptors - _RESERVED_DESCRIPTORS) // _DESCRIPTORS_PER_CONNECTION, 16)
        connections = min(self.connections, possible)
        values = vars(self) | {"connections": connections, "unproven": min(self.unproven, connections // 4)}
        return Limits(**values)


class Ticket:
    """One admitted connection in the book; ``release`` gives its place back, once."""

    def __init__(self, book: "ConnectionBook", network: str) -> None:
        self._book = book
        self._network: str | None = network
        self._released = False

    def prove(self) -> None:
        """Note that the client has shown a certificate."""
        if self._network is not None:
            self._book.unproven_left(self._network)
            self._network = None

    def release(self) -> None:
        """Give the place back."""
        if not self._released:
            self._released = True
            self.prove()
            self._book.left()


class ConnectionBook:
    """Counts connections, in all and unproven per network."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.open = 0
        self.unproven = 0
        self._per_network: dict[str, int] = {}  # only networks with open unproven connections

    def admit(self, host: str) -> Ticket | str:
        """Enter a new connection from ``host``, or say in a few words why it is refused."""
        network = _network(host)
        if self.open >= self._limits.connections:
            return f"{self.open} connections are open, the limit"
        if self.unproven >= self._limits.unproven:
            return f"{self.unproven} connections without a certificate are open, the limit"
        if self._per_network.get(network, 0) >= self._limits.unproven_per_address:
            return (
                f"{self._per_network[network]} connections without a certificate from one address, the limit"
            )
        self.open += 1
        self.unproven += 1
        self._per_network[network] = self._per_network.get(network, 0) + 1
        return Ticket(self, network)

    def unproven_left(self, network: str) -> None:
        """A connection from ``network`` has proven itself or is gone. Called by its ticket."""
        self.unproven -= 1
        self._per_network[network] -= 1
        if not self._per_network[network]:
            del self._per_network[network]

    def left(self) -> None:
        """A connection is gone. Called by its ticket."""
        self.open -= 1


class Throttle:
    """Lets through at most ``burst`` lines per ``interval_seconds`` and counts what it holds back."""

    def __init__(self, burst: int = 10, interval_seconds: float = 60.0) -> None:
        self._burst = burst
        self._interval = interval_seconds
        self._since = float("-inf")
        self._count = 0

    def ask(self, now: float) -> int | None:
        """Return how many were held back since the last one that passed, or None to hold this one back too.

        Args:
            now: seconds on a monotonic clock.
        """
        held_back = 0
        if now - self._since >= self._interval:
            held_back = max(self._count - self._burst, 0)
            self._since, self._count = now, 0
        self._count += 1
        return held_back if self._count <= self._burst else None


def _network(host: str) -> str:
    """Return what counts as one address: whoever has one IPv6 address has its whole /64."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return host
