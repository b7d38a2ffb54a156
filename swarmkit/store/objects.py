"""The ten kinds of objects: names, index entries, references (contract/raft-store-manager.md, 1)."""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from swarmkit.api import messages as api
from swarmkit.api.naming import CONTAINER_RUNTIME, runtime_name, task_name

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
        entries: returns the index entries besides id, name and custom.
    """

    kind: type[StoreObject]
    table: str
    snapshot_field: str
    unique_names: bool
    indexes: frozenset[str]
    prefixes: frozenset[str]
    name: Callable[[Any], str | None]
    entries: Callable[[Any], list[IndexEntry]]
    annotations: Callable[[Any], api.Annotations]

    def row(self, stored: StoreObject) -> Row:
        """Compute the row of an object that will not change any more."""
        name = self.name(stored)
        entries = self.entries(stored)
        if name is not None:
            name = name.lower()
            entries.append(("name", name))
        indices = self.annotations(stored).indices
        if indices:
            entries += [("custom", f"{custom.key}|{custom.val}") for custom in indices]
        return Row(stored, name, tuple(dict.fromkeys(entries)))


def _network_ids(networks: Iterable[api.NetworkAttachmentConfig]) -> list[IndexEntry]:
    return [("network", network.target) for network in networks]


def _references(spec: api.TaskSpec) -> list[IndexEntry]:
    runtime = runtime_name(spec)
    if runtime is None:
        return []
    entries: list[IndexEntry] = [("runtime", runtime)]
    if runtime == CONTAINER_RUNTIME:
        # Most have neither, and a loop over nothing costs as much as all the rest of this.
        secrets, configs = spec.container.secrets, spec.container.configs
        if secrets:
            entries += [("secret", secret.secret_id) for secret in secrets]
        if configs:
            entries += [("config", config.config_id) for config in configs]
    return entries


def _service_entries(service: api.Service) -> list[IndexEntry]:
    spec = service.spec
    task = spec.task
    entries = _references(task)
    networks = task.networks or spec.networks
    if networks:
        entries += _network_ids(networks)
    return entries


def _task_entries(task: api.Task) -> list[IndexEntry]:
    service_id = task.service_id
    entries: list[IndexEntry] = [
        ("service", service_id),
        ("node", task.node_id),
        ("slot", (service_id, task.slot)),
        ("desired_state", task.desired_state),
        ("task_state", task.status.state),
    ]
    spec, volumes = task.spec, task.volumes
    entries += _references(spec)
    networks = spec.networks
    if networks:
        entries += _network_ids(networks)
    if volumes:
        entries += [("volume", volume.id) for volume in volumes]
    return entries


def _node_entries(node: api.Node) -> list[IndexEntry]:
    return [("role", node.role), ("membership", node.spec.membership)]


def _volume_entries(volume: api.Volume) -> list[IndexEntry]:
    entries: list[IndexEntry] = [("group", volume.spec.group)]
    if volume.spec.HasField("driver"):
        entries.append(("driver", volume.spec.driver.name))
    return entries


def _resource_entries(resource: api.Resource) -> list[IndexEntry]:
    return [("kind", resource.kind.lower())]


def _no_entries(_: StoreObject) -> list[IndexEntry]:
    return []


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
    entries: Callable[[Any], list[IndexEntry]] = _no_entries,
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
