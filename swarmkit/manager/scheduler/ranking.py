"""The order in which nodes get the tasks of one service (contract/scheduler.md, 11 and 12).

Tasks are placed one at a time, each on the node that is best at that moment. An order is therefore an
iterator that is resumed after its node got a task: it yields a node to place one task on, or None as an
opportunity to do something else, and ends when no node takes a further task.

PARITY: the original fixes the order for a whole batch and spreads unevenly when counts differ at the start
(D7); this is the greedy rule that its contract page asks for.
"""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from swarmkit.manager.scheduler.filters import PASSES, Pipeline, Refusals
from swarmkit.manager.scheduler.nodeinfo import NodeInfo

#: Nodes looked at between two opportunities to do something else.
PAUSE_AFTER = 256

Order = Iterator[NodeInfo | None]
Key = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Preference:
    """What makes one node better than another for the tasks of one service.

    Attributes:
        service_id: the service.
        faulty: node ids that failed its tasks too often, with the number of failures.
        pipeline: the filters a node must pass.
        refusals: where it is noted that a node does not.
    """

    service_id: str
    faulty: dict[str, int]
    pipeline: Pipeline
    refusals: Refusals

    def key(self, info: NodeInfo) -> Key:
        """Return what nodes are sorted by: failures, active tasks of the service, active tasks."""
        return self.faulty.get(info.id, 0), info.services.get(self.service_id, 0), info.active

    def is_special(self, info: NodeInfo) -> bool:
        """Tell whether more than its load decides about a node."""
        return self.service_id in info.services or info.id in self.faulty


def ranked(preference: Preference, special: Iterable[NodeInfo], by_load: Iterable[NodeInfo]) -> Order:
    """Yield the best node that passes the filters, again and again.

    A node that fails is left out from then on: what is placed here can only take from it. Only as many nodes
    are asked as are needed.

    Args:
        preference: what nodes are compared by.
        special: all nodes that ``preference`` holds to be special, in any order.
        by_load: the other nodes, ascending by their active tasks. May repeat, or contain special ones.
    """
    pipeline = preference.pipeline
    heap = [(*preference.key(info), info.slot, info) for info in special]
    heapq.heapify(heap)
    seen = {entry[4] for entry in heap}
    passed: set[NodeInfo] = set()
    fresh = (info for info in by_load if info not in seen)
    cursor = next(fresh, None)
    refused = 0
    while heap or cursor is not None:
        if cursor is not None and (not heap or (0, 0, cursor.active) <= heap[0][:3]):
            info = cursor
            seen.add(info)
            cursor = next(fresh, None)
        else:
            info = heapq.heappop(heap)[4]
        if info in passed:
            fits = pipeline.still_passes(info)
        else:
            verdict = pipeline.verdict(info)
            fits = verdict == PASSES
            if fits:
                passed.add(info)
            else:
                preference.refusals.set(info.slot, verdict)
        if fits:
            yield info
            heapq.heappush(heap, (*preference.key(info), info.slot, info))
        else:
            refused += 1
            if refused % PAUSE_AFTER == 0:
                yield None


@dataclass(slots=True)
class Branch:
    """The nodes that agree in the labels of the levels above.

    Attributes:
        count: active tasks of the service on all nodes of the branch, also on those that take no more.
        branches: the next level, by the value of its label; a missing label is the empty value.
        nodes: at the last level, the nodes that may be asked, ascending by their active tasks.
        special: those of them that are special to the preference.
    """

    count: int = 0
    branches: dict[str, "Branch"] = field(default_factory=dict)
    nodes: list[NodeInfo] = field(default_factory=list)
    special: list[NodeInfo] = field(default_factory=list)

    def descend(self, path: Iterable[str], count: int = 0) -> "Branch":
        """Add ``count`` to this branch and to those along the path; return the last one."""
        branch = self
        branch.count += count
        for value in path:
            branch = branch.branches.setdefault(value, Branch())
            branch.count += count
        return branch

    def spread(self, preference: Preference) -> Order:
        """Yield a node of the branch that has the fewest tasks, at each level; inside a leaf the best one.

        A branch that takes no more tasks is left out from then on. Between equal branches the one that was
        made first goes first.
        """
        if not self.branches:
            yield from ranked(preference, self.special, self.nodes)
            return
        heap = [
            (branch.count, number, branch, branch.spread(preference))
            for number, branch in enumerate(self.branches.values())
        ]
        heapq.heapify(heap)
        while heap:
            _, number, branch, nodes = heap[0]
            try:
                info = next(nodes)
            except StopIteration:
                heapq.heappop(heap)
                continue
            yield info
            if info is not None:
                branch.count += 1
                heapq.heapreplace(heap, (branch.count, number, branch, nodes))
