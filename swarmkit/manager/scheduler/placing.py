"""Decisions: which task goes where, and what the others are told (contract/scheduler.md, 5, 11, 14, 15).

The passes are generators, so that whoever drives them can do something else in between: they yield decisions,
already accounted in the state, and None where there is none to report.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from google.protobuf.timestamp_pb2 import Timestamp

from swarmkit.api import messages as api
from swarmkit.log import get_logger
from swarmkit.manager.scheduler import generic
from swarmkit.manager.scheduler.decisions import (
    ASSIGNED_TEXT,
    CONFIRMED_TEXT,
    Assignment,
    Decision,
    Explanation,
    Retirement,
)
from swarmkit.manager.scheduler.filters import NO_NODE, PASSES, Pipeline, Refusals, explain_one
from swarmkit.manager.scheduler.nodeinfo import NodeInfo
from swarmkit.manager.scheduler.profile import Levels, Profile
from swarmkit.manager.scheduler.ranking import PAUSE_AFTER, Branch, Preference, ranked
from swarmkit.manager.scheduler.state import Group, Preassigned, State

log = get_logger(__name__)

Decisions = Iterator[Decision | None]


class Placing:
    """One pass over what is to be placed.

    Args:
        state: what is known; changed by every decision.
        now: seconds, on the clock of the failure log.
        moment: the same for the status of the tasks.
        service: looks up a service in the store, by id.
    """

    def __init__(
        self,
        state: State,
        now: float,
        moment: Timestamp,
        service: Callable[[str], api.Service | None],
    ) -> None:
        self._state = state
        self._now = now
        self._moment = moment
        self._service = service

    def confirm(self) -> Decisions:
        """Try each preassigned task on its node, if that changed since the last time."""
        status = self._assigned_status(CONFIRMED_TEXT)
        for entry in list(self._state.preassigned.values()):
            try:
                yield self._confirm_one(entry, status)
            except Exception as error:  # one bad task must not keep all others from being scheduled
                log.exception("cannot schedule a preassigned task", task_id=entry.task.id, error=str(error))

    def _confirm_one(self, entry: Preassigned, status: api.TaskStatus) -> Decision | None:
        nodes = self._state.nodes
        info = nodes.get(entry.task.node_id)
        if info is None or info.node is None or nodes.changed_at(info) == entry.checked:
            return None
        entry.checked = nodes.changed_at(info)
        verdict = entry.pipeline.verdict(info)
        if verdict == PASSES:
            return self._assign(entry.task, info, entry.pipeline.profile, status)
        text = explain_one(verdict)
        return None if entry.task.status.err == text else Explanation(entry.task, text, self._moment)

    def place(self) -> Decisions:
        """Run one tick: try to place every unassigned task, those with a spec version first."""
        self._state.failures.clean(self._now)
        status = self._assigned_status(ASSIGNED_TEXT)
        groups = sorted(self._state.groups.values(), key=lambda group: group.version is None)
        for group in groups:
            try:
                yield from self._place_group(group, status)
            except Exception as error:  # one bad group must not keep all others from being scheduled
                log.exception("cannot schedule tasks", service_id=group.service_id, error=str(error))

    def _place_group(self, group: Group, status: api.TaskStatus) -> Decisions:
        candidates: list[NodeInfo] | None = None
        if group.refusals is None or group.refusals.generation < 0:
            group.refusals = Refusals()
        else:
            # Tried before: what refused then and did not change since refuses now.
            candidates = []
            for info in self._refresh(group.pipeline, group.refusals):
                if info is None:
                    yield None
                else:
                    candidates.append(info)
            candidates.sort(key=lambda info: (info.active, info.slot))
        if candidates is None or candidates:
            yield from self._place_tasks(group, group.refusals, candidates, status)
        if group.tasks:
            yield from self._left_over(group, group.refusals)

    def _place_tasks(
        self,
        group: Group,
        refusals: Refusals,
        candidates: list[NodeInfo] | None,
        status: api.TaskStatus,
    ) -> Decisions:
        """Place as many tasks of a group as there is room for.

        Args:
            group: the group.
            refusals: where it is noted which nodes have none.
            candidates: the nodes to look at, ascending by their active tasks; None for all available ones.
            status: what the placed tasks get.
        """
        faulty = self._state.failures.faulty((group.service_id, group.version or 0), self._now)
        preference = Preference(group.service_id, faulty, group.pipeline, refusals)
        special = self._special(preference, candidates)
        by_load = self._state.nodes.by_load() if candidates is None else candidates
        profile = group.pipeline.profile
        if profile.spread is not None:
            tree = Branch()
            yield from self._grow(tree, profile.spread, group.service_id, special, by_load)
            order = tree.spread(preference)
        else:
            order = ranked(preference, special, by_load)
        waiting = list(group.tasks.values())
        placed = 0
        for info in order:
            if info is None:
                yield None
                continue
            yield self._assign(waiting[placed], info, profile, status)
            placed += 1
            if placed == len(waiting):
                return

    def _special(self, preference: Preference, candidates: list[NodeInfo] | None) -> list[NodeInfo]:
        """Return the nodes about which more than their load decides."""
        if candidates is not None:
            return [info for info in candidates if preference.is_special(info)]
        nodes = self._state.nodes
        special = dict.fromkeys(nodes.running(preference.service_id))
        for node_id in preference.faulty:
            info = nodes.get(node_id)
            if info is not None:
                special[info] = None
        return [info for info in special if info.available]

    def _grow(
        self,
        tree: Branch,
        levels: Levels,
        service_id: str,
        special: list[NodeInfo],
        by_load: Iterable[NodeInfo],
    ) -> Iterator[None]:
        """Fill the tree of the placement preferences."""
        leaves: defaultdict[tuple[str, ...], list[NodeInfo]] = defaultdict(list)
        for number, info in enumerate(by_load, 1):
            leaves[info.path(levels)].append(info)
            if number % PAUSE_AFTER == 0:
                yield None
        for path, nodes in leaves.items():
            tree.descend(path).nodes = nodes
        for info in special:
            tree.descend(info.path(levels)).special.append(info)
        # Nodes that take no more tasks count as well: what runs there is part of the spread.
        for number, info in enumerate(self._state.nodes.running(service_id), 1):
            tree.descend(info.path(levels), info.services[service_id])
            if number % PAUSE_AFTER == 0:
                yield None

    def _left_over(self, group: Group, refusals: Refusals) -> Decisions:
        """Explain to the tasks that are left why they are, or give them up."""
        service = self._service(group.service_id)
        if service is None:
            self._state.drop(group)
            return
        if _is_stale(group, service):
            tasks = list(group.tasks.values())
            self._state.drop(group)
            for task in tasks:
                pending = task.status.state == api.TaskState.PENDING
                stop = pending and task.desired_state >= api.TaskState.SHUTDOWN
                yield Retirement(task, self._moment) if stop else None
            return
        for _ in self._refresh(group.pipeline, refusals):
            yield None
        text = refusals.text()
        untold = group.unexplained if text == group.explanation else group.tasks
        tasks = list(untold.values())
        group.explanation = text
        group.unexplained = {}
        for task in tasks:
            yield None if task.status.err == text else Explanation(task, text, self._moment)

    def _refresh(self, pipeline: Pipeline, refusals: Refusals) -> Iterator[NodeInfo | None]:
        """Ask about the nodes that changed since ``refusals`` was made; yield those that pass, and pauses."""
        nodes = self._state.nodes
        new = refusals.generation < 0
        slots = range(len(nodes.slots)) if new else nodes.changed_since(refusals.generation)
        for number, slot in enumerate(slots, 1):
            # What refused while the tasks were placed just now was given none of them: that still holds.
            if not (new and refusals.known(slot)):
                info = nodes.slots[slot]
                verdict = NO_NODE if info is None else pipeline.verdict(info)
                refusals.set(slot, verdict)
                if verdict == PASSES:
                    yield info
            if number % PAUSE_AFTER == 0:
                yield None
        refusals.generation = nodes.generation

    def _assign(self, task: api.Task, info: NodeInfo, profile: Profile, status: api.TaskStatus) -> Assignment:
        assert info.node is not None, "a node id without a node passes no filter"
        held = tuple(generic.claim(info.generic, profile.generic)) if profile.generic else ()
        assignment = Assignment(task, info.node, held, status)
        self._state.assign(assignment, profile)
        return assignment

    def _assigned_status(self, text: str) -> api.TaskStatus:
        return api.TaskStatus(state=api.TaskState.ASSIGNED, message=text, timestamp=self._moment)


def _is_stale(group: Group, service: api.Service) -> bool:
    if group.version is None or not service.HasField("spec_version"):
        return False
    return service.spec_version.index > group.version
