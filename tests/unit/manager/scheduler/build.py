"""Builders of the objects that the scheduler looks at."""

from collections.abc import Iterable, Mapping

from google.protobuf.timestamp_pb2 import Timestamp

from swarmkit.api import messages as api
from swarmkit.manager.scheduler.decisions import Assignment, Decision, Explanation
from swarmkit.manager.scheduler.filters import Pipeline
from swarmkit.manager.scheduler.generic import discrete, named
from swarmkit.manager.scheduler.nodeinfo import NodeInfo
from swarmkit.manager.scheduler.placing import Placing
from swarmkit.manager.scheduler.profile import Profiles
from swarmkit.manager.scheduler.state import State
from swarmkit.store import Action, Event

MOMENT = Timestamp(seconds=1_800_000_000)
GIB = 1 << 30


def node(
    node_id: str,
    *,
    cpus: float = 0,
    memory: int = 0,
    generic: Iterable[api.GenericResource] = (),
    labels: Mapping[str, str] | None = None,
    state: api.NodeStatus.State.ValueType = api.NodeStatus.READY,
    availability: api.NodeSpec.Availability.ValueType = api.NodeSpec.ACTIVE,
    plugins: Iterable[tuple[str, str]] | None = None,
    platform: tuple[str, str] | None = None,
) -> api.Node:
    """A node; READY and ACTIVE unless told otherwise. Without ``plugins`` it has no engine description."""
    made = api.Node(id=node_id)
    made.spec.annotations.name = node_id
    made.spec.annotations.labels.update(labels or {})
    made.spec.availability = availability
    made.status.state = state
    made.description.hostname = f"host-{node_id}"
    resources = made.description.resources
    resources.nano_cpus, resources.memory_bytes = int(cpus * 1e9), memory
    resources.generic.extend(generic)
    if plugins is not None:
        made.description.engine.SetInParent()
        for kind, name in plugins:
            made.description.engine.plugins.add(type=kind, name=name)
    if platform is not None:
        made.description.platform.architecture, made.description.platform.os = platform
    return made


def task(
    task_id: str,
    service_id: str = "service",
    *,
    version: int | None = None,
    node_id: str = "",
    state: api.TaskState.ValueType = api.TaskState.PENDING,
    desired: api.TaskState.ValueType = api.TaskState.RUNNING,
    cpus: float = 0,
    memory: int = 0,
    generic: Mapping[str, int] | None = None,
    held: Iterable[api.GenericResource] = (),
    ports: Iterable[api.PortConfig] = (),
    constraints: Iterable[str] = (),
    spread: Iterable[str] = (),
    max_replicas: int = 0,
) -> api.Task:
    """A pending task without a node unless told otherwise."""
    made = api.Task(id=task_id, service_id=service_id, node_id=node_id, desired_state=desired)
    made.status.state = state
    if version is not None:
        made.spec_version.index = version
    reserved = made.spec.resources.reservations
    reserved.nano_cpus, reserved.memory_bytes = int(cpus * 1e9), memory
    reserved.generic.extend(discrete(kind, amount) for kind, amount in (generic or {}).items())
    made.assigned_generic_resources.extend(held)
    placement = made.spec.placement
    placement.constraints.extend(constraints)
    placement.max_replicas = max_replicas
    for descriptor in spread:
        placement.preferences.add().spread.spread_descriptor = descriptor
    made.endpoint.ports.extend(ports)
    return made


def host_port(
    number: int, protocol: api.PortConfig.Protocol.ValueType = api.PortConfig.TCP
) -> api.PortConfig:
    """A published port of the node itself."""
    return api.PortConfig(
        protocol=protocol, published_port=number, target_port=number, publish_mode=api.PortConfig.HOST
    )


def changed(original: api.Task, **fields: object) -> api.Task:
    """A copy of a task with other values; ``state`` and ``err`` are those of its status."""
    copy = api.Task()
    copy.CopyFrom(original)
    for name, value in fields.items():
        setattr(copy.status if name in ("state", "err") else copy, name, value)
    return copy


def pipeline(of: api.Task) -> Pipeline:
    """The filters of a task."""
    return Pipeline(Profiles().of(of), of.service_id)


def info_of(made: api.Node) -> NodeInfo:
    """What is known of a node on which nothing runs."""
    info = NodeInfo(made.id, 0)
    info.set_node(made)
    return info


def values(resources: Iterable[api.GenericResource]) -> list[tuple[str, str | int]]:
    """Generic resources in a form that reads well in a failed test."""
    return [
        (entry.named_resource_spec.kind, entry.named_resource_spec.value)
        if entry.HasField("named_resource_spec")
        else (entry.discrete_resource_spec.kind, entry.discrete_resource_spec.value)
        for entry in resources
    ]


def resources(**kinds: int | str) -> list[api.GenericResource]:
    """``resources(apple=3, orange="red green")``: an amount, and a set of values."""
    made: list[api.GenericResource] = []
    for kind, value in kinds.items():
        if isinstance(value, int):
            made.append(discrete(kind, value))
        else:
            made.extend(named(kind, word) for word in value.split())
    return made


class World:
    """A state with the decisions of its passes written back at once, as a store without rivals would do."""

    def __init__(self, *objects: api.Node | api.Task, services: Iterable[api.Service] = ()) -> None:
        self.state = State()
        self.now = 0.0
        self.services = {service.id: service for service in services or [api.Service(id="service")]}
        self.errors: dict[str, str] = {}
        self.writes = 0
        for item in objects:
            self.create(item)

    def create(self, *items: api.Node | api.Task) -> None:
        """Announce new objects."""
        self._announce(Action.CREATE, items)

    def update(self, *items: api.Node | api.Task) -> None:
        """Announce changed objects."""
        self._announce(Action.UPDATE, items)

    def delete(self, *items: api.Node | api.Task) -> None:
        """Announce deleted objects."""
        self._announce(Action.DELETE, items)

    def _announce(self, action: Action, items: Iterable[api.Node | api.Task]) -> None:
        for item in items:
            self.state.handle(Event(action, item), self.now)
        self.state.check_invariants()

    def decide(self) -> list[Decision]:
        """Run both passes without writing anything."""
        placing = Placing(self.state, self.now, MOMENT, self.services.get)
        return [decision for one in (placing.confirm(), placing.place()) for decision in one if decision]

    def tick(self) -> dict[str, str]:
        """Run both passes, write what they decide, and return the node of each task that got one."""
        self.state.tick_wanted = False
        placed: dict[str, str] = {}
        committed = []
        for decision in self.decide():
            written = api.Task()
            written.CopyFrom(decision.task)
            decision.apply(written)
            self.writes += 1
            if isinstance(decision, Assignment):
                placed[written.id] = decision.node.id
            elif isinstance(decision, Explanation):
                self.errors[written.id] = decision.text
            committed.append(written)
        self.update(*committed)
        return placed

    def counts(self, service_id: str | None = None) -> dict[str, int]:
        """Active tasks of each node, of one service or of all."""
        return {
            info.id: info.active if service_id is None else info.services.get(service_id, 0)
            for info in self.state.nodes.slots
            if info is not None and info.node is not None
        }


def nodes(names: str, **options: int) -> list[api.Node]:
    return [node(name, cpus=options.get("cpus", 0)) for name in names]


def pending(count: int, service_id: str = "service", prefix: str = "p", **options: object) -> list[api.Task]:
    return [task(f"{prefix}{number}", service_id, **options) for number in range(count)]  # type: ignore[arg-type]
