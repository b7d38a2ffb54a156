"""Who calls: the identity of the peer behind the RPC that is being handled.

The server's interceptor (``net/server.py``) binds a ``Caller`` before a handler runs, after authorisation;
handlers ask ``current_caller()``. Tests bind one with ``as_caller``.
"""

import ipaddress
from contextvars import ContextVar
from dataclasses import dataclass

MANAGER_ROLE = "swarm-manager"
WORKER_ROLE = "swarm-worker"


@dataclass(frozen=True)
class Caller:
    """The identity behind a call (contract/security.md, 15).

    Attributes:
        node_id: CN of the certificate; on the control socket this manager's own node; empty if anonymous.
        roles: OUs of the certificate; empty if anonymous.
        organization: O of the certificate, the cluster id; empty if anonymous.
        remote_addr: ``ip:port`` of the caller, or of the caller of whoever forwarded; empty if unknown.
        local: the call came over the control socket.
        forwarded_by: node id of the manager that passed the call on; empty for a direct call.
    """

    node_id: str = ""
    roles: frozenset[str] = frozenset()
    organization: str = ""
    remote_addr: str = ""
    local: bool = False
    forwarded_by: str = ""

    @property
    def anonymous(self) -> bool:
        """Whether the caller showed no certificate."""
        return not self.node_id

    @property
    def ip(self) -> str:
        """The IP part of ``remote_addr``, without brackets; empty if there is none."""
        host = self.remote_addr.rpartition(":")[0].strip("[]")
        try:
            return str(ipaddress.ip_address(host))
        except ValueError:
            return ""

    @property
    def from_loopback(self) -> bool:
        """Whether the caller's address is a loopback address; false when it is unknown."""
        return bool(self.ip) and ipaddress.ip_address(self.ip).is_loopback


_current: ContextVar[Caller] = ContextVar("caller")


def current_caller() -> Caller:
    """Return who called the RPC being handled.

    Raises:
        LookupError: no RPC is being handled.
    """
    return _current.get()


class as_caller:
    """Bind ``caller`` for the calls made inside the block. A class: every call passes here."""

    __slots__ = ("_caller", "_token")

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def __enter__(self) -> None:
        self._token = _current.set(self._caller)

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)
