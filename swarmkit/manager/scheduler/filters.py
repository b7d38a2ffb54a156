"""The filter pipeline: which nodes a task may run on, and why not on the others (contract/scheduler.md, 6).

A node is charged to the first filter that it fails. A filter that does not apply to a task is skipped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from swarmkit.manager import constraint
from swarmkit.manager.scheduler import generic
from swarmkit.manager.scheduler.nodeinfo import NodeInfo
from swarmkit.manager.scheduler.profile import Profile

#: Verdicts. Anything between them is one more than the index of the filter that refused.
PASSES = 0
NO_NODE = 255

Passes = Callable[[Profile, NodeInfo, str], bool]


@dataclass(frozen=True, slots=True)
class Filter:
    """One reason why a node may be refused.

    Attributes:
        applies: whether the filter looks at tasks of a profile at all.
        passes: whether a node, whose ``node`` is not None, satisfies a profile for a service.
        explain: the sentence for a number of refused nodes.
        lasting: the verdict does not change by what is placed on the node.
    """

    applies: Callable[[Profile], bool]
    passes: Passes
    explain: Callable[[int], str]
    lasting: bool


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"


def _resources_pass(profile: Profile, info: NodeInfo, _: str) -> bool:
    # PARITY: a dimension reserved as 0 is compared too, so an over-committed node refuses it.
    if profile.nano_cpus > info.nano_cpus or profile.memory_bytes > info.memory_bytes:
        return False
    if profile.generic is None:
        return False
    return all(generic.enough(info.generic, kind, amount) for kind, amount in profile.generic.items())


def _plugins_pass(profile: Profile, info: NodeInfo, _: str) -> bool:
    if info.node is None or not info.node.description.HasField("engine"):
        return True
    plugins = info.plugins
    if not all(
        (kind, name) in plugins or (kind, f"{name}:latest") in plugins for kind, name in profile.plugins
    ):
        return False
    driver = profile.log_driver
    if not driver or ("Log", driver) in plugins or ("Log", f"{driver}:latest") in plugins:
        return True
    # An engine that lists no log plugins is too old to tell.
    return not any(kind == "Log" for kind, _ in plugins)


def _constraints_pass(profile: Profile, info: NodeInfo, _: str) -> bool:
    return info.node is not None and constraint.matches(profile.constraints, info.node)


def _platform_passes(profile: Profile, info: NodeInfo, _: str) -> bool:
    if info.node is None or not info.node.description.HasField("platform"):
        return False
    architecture, system = info.platform
    # What the task leaves empty matches anything; what the node leaves empty is just that.
    return any(
        wanted_architecture in ("", architecture) and wanted_system in ("", system)
        for wanted_architecture, wanted_system in profile.platforms
    )


def _ports_pass(profile: Profile, info: NodeInfo, _: str) -> bool:
    return not any(port in info.ports for port in profile.host_ports)


def _replicas_pass(profile: Profile, info: NodeInfo, service_id: str) -> bool:
    return info.services.get(service_id, 0) < profile.max_replicas


#: In the order in which they are asked.
FILTERS: tuple[Filter, ...] = (
    Filter(
        applies=lambda profile: True,
        passes=lambda profile, info, service_id: info.available,
        explain=lambda count: f"{_nodes(count)} not available for new tasks",
        lasting=True,
    ),
    Filter(
        applies=lambda profile: profile.reserves,
        passes=_resources_pass,
        explain=lambda count: f"insufficient resources on {_nodes(count)}",
        lasting=False,
    ),
    Filter(
        applies=lambda profile: bool(profile.plugins or profile.log_driver),
        passes=_plugins_pass,
        explain=lambda count: f"missing plugin on {_nodes(count)}",
        lasting=True,
    ),
    Filter(
        applies=lambda profile: bool(profile.constraints),
        passes=_constraints_pass,
        explain=lambda count: f"scheduling constraints not satisfied on {_nodes(count)}",
        lasting=True,
    ),
    Filter(
        applies=lambda profile: bool(profile.platforms),
        passes=_platform_passes,
        explain=lambda count: f"unsupported platform on {_nodes(count)}",
        lasting=True,
    ),
    Filter(
        applies=lambda profile: bool(profile.host_ports),
        passes=_ports_pass,
        explain=lambda count: f"host-mode port already in use on {_nodes(count)}",
        lasting=False,
    ),
    Filter(
        applies=lambda profile: profile.max_replicas > 0,
        passes=_replicas_pass,
        explain=lambda count: "max replicas per node limit reached",
        lasting=False,
    ),
    Filter(
        # No volume can be used before its plugin has created it, and nothing asks plugins to create volumes
        # yet: no mount of a cluster volume can be satisfied anywhere.
        applies=lambda profile: profile.cluster_mounts,
        passes=lambda profile, info, service_id: False,
        explain=lambda count: f"cannot fulfil requested CSI volume mounts on {_nodes(count)}",
        lasting=True,
    ),
)


class Pipeline:
    """The filters that apply to the tasks of one profile and service.

    Attributes:
        profile: the inputs of the filters.
    """

    def __init__(self, profile: Profile, service_id: str) -> None:
        self.profile = profile
        self._service_id = service_id
        self._filters = [
            (verdict, item.passes)
            for verdict, item in enumerate(FILTERS, PASSES + 1)
            if item.applies(profile)
        ]
        self._fading = [item.passes for item in FILTERS if not item.lasting and item.applies(profile)]

    def verdict(self, info: NodeInfo) -> int:
        """Return ``PASSES``, the verdict of the first filter that refuses, or ``NO_NODE``."""
        if info.node is None:
            return NO_NODE
        for verdict, passes in self._filters:
            if not passes(self.profile, info, self._service_id):
                return verdict
        return PASSES

    def still_passes(self, info: NodeInfo) -> bool:
        """Tell whether a node that passed when it was last asked still does, having got tasks since."""
        for passes in self._fading:  # not all(): a generator costs five times as much here
            if not passes(self.profile, info, self._service_id):
                return False
        return True


#: Slots made at a time, so that notes in ascending order need not each make their own.
_SPARE_SLOTS = 256


class Refusals:
    """Which filter refuses the tasks of one pipeline on each node, with the number of nodes of each.

    One byte a node: many services can be stuck on many nodes. The verdicts are those of ``generation`` of the
    ``NodeSet``; whoever brings them up to date asks only about nodes that changed since. As long as it is
    negative, the verdicts are being collected for the first time and some are missing.
    """

    def __init__(self) -> None:
        self.generation = -1
        self._verdicts = bytearray()
        self._counts = [0] * (len(FILTERS) + 1)

    def set(self, slot: int, verdict: int) -> None:
        """Note the verdict on the node with ``slot``."""
        if slot >= len(self._verdicts):
            missing = slot + _SPARE_SLOTS - len(self._verdicts)
            self._verdicts.extend(bytes((NO_NODE,)) * missing)
        before = self._verdicts[slot]
        if before != NO_NODE:
            self._counts[before] -= 1
        if verdict != NO_NODE:
            self._counts[verdict] += 1
        self._verdicts[slot] = verdict

    def known(self, slot: int) -> bool:
        """Tell whether a verdict was noted."""
        return slot < len(self._verdicts) and self._verdicts[slot] != NO_NODE

    def text(self) -> str:
        """Explain why no node is suitable."""
        reasons = explain(self._counts)
        return f"no suitable node ({reasons})" if reasons else "no suitable node"


def explain(counts: Sequence[int]) -> str:
    """Join the reasons, those with most nodes first, equal ones in the order of the pipeline.

    Args:
        counts: numbers of nodes, indexed by verdict; what passed is not looked at.
    """
    charged = [(count, item) for count, item in zip(counts[PASSES + 1 :], FILTERS, strict=True) if count]
    charged.sort(key=lambda entry: -entry[0])
    return "; ".join(item.explain(count) for count, item in charged)


def explain_one(verdict: int) -> str:
    """Explain why the one node a task is meant for refuses it."""
    return FILTERS[verdict - PASSES - 1].explain(1)
