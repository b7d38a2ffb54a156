"""What one node has left: resources, ports, counts of active tasks (contract/scheduler.md, 8)."""

from collections import Counter
from dataclasses import dataclass

from swarmkit.api import messages as api
from swarmkit.manager.scheduler import generic
from swarmkit.manager.scheduler.profile import Levels, PluginKey, PortKey, Profile, normalised_platform

#: Most lists of spread levels whose values are remembered on a node; services rarely differ in them.
_MAX_PATHS = 16


def is_active(task: api.Task) -> bool:
    """Tell whether the task counts toward spread and toward the replicas allowed on a node."""
    return task.desired_state <= api.TaskState.COMPLETE


@dataclass(slots=True, eq=False)
class Claim:
    """What one task holds on one node.

    Attributes:
        info: the node.
        profile: the reservation.
        service_id: the service of the task; empty for none.
        active: whether it is counted as active.
        generic: the generic resources it was given.
    """

    info: "NodeInfo"
    profile: Profile
    service_id: str
    active: bool
    generic: tuple[api.GenericResource, ...]


class NodeInfo:
    """One node id: the node, if it is there, and the tasks that hold something on it.

    Attributes:
        id: the node id.
        slot: a small number that is this node's as long as this object is in the ``NodeSet``.
        node: the stored node; None while only its tasks are known.
        available: the node is READY and ACTIVE.
        nano_cpus: free CPU; negative if over-committed.
        memory_bytes: free memory; negative if over-committed.
        generic: free generic resources.
        ports: users of each host port.
        active: active tasks.
        services: active tasks by service; no zeros.
        tracked: all tasks that hold something here.
    """

    __slots__ = (
        "_generic_claims",
        "_paths",
        "_platform",
        "_plugins",
        "active",
        "available",
        "generic",
        "id",
        "memory_bytes",
        "nano_cpus",
        "node",
        "ports",
        "services",
        "slot",
        "tracked",
    )

    def __init__(self, node_id: str, slot: int) -> None:
        self.id = node_id
        self.slot = slot
        self.node: api.Node | None = None
        self.available = False
        self.nano_cpus = 0
        self.memory_bytes = 0
        self.generic: list[api.GenericResource] = []
        self.ports: dict[PortKey, int] = {}
        self.active = 0
        self.services: dict[str, int] = {}
        self.tracked = 0
        self._generic_claims: dict[str, tuple[api.GenericResource, ...]] = {}
        self._plugins: frozenset[PluginKey] | None = None
        self._platform: tuple[str, str] | None = None
        self._paths: dict[Levels, tuple[str, ...]] = {}

    @property
    def plugins(self) -> frozenset[PluginKey]:
        """The (type, name) pairs of the engine's plugins."""
        if self._plugins is None:
            engine = self.node.description.engine if self.node is not None else api.EngineDescription()
            self._plugins = frozenset((plugin.type, plugin.name) for plugin in engine.plugins)
        return self._plugins

    @property
    def platform(self) -> tuple[str, str]:
        """The normalised (architecture, system) pair; two empty strings if the node tells none."""
        if self._platform is None:
            platform = self.node.description.platform if self.node is not None else api.Platform()
            self._platform = normalised_platform(platform)
        return self._platform

    def path(self, levels: Levels) -> tuple[str, ...]:
        """Return the values of the labels; a missing label is the empty value, none without a node."""
        path = self._paths.get(levels)
        if path is None:
            if len(self._paths) >= _MAX_PATHS:
                self._paths.clear()
            path = () if self.node is None else levels.path(self.node)
            self._paths[levels] = path
        return path

    def set_node(self, node: api.Node | None) -> None:
        """Replace the node, or drop it; what its tasks hold is subtracted from what it declares now (D8)."""
        before = _declared(self.node)
        declared = _declared(node)
        self.node = node
        self.nano_cpus += declared.nano_cpus - before.nano_cpus
        self.memory_bytes += declared.memory_bytes - before.memory_bytes
        self.available = (
            node is not None
            and node.status.state == api.NodeStatus.READY
            and node.spec.availability == api.NodeSpec.ACTIVE
        )
        self._plugins = None
        self._platform = None
        self._paths.clear()
        self._recount_generic()

    def add(self, task_id: str, claim: Claim) -> None:
        """Subtract what a task holds; the active counts are ``NodeSet``'s to change."""
        profile = claim.profile
        self.tracked += 1
        self.nano_cpus -= profile.nano_cpus
        self.memory_bytes -= profile.memory_bytes
        for port in profile.host_ports:
            self.ports[port] = self.ports.get(port, 0) + 1
        if claim.generic:
            self._generic_claims[task_id] = claim.generic
            self.generic = generic.consume(self.generic, claim.generic)

    def remove(self, task_id: str, claim: Claim) -> None:
        """Undo ``add``."""
        profile = claim.profile
        self.tracked -= 1
        self.nano_cpus += profile.nano_cpus
        self.memory_bytes += profile.memory_bytes
        for port in profile.host_ports:
            # Two tasks can hold one port: it is free when the last one is gone (D11).
            if self.ports[port] == 1:
                del self.ports[port]
            else:
                self.ports[port] -= 1
        if claim.generic:
            del self._generic_claims[task_id]
            self._recount_generic()

    def check_invariants(self, claims: list[Claim]) -> None:
        """Compare the accounts with the claims they are made from.

        Raises:
            AssertionError: they differ.
        """
        declared = _declared(self.node)
        assert self.tracked == len(claims)
        assert self.nano_cpus == declared.nano_cpus - sum(claim.profile.nano_cpus for claim in claims)
        assert self.memory_bytes == declared.memory_bytes - sum(
            claim.profile.memory_bytes for claim in claims
        )
        assert self.ports == Counter(port for claim in claims for port in claim.profile.host_ports)
        assert self.services == Counter(claim.service_id for claim in claims if claim.active)
        assert self.active == sum(self.services.values())
        left = list(declared.generic)
        for claim in claims:
            left = generic.consume(left, claim.generic)
        assert self.generic == left

    def _recount_generic(self) -> None:
        self.generic = list(_declared(self.node).generic)
        for held in self._generic_claims.values():
            self.generic = generic.consume(self.generic, held)


def _declared(node: api.Node | None) -> api.Resources:
    return node.description.resources if node is not None else api.Resources()
