"""The ten kinds of objects: names, index entries, references (contract/raft-store-manager.md, 1)."""

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from swarmkit.api import messages as api
from swarmkit.api.naming import runtime_name, task_name

StoreObject: TypeAlias = (
    api.Node
    | api.Service
    | api.Task
    | api.Network
    | api.Cluster
    | api.Secret
    | api.Config
    | api.Resource
    | api.Extension
    | api.Volume
)
O = TypeVar("O", bound=StoreObject)  # noqa: E741

IndexEntry: TypeAlias = tuple[str, Hashable]


class Row:
    """A stored object with its index entries, computed once and shared by both sets of tables.

    Attributes:
        object: the message; never mutated.
        id: its id.
        name: its folded name, or None if it has none to be found by.
        entries: its index entries besides the id, each once.
    """

    __slots__ = ("entries", "id", "name", "object")

    def __init__(self, object: Any, name: str | None, entries: tuple[IndexEntry, ...]) -> None:
        self.object = object
        self.id: str = object.id
        self.name = name
        self.entries = entries


@dataclass(frozen=True)
class Schema:
    """What the store knows of one kind.

    Attributes:
        kind: the message class.
        table: the table's name, which is also the field of ``StoreAction``.
        snapshot_field: the field of ``StoreSnapshot``.
        unique_names: no two objects may have one name.
        indexes: what exact selectors may name.
        prefixes: what prefix selectors may name.
        name: returns the name, or None if the object cannot be found by one.
        entries: yields the index entries besides id, name and custom.
    """

    kind: type[StoreObject]
    table: str
    snapshot_field: str
    unique_names: bool
    indexes: frozenset[str]
    prefixes: frozenset[str]
    name: Callable[[Any], str | None]
    entries: Callable[[Any], Iterable[IndexEntry]]
    annotations: Callable[[Any], api.Annotations]

    def row(self, stored: StoreObject) -> Row:
        """Compute the row of an object that will not change any more."""
        name = self.name(stored)
        entries = list(self.entries(stored))
        if name is not None:
            name = name.lower()
            entries.append(("name", name))
        entries += [("custom", f"{custom.key}|{custom.val}") for custom in self.annotations(stored).indices]
        return Row(stored, name, tuple(dict.fromkeys(entries)))


def _network_ids(spec: api.TaskSpec) -> Iterator[IndexEntry]:
    for network in spec.networks:
        yield "network", network.target


def _references(spec: api.TaskSpec) -> Iterator[IndexEntry]:
    runtime = runtime_name(spec)
    if runtime is not None:
        yield "runtime", runtime
    if spec.WhichOneof("runtime") == "container":
        for secret in spec.container.secrets:
            yield "secret", secret.secret_id
        for config in spec.container.configs:
            yield "config", config.config_id


def _service_entries(service: api.Service) -> Iterator[IndexEntry]:
    spec = service.spec.task
    yield from _references(spec)
    if spec.networks:
        yield from _network_ids(spec)
    else:
        for network in service.spec.networks:
            yield "network", network.target


def _task_entries(task: api.Task) -> Iterator[IndexEntry]:
    service_id = task.service_id
    yield "service", service_id
    yield "node", task.node_id
    yield "slot", (service_id, task.slot)
    yield "desired_state", task.desired_state
    yield "task_state", task.status.state
    spec = task.spec
    yield from _references(spec)
    yield from _network_ids(spec)
    for volume in task.volumes:
        yield "volume", volume.id


def _node_entries(node: api.Node) -> Iterator[IndexEntry]:
    yield "role", node.role
    yield "membership", node.spec.membership


def _volume_entries(volume: api.Volume) -> Iterator[IndexEntry]:
    yield "group", volume.spec.group
    if volume.spec.HasField("driver"):
        yield "driver", volume.spec.driver.name


def _resource_entries(resource: api.Resource) -> Iterator[IndexEntry]:
    yield "kind", resource.kind.lower()


def _no_entries(_: StoreObject) -> tuple[IndexEntry, ...]:
    return ()


def _node_name(node: api.Node) -> str | None:
    return node.description.hostname if node.HasField("description") else None


def _spec_name(stored: Any) -> str | None:
    name: str = stored.spec.annotations.name
    return name


def _own_name(stored: Any) -> str | None:
    name: str = stored.annotations.name
    return name


def _spec_annotations(stored: Any) -> api.Annotations:
    annotations: api.Annotations = stored.spec.annotations
    return annotations


def _own_annotations(stored: Any) -> api.Annotations:
    annotations: api.Annotations = stored.annotations
    return annotations


_PREFIXES = frozenset({"id", "name", "custom"})
_REFERENCES = frozenset({"runtime", "network", "secret", "config"})


def _schema(
    kind: type[StoreObject],
    snapshot_field: str,
    *indexes: str,
    entries: Callable[[Any], Iterable[IndexEntry]] = _no_entries,
    name: Callable[[Any], str | None] = _spec_name,
    annotations: Callable[[Any], api.Annotations] = _spec_annotations,
    unique_names: bool = True,
    prefixes: frozenset[str] = _PREFIXES,
) -> Schema:
    return Schema(
        kind=kind,
        table=kind.DESCRIPTOR.name.lower(),
        snapshot_field=snapshot_field,
        unique_names=unique_names,
        indexes=frozenset(indexes) | {"name", "custom"},
        prefixes=prefixes,
        name=name,
        entries=entries,
        annotations=annotations,
    )


#: In the order in which a restored snapshot is applied and announced.
SCHEMAS: dict[type[Any], Schema] = {
    schema.kind: schema
    for schema in (
        _schema(
            api.Node,
            "nodes",
            "role",
            "membership",
            entries=_node_entries,
            name=_node_name,
            unique_names=False,
        ),
        _schema(api.Service, "services", *_REFERENCES, entries=_service_entries),
        _schema(api.Network, "networks"),
        _schema(
            api.Task,
            "tasks",
            *_REFERENCES,
            *("service", "node", "slot", "desired_state", "task_state", "volume"),
            entries=_task_entries,
            name=task_name,
            annotations=_own_annotations,
            unique_names=False,
        ),
        _schema(api.Cluster, "clusters"),
        _schema(api.Secret, "secrets"),
        _schema(
            api.Extension,
            "extensions",
            name=_own_name,
            annotations=_own_annotations,
            prefixes=_PREFIXES - {"name"},
        ),
        _schema(
            api.Resource,
            "resources",
            "kind",
            entries=_resource_entries,
            name=_own_name,
            annotations=_own_annotations,
        ),
        _schema(api.Config, "configs"),
        _schema(api.Volume, "volumes", "group", "driver", entries=_volume_entries),
    )
}

#: The same by table name, which is the name of the field in ``StoreAction``.
SCHEMAS_BY_TABLE: dict[str, Schema] = {schema.table: schema for schema in SCHEMAS.values()}
