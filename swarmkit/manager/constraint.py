"""The placement constraint language: ``key == value`` or ``key != value`` (contract/scheduler.md, 7).

The control API parses to validate, the scheduler, the global orchestrator and the constraint enforcer match.
Those that match treat a list that does not parse as empty: the API has refused it where it matters.
"""

import functools
import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from swarmkit.api import messages as api

_KEY = re.compile(r"[a-z_][a-z0-9\-_.]+", re.IGNORECASE | re.ASCII)
_VALUE = re.compile(r"[a-z0-9:\-_\s.*()?+\[\]\\^$|/]+", re.IGNORECASE | re.ASCII)
_NODE_LABEL_PREFIX = "node.labels."
_ENGINE_LABEL_PREFIX = "engine.labels."
_ROLE_NAMES = {api.NodeRole.WORKER: "worker", api.NodeRole.MANAGER: "manager"}

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ConstraintError(ValueError):
    """An expression is not a constraint; the text names the offending part."""


@dataclass(frozen=True, slots=True)
class Constraint:
    """One parsed expression. ``key`` and ``value`` are kept as written, without outer blanks."""

    key: str
    equal: bool
    value: str

    def matches(self, node: api.Node) -> bool:
        """Tell whether the node satisfies this constraint."""
        key = self.key.lower()
        if key == "node.ip":
            return _matches_address(self.value, self.equal, node.status.addr)
        attribute = _ATTRIBUTES.get(key)
        if attribute is not None:
            return _equal_fold(attribute(node), self.value) == self.equal
        # The name of a label is compared with case, unlike the prefix before it.
        if key.startswith(_NODE_LABEL_PREFIX) and len(key) > len(_NODE_LABEL_PREFIX):
            label = node.spec.annotations.labels.get(self.key[len(_NODE_LABEL_PREFIX) :], "")
            return _equal_fold(label, self.value) == self.equal
        if key.startswith(_ENGINE_LABEL_PREFIX) and len(key) > len(_ENGINE_LABEL_PREFIX):
            label = node.description.engine.labels.get(self.key[len(_ENGINE_LABEL_PREFIX) :], "")
            return _equal_fold(label, self.value) == self.equal
        return False


def parse(expressions: Iterable[str]) -> list[Constraint]:
    """Parse a list of expressions.

    Raises:
        ConstraintError: the first expression that has no operator, an invalid key or an invalid value.
    """
    return [_parse_one(expression) for expression in expressions]


def parse_or_empty(expressions: Iterable[str]) -> list[Constraint]:
    """Parse as ``parse`` does, but take a list with an invalid expression for the empty list."""
    try:
        return parse(expressions)
    except ConstraintError:
        return []


def matches(constraints: Iterable[Constraint], node: api.Node) -> bool:
    """Tell whether the node satisfies all constraints; the empty list is satisfied by every node."""
    return all(constraint.matches(node) for constraint in constraints)


def _parse_one(expression: str) -> Constraint:
    # "==" anywhere wins over a "!=" further left.
    for operator in ("==", "!="):
        key, found, value = expression.partition(operator)
        if not found:
            continue
        key, value = key.strip(), value.strip()
        if not _KEY.fullmatch(key):
            raise ConstraintError(f"key '{key}' is invalid")
        if not _VALUE.fullmatch(value):
            raise ConstraintError(f"value '{value}' is invalid")
        return Constraint(key, operator == "==", value)
    raise ConstraintError("constraint expected one operator from ==, !=")


def _name(node: api.Node) -> str:
    # PARITY: node.name is of the June 2016 language; later ones know node.hostname alone. It is the name that
    # `node ls` shows: the one given by an operator, else the host's.
    return node.spec.annotations.name or node.description.hostname


_ATTRIBUTES: dict[str, Callable[[api.Node], str]] = {
    "node.id": lambda node: node.id,
    "node.hostname": lambda node: node.description.hostname,
    "node.name": _name,
    "node.role": lambda node: _ROLE_NAMES.get(node.role, ""),
    "node.platform.os": lambda node: node.description.platform.os,
    "node.platform.arch": lambda node: node.description.platform.architecture,
}


def _equal_fold(left: str, right: str) -> bool:
    # Simple case folding, one character to one character: "ß" does not equal "ss".
    if left == right:
        return True
    return len(left) == len(right) and all(
        a == b or a.casefold() == b.casefold() for a, b in zip(left, right, strict=True)
    )


def _matches_address(value: str, equal: bool, node_address: str) -> bool:
    wanted = _parse_wanted(value)
    if wanted is None:
        return False
    address = _parse_address(node_address)
    if address is None:
        return not equal
    if isinstance(wanted, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return (address in wanted) == equal
    return (address == wanted) == equal


def _parse_address(text: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return None if address.scope_id else address.ipv4_mapped or address
    return address


@functools.lru_cache(maxsize=1024)
def _parse_wanted(text: str) -> _Address | _Network | None:
    _, slash, bits = text.partition("/")
    if not slash:
        return _parse_address(text)
    if not (bits.isascii() and bits.isdigit()):
        return None  # a netmask in dotted form is no CIDR
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
    if isinstance(network, ipaddress.IPv6Network):
        mapped = network.network_address.ipv4_mapped
        if mapped is not None and network.prefixlen >= 96:
            return ipaddress.IPv4Network((mapped, network.prefixlen - 96))
    return network
