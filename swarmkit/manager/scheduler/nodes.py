"""All nodes with what is free on them, kept up to date change by change (contract/scheduler.md, 3, 8 and 16).

Nothing here is ever counted anew over all tasks.
"""

from collections.abc import Iterator

from swarmkit.api import messages as api
from swarmkit.manager.scheduler.nodeinfo import Claim, NodeInfo, is_active
from swarmkit.manager.scheduler.profile import Profile

_NOTHING: tuple[api.GenericResource, ...] = ()


class NodeSet:
    """All nodes, where each task is accounted, and the order of the available nodes by load.

    Each change of a node raises ``generation``; ``changed_since`` tells which nodes changed after a given
    one, so that what was found out about a node need be found out again only when it changed.

    Invariants (``check_invariants``): a node's free resources, ports and counts are what its description and
    the claims located on it make; the load order holds exactly the available nodes; a node id without a node
    is kept only as long as tasks are accounted on it (D8).
    """

    def __init__(self) -> None:
        self.generation = 0
        self._infos: dict[str, NodeInfo] = {}
        self._slots: list[NodeInfo | None] = []
        self._free_slots: list[int] = []
        self._changes: dict[int, int] = {}
        self._claims: dict[str, Claim] = {}
        self._by_load: dict[int, dict[NodeInfo, None]] = {}
        self._by_service: dict[str, dict[NodeInfo, None]] = {}

    @property
    def slots(self) -> list[NodeInfo | None]:
        """Every ``NodeInfo`` at the index that is its slot; None where a slot is free."""
        return self._slots

    def get(self, node_id: str) -> NodeInfo | None:
        """Return what is known of a node id; its ``node`` may be None."""
        return self._infos.get(node_id)

    def claim_of(self, task_id: str) -> Claim | None:
        """Return what the task holds, None if it is accounted nowhere."""
        return self._claims.get(task_id)

    def by_load(self) -> Iterator[NodeInfo]:
        """Yield the available nodes, those with the fewest active tasks first.

        Nodes may be given tasks meanwhile; such a one may be met again further on.
        """
        for load in sorted(self._by_load):
            yield from list(self._by_load.get(load, ()))

    def running(self, service_id: str) -> list[NodeInfo]:
        """Return the nodes that have active tasks of a service, available or not."""
        return list(self._by_service.get(service_id, ()))

    def changed_at(self, info: NodeInfo) -> int:
        """Return the generation of the last change of a node."""
        return self._changes.get(info.slot, 0)

    def changed_since(self, generation: int) -> list[int]:
        """Return the slots of the nodes that changed after ``generation``, the last change first."""
        slots = []
        for slot, changed in reversed(self._changes.items()):
            if changed <= generation:
                break
            slots.append(slot)
        return slots

    def put(self, node: api.Node) -> None:
        """Take in a node that was created or updated; its tasks stay accounted."""
        info = self._infos.get(node.id) or self._new_info(node.id)
        self._unlist(info)
        info.set_node(node)
        self._list(info)
        self._touch(info)

    def drop(self, node_id: str) -> None:
        """Forget a node; tasks accounted on its id stay accounted, should it come back (D8)."""
        info = self._infos.get(node_id)
        if info is None:
            return
        self._unlist(info)
        info.set_node(None)
        self._touch(info)
        self._drop_if_unused(info)

    def track(self, task: api.Task, node_id: str, profile: Profile) -> None:
        """Account a task on a node, with exactly the generic resources it records (D5).

        Of a task that is accounted there already only the step between active and inactive matters.
        """
        claim = self._claims.get(task.id)
        if claim is not None and claim.info is self._infos.get(node_id):
            active = is_active(task)
            if active != claim.active:
                claim.active = active
                self._count(claim, 1 if active else -1)
                self._touch(claim.info)
            return
        self.untrack(task.id)
        held = tuple(task.assigned_generic_resources) if task.assigned_generic_resources else _NOTHING
        self.place(task, node_id, profile, held)

    def place(
        self, task: api.Task, node_id: str, profile: Profile, held: tuple[api.GenericResource, ...]
    ) -> Claim:
        """Account a task that is accounted nowhere yet, holding the generic resources ``held``."""
        info = self._infos.get(node_id) or self._new_info(node_id)
        claim = Claim(info, profile, task.service_id, is_active(task), held)
        self._claims[task.id] = claim
        info.add(task.id, claim)
        if claim.active:
            self._count(claim, 1)
        self._touch(info)
        return claim

    def untrack(self, task_id: str) -> bool:
        """Give back what a task holds; returns whether it held anything."""
        claim = self._claims.pop(task_id, None)
        if claim is None:
            return False
        info = claim.info
        if claim.active:
            self._count(claim, -1)
        info.remove(task_id, claim)
        self._touch(info)
        self._drop_if_unused(info)
        return True

    def check_invariants(self) -> None:
        """Compare the accounts with what they are made from.

        Raises:
            AssertionError: they differ.
        """
        by_node: dict[NodeInfo, list[Claim]] = {info: [] for info in self._infos.values()}
        for claim in self._claims.values():
            by_node[claim.info].append(claim)
        for info, claims in by_node.items():
            assert self._slots[info.slot] is info
            assert self._infos[info.id] is info
            assert info.node is not None or claims
            info.check_invariants(claims)
            assert (info in self._by_load.get(info.active, ())) == info.available
            for service_id in info.services:
                assert info in self._by_service[service_id]
        assert sum(map(len, self._by_load.values())) == sum(info.available for info in by_node)
        assert sum(map(len, self._by_service.values())) == sum(len(info.services) for info in by_node)
        assert all(self._by_load.values())
        assert all(self._by_service.values())
        assert len(by_node) + len(self._free_slots) == len(self._slots)

    def _new_info(self, node_id: str) -> NodeInfo:
        if self._free_slots:
            info = NodeInfo(node_id, self._free_slots.pop())
            self._slots[info.slot] = info
        else:
            info = NodeInfo(node_id, len(self._slots))
            self._slots.append(info)
        self._infos[node_id] = info
        return info

    def _drop_if_unused(self, info: NodeInfo) -> None:
        if info.node is None and not info.tracked:
            del self._infos[info.id]
            self._slots[info.slot] = None
            self._free_slots.append(info.slot)

    def _touch(self, info: NodeInfo) -> None:
        self.generation += 1
        # Taken out first, so that the order of the dict is the order of the changes.
        self._changes.pop(info.slot, None)
        self._changes[info.slot] = self.generation

    def _count(self, claim: Claim, step: int) -> None:
        info, service_id = claim.info, claim.service_id
        self._unlist(info)
        info.active += step
        self._list(info)
        count = info.services.get(service_id, 0) + step
        if count:
            info.services[service_id] = count
            if count == step:
                self._by_service.setdefault(service_id, {})[info] = None
            return
        del info.services[service_id]
        nodes = self._by_service[service_id]
        del nodes[info]
        if not nodes:
            del self._by_service[service_id]

    def _list(self, info: NodeInfo) -> None:
        if info.available:
            bucket = self._by_load.get(info.active)
            if bucket is None:
                bucket = self._by_load[info.active] = {}
            bucket[info] = None

    def _unlist(self, info: NodeInfo) -> None:
        if info.available:
            bucket = self._by_load[info.active]
            del bucket[info]
            if not bucket:
                del self._by_load[info.active]
