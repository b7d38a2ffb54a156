"""Arithmetic of generic resources (contract/scheduler.md, 9).

A list of ``api.GenericResource`` is what a node declares, has free, or gave to a task. An entry is *discrete*
(a kind and an amount) or *named* (a kind and a value; a set of values is several entries of one kind). A task
reserves amounts and is given amounts or values. All functions return new lists and change no argument.

PARITY: the original gives what a task held back to the free list and then trims that list by what the node
declares. Here what is free is always what is declared minus what the tasks hold, so there is nothing to give
back or to trim; values come free in the order of the declaration.
"""

from collections.abc import Iterable, Mapping, Sequence

from swarmkit.api import messages as api

NAMED = "named_resource_spec"
DISCRETE = "discrete_resource_spec"


def discrete(kind: str, value: int) -> api.GenericResource:
    """Make a discrete entry."""
    return api.GenericResource(discrete_resource_spec=api.DiscreteGenericResource(kind=kind, value=value))


def named(kind: str, value: str) -> api.GenericResource:
    """Make a named entry."""
    return api.GenericResource(named_resource_spec=api.NamedGenericResource(kind=kind, value=value))


def kind_of(resource: api.GenericResource) -> str:
    """Return the kind of an entry; empty for an entry that is neither discrete nor named."""
    if resource.WhichOneof("resource") == NAMED:
        return resource.named_resource_spec.kind
    return resource.discrete_resource_spec.kind


def amounts(reservation: Iterable[api.GenericResource]) -> dict[str, int] | None:
    """Sum the reserved amounts by kind (D9).

    Returns None if a value is reserved by name: tasks may reserve amounts only, such a one fits nowhere.
    """
    wanted: dict[str, int] = {}
    for resource in reservation:
        if resource.WhichOneof("resource") != DISCRETE:
            return None
        kind = resource.discrete_resource_spec.kind
        wanted[kind] = wanted.get(kind, 0) + resource.discrete_resource_spec.value
    return wanted


def enough(available: Iterable[api.GenericResource], kind: str, amount: int) -> bool:
    """Tell whether ``amount`` of ``kind`` can be claimed; of a kind that is not there not even zero can."""
    values = 0
    for resource in available:
        if kind_of(resource) != kind:
            continue
        if resource.WhichOneof("resource") == DISCRETE:
            # The first entry of the kind decides whether it is an amount or a set.
            return values >= amount if values else amount <= resource.discrete_resource_spec.value
        values += 1
    return 0 < values >= amount


def claim(available: Sequence[api.GenericResource], wanted: Mapping[str, int]) -> list[api.GenericResource]:
    """Choose what a task gets: amounts, or the first free values of a set in their order.

    The caller has made sure with ``enough`` that everything is there.
    """
    taken: list[api.GenericResource] = []
    for kind, amount in wanted.items():
        left = amount
        for resource in available:
            if left <= 0:
                break
            if kind_of(resource) != kind:
                continue
            if resource.WhichOneof("resource") == DISCRETE:
                taken.append(discrete(kind, left))
                break
            taken.append(resource)
            left -= 1
    return taken


def consume(
    available: Iterable[api.GenericResource], taken: Iterable[api.GenericResource]
) -> list[api.GenericResource]:
    """Return what is left of ``available`` without ``taken``.

    An amount taken from a set, or a value taken from an amount (the node changed the type of the kind), is
    passed over; an amount that is used up disappears.
    """
    spent: dict[str, int] = {}
    values: set[tuple[str, str]] = set()
    for resource in taken:
        if resource.WhichOneof("resource") == NAMED:
            values.add((resource.named_resource_spec.kind, resource.named_resource_spec.value))
        else:
            entry = resource.discrete_resource_spec
            spent[entry.kind] = spent.get(entry.kind, 0) + entry.value
    left: list[api.GenericResource] = []
    for resource in available:
        if resource.WhichOneof("resource") == NAMED:
            if (resource.named_resource_spec.kind, resource.named_resource_spec.value) not in values:
                left.append(resource)
            continue
        entry = resource.discrete_resource_spec
        if entry.kind not in spent:
            left.append(resource)
        elif entry.value > spent[entry.kind]:
            left.append(discrete(entry.kind, entry.value - spent[entry.kind]))
    return left


def has(available: Iterable[api.GenericResource], held: api.GenericResource) -> bool:
    """Tell whether ``available`` holds what a task was given: the value, or at least the amount."""
    is_named = held.WhichOneof("resource") == NAMED
    for resource in available:
        if is_named:
            if resource.WhichOneof("resource") == NAMED and resource == held:
                return True
        elif resource.WhichOneof("resource") == DISCRETE:
            offer, need = resource.discrete_resource_spec, held.discrete_resource_spec
            if offer.kind == need.kind and need.value <= offer.value:
                return True
    return False
