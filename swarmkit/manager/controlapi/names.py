"""Rules for names (contract/control-api.md, 1, Names)."""

import re

from swarmkit.manager.controlapi.errors import InvalidError

_MAX_SERVICE_NAME = 63
# Says the same as the contract's pattern, without its nested repetition, which backtracks exponentially.
_DNS_COMPONENT = re.compile(r"[a-zA-Z0-9](?:[-_a-zA-Z0-9]*[a-zA-Z0-9])?")


def check_service_name(name: str) -> None:
    """Refuse what cannot be a service's or a network's name.

    Raises:
        InvalidError: it is empty, no component of a DNS name, or too long.
    """
    if not name:
        raise InvalidError("meta: name must be provided")
    if not _DNS_COMPONENT.fullmatch(name):
        raise InvalidError("name must be valid as a DNS name component")
    if len(name) > _MAX_SERVICE_NAME:
        raise InvalidError(f"name must be {_MAX_SERVICE_NAME} characters or fewer")
