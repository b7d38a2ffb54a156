"""Selectors: by what objects can be found. ``find(api.Task, by.node(node_id))``.

Names, runtimes of generic kind and resource kinds are compared without regard to case, ids exactly.
Which kinds know which selectors is written in ``objects.py``.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TypeAlias

from swarmkit.api import messages as api


@dataclass(frozen=True, slots=True)
class All:
    """Every object of the kind."""


@dataclass(frozen=True, slots=True)
class Exact:
    """The objects that have ``value`` in ``index``."""

    index: str
    value: Hashable


@dataclass(frozen=True, slots=True)
class Prefix:
    """The objects with a string in ``index`` that starts with ``prefix``."""

    index: str
    prefix: str


@dataclass(frozen=True, slots=True)
class AnyOf:
    """The union of ``selectors``, each object once, in order of first appearance; of none, nothing."""

    selectors: tuple["Selector", ...]


Selector: TypeAlias = All | Exact | Prefix | AnyOf


def all() -> Selector:
    """Select every object of the kind."""
    return All()


def any_of(*selectors: Selector) -> Selector:
    """Select what at least one of ``selectors`` selects."""
    return AnyOf(selectors)


def id_prefix(prefix: str) -> Selector:
    """Select by the beginning of the id."""
    return Prefix("id", prefix)


def name(value: str) -> Selector:
    """Select by name: of a node the hostname, of a task the computed name."""
    return Exact("name", value.lower())


def name_prefix(prefix: str) -> Selector:
    """Select by the beginning of the name."""
    return Prefix("name", prefix.lower())


def custom(key: str, value: str) -> Selector:
    """Select by an index entry of the annotations."""
    return Exact("custom", f"{key}|{value}")


def custom_prefix(key: str, prefix: str) -> Selector:
    """Select by the beginning of the value of an index entry of the annotations."""
    return Prefix("custom", f"{key}|{prefix}")


def service(service_id: str) -> Selector:
    """Select the tasks of a service."""
    return Exact("service", service_id)


def node(node_id: str) -> Selector:
    """Select the tasks of a node; with an empty id those without a node."""
    return Exact("node", node_id)


def slot(service_id: str, number: int) -> Selector:
    """Select the tasks of one slot of a service."""
    return Exact("slot", (service_id, number))


def desired_state(state: api.TaskState.ValueType) -> Selector:
    """Select tasks by the state they shall reach."""
    return Exact("desired_state", state)


def task_state(state: api.TaskState.ValueType) -> Selector:
    """Select tasks by the state they were last seen in."""
    return Exact("task_state", state)


def role(value: api.NodeRole.ValueType) -> Selector:
    """Select nodes by their actual role."""
    return Exact("role", value)


def membership(value: api.NodeSpec.Membership.ValueType) -> Selector:
    """Select nodes by the membership of their spec."""
    return Exact("membership", value)


def runtime(value: str) -> Selector:
    """Select services and tasks by runtime: ``container``, ``attachment`` or a generic kind in lower case."""
    return Exact("runtime", value)


def network(network_id: str) -> Selector:
    """Select the services and tasks that refer to a network."""
    return Exact("network", network_id)


def secret(secret_id: str) -> Selector:
    """Select the services and tasks that refer to a secret."""
    return Exact("secret", secret_id)


def config(config_id: str) -> Selector:
    """Select the services and tasks that refer to a config."""
    return Exact("config", config_id)


def volume(volume_id: str) -> Selector:
    """Select the tasks to which a cluster volume is attached."""
    return Exact("volume", volume_id)


def group(value: str) -> Selector:
    """Select volumes by group, also by the empty one."""
    return Exact("group", value)


def driver(value: str) -> Selector:
    """Select volumes by the name of their driver."""
    return Exact("driver", value)


def kind(value: str) -> Selector:
    """Select resources by kind, the name of their extension (folded: D3)."""
    return Exact("kind", value.lower())
