"""Objects of every kind, as short as a test can say them."""

from typing import Any

from swarmkit.api import messages as api
from swarmkit.store import StoreObject


def spec_of(kind: Any, name: str) -> Any:
    """A spec of a kind that has one, with a name."""
    spec = kind().spec.__class__()
    spec.annotations.name = name
    return spec


def new(kind: Any, id: str, name: str = "") -> Any:
    """An object that the store accepts; for a resource, "kind" must be registered."""
    name = name or f"name-{id}"
    if kind is api.Node:
        return api.Node(id=id, description=api.NodeDescription(hostname=name))
    if kind is api.Task:
        return api.Task(id=id, annotations=api.Annotations(name=name))
    if kind is api.Extension:
        return api.Extension(id=id, annotations=api.Annotations(name=name))
    if kind is api.Resource:
        return api.Resource(id=id, annotations=api.Annotations(name=name), kind="kind")
    stored = kind(id=id, spec=spec_of(kind, name))
    if kind is api.Volume:
        stored.spec.driver.name = "csi"
    return stored


def changed(stored: Any, **fields: Any) -> Any:
    """A copy with some fields set."""
    copy: Any = type(stored)()
    copy.CopyFrom(stored)
    for field, value in fields.items():
        setattr(copy, field, value)
    return copy


def labelled(stored: StoreObject, label: str) -> Any:
    """A copy with another label, of any kind of object."""
    copy = changed(stored)
    annotations = copy.annotations if hasattr(copy, "annotations") else copy.spec.annotations
    annotations.labels["label"] = label
    return copy


def task(id: str, **fields: Any) -> api.Task:
    """A task of service "s" in no slot."""
    return api.Task(id=id, service_annotations=api.Annotations(name="s"), **fields)


def ids(objects: Any) -> list[str]:
    """The ids in order."""
    return [stored.id for stored in objects]
