"""What of a task decides where it may run, digested once for all tasks alike.

Tasks whose filter inputs are equal share one ``Profile``: they are placed as one batch, and the verdict of
the filters on a node holds for all of them.
"""

import weakref
from dataclasses import dataclass

from swarmkit.api import messages as api
from swarmkit.manager import constraint
from swarmkit.manager.scheduler import generic

#: A port on the host: (``api.PortConfig.Protocol``, number).
PortKey = tuple[int, int]

#: An engine plugin: (type, name).
PluginKey = tuple[str, str]

_NODE_LABEL_PREFIX = "node.labels."
_ENGINE_LABEL_PREFIX = "engine.labels."
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class Label:
    """One level of a spread: a label of the nodes, or of their engines.

    Attributes:
        of_engine: whose label it is.
        name: its name, compared with case.
    """

    of_engine: bool
    name: str

    def value(self, node: api.Node) -> str:
        """Return the value of the label, the empty string if the node does not have it."""
        if self.of_engine:
            return node.description.engine.labels.get(self.name, "")
        return node.spec.annotations.labels.get(self.name, "")


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Levels:
    """Labels to spread over; one object for all profiles with the same ones.

    Attributes:
        labels: the labels, outermost first; not empty.
    """

    labels: tuple[Label, ...]

    def path(self, node: api.Node) -> tuple[str, ...]:
        """Return the values of the labels of a node."""
        return tuple(label.value(node) for label in self.labels)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Profile:
    """The inputs of the filters and of the accounting (contract/scheduler.md, 6).

    Attributes:
        nano_cpus: reserved CPU, in billionths.
        memory_bytes: reserved memory.
        generic: reserved amounts of generic resources by kind; None if the reservation can never be met.
        reserves: whether anything at all is reserved.
        plugins: plugins the node's engine must have.
        log_driver: the log plugin the node's engine must have, if it lists any; empty for none.
        constraints: placement constraints; a list that does not parse counts as empty.
        platforms: (architecture, system) pairs of which one must be the node's, normalised.
        host_ports: ports that must be free on the node.
        max_replicas: most active tasks of the service on one node; 0 is no limit.
        cluster_mounts: whether a cluster volume is mounted.
        spread: the labels over which the service spreads, None for no preference.
    """

    nano_cpus: int
    memory_bytes: int
    generic: dict[str, int] | None
    reserves: bool
    plugins: tuple[PluginKey, ...]
    log_driver: str
    constraints: tuple[constraint.Constraint, ...]
    platforms: tuple[tuple[str, str], ...]
    host_ports: tuple[PortKey, ...]
    max_replicas: int
    cluster_mounts: bool
    spread: Levels | None


class Profiles:
    """Hands out one ``Profile`` for all tasks alike; keeps none alive that nobody uses."""

    def __init__(self) -> None:
        self._known: weakref.WeakValueDictionary[object, Profile] = weakref.WeakValueDictionary()
        self._levels: weakref.WeakValueDictionary[tuple[Label, ...], Levels] = weakref.WeakValueDictionary()

    def of(self, task: api.Task) -> Profile:
        """Return the profile of a task."""
        networks = _network_drivers(task)
        ports = _host_ports(task)
        key = (task.spec.SerializeToString(deterministic=True), networks, ports)
        profile = self._known.get(key)
        if profile is None:
            spread = self._spread(task.spec.placement)
            profile = self._known[key] = _digest(task.spec, networks, ports, spread)
        return profile

    def _spread(self, placement: api.Placement) -> Levels | None:
        found = (_label(preference.spread.spread_descriptor) for preference in placement.preferences)
        labels = tuple(label for label in found if label is not None)
        if not labels:
            return None
        levels = self._levels.get(labels)
        if levels is None:
            levels = self._levels[labels] = Levels(labels)
        return levels


def normalised_platform(platform: api.Platform) -> tuple[str, str]:
    """Return (architecture, system) with the two spellings of the common architectures made one."""
    architecture = platform.architecture
    return _ARCHITECTURES.get(architecture, architecture), platform.os


def _digest(
    spec: api.TaskSpec, networks: tuple[str, ...], ports: tuple[PortKey, ...], spread: Levels | None
) -> Profile:
    reserved = spec.resources.reservations
    mounts = spec.container.mounts if spec.WhichOneof("runtime") == "container" else ()
    plugins = [("Volume", name) for name in map(_volume_driver, mounts) if name not in ("", "local")]
    plugins += [("Network", name) for name in networks if name]
    log_driver = spec.log_driver.name
    return Profile(
        nano_cpus=reserved.nano_cpus,
        memory_bytes=reserved.memory_bytes,
        generic=generic.amounts(reserved.generic),
        reserves=bool(reserved.nano_cpus or reserved.memory_bytes or reserved.generic),
        plugins=tuple(dict.fromkeys(plugins)),
        log_driver="" if log_driver == "none" else log_driver,
        constraints=tuple(constraint.parse_or_empty(spec.placement.constraints)),
        platforms=tuple(normalised_platform(platform) for platform in spec.placement.platforms),
        host_ports=ports,
        max_replicas=spec.placement.max_replicas,
        cluster_mounts=any(mount.type == api.Mount.CLUSTER for mount in mounts),
        spread=spread,
    )


def _network_drivers(task: api.Task) -> tuple[str, ...]:
    if not task.networks:
        return ()
    return tuple(attachment.network.driver_state.name for attachment in task.networks)


def _host_ports(task: api.Task) -> tuple[PortKey, ...]:
    if not task.HasField("endpoint"):
        return ()
    ports = (
        (int(port.protocol), port.published_port)
        for port in task.endpoint.ports
        if port.publish_mode == api.PortConfig.HOST and port.published_port
    )
    return tuple(dict.fromkeys(ports))


def _volume_driver(mount: api.Mount) -> str:
    return mount.volume_options.driver_config.name if mount.type == api.Mount.VOLUME else ""


def _label(descriptor: str) -> Label | None:
    # The prefix is compared without case, the name of the label with it. Anything else adds no level.
    folded = descriptor.lower()
    if folded.startswith(_NODE_LABEL_PREFIX) and len(descriptor) > len(_NODE_LABEL_PREFIX):
        return Label(False, descriptor[len(_NODE_LABEL_PREFIX) :])
    if folded.startswith(_ENGINE_LABEL_PREFIX) and len(descriptor) > len(_ENGINE_LABEL_PREFIX):
        return Label(True, descriptor[len(_ENGINE_LABEL_PREFIX) :])
    return None
