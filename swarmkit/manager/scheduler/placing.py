"""Decisions: which task goes where, and what the others are told (contract/scheduler.md, 5, 11, 14, 15).

The passes are generators, so that whoever drives them can do something else in between: they yield decisions,
already accounted in the state, and None where there is none to report.
"""

from collections.abc import Callable, Iterator

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
from swarmkit.manager.scheduler.profile import Profile
from swarmkit.manager.scheduler.ranking import PAUSE_AFTER, Branch, Order, Preference, leaf_order, ranked
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
        groups = sorted(self._state.groups.values(), key=lambda group: group.version is None)
        for group in groups:
            try:
                yield from self._place_group(group)
            except Exception as error:  # one bad group must not keep all others from being scheduled
                log.exception("cannot schedule tasks", service_id=group.service_id, error=str(error))

    def _place_group(self, group: Group) -> Decisions:
        candidates: list[NodeInfo] | None = None
        if group.refusals is not None:
            # Tried before: what refused then and did not change since refuses now.
            candidates = []
            for info in self._refresh(group.pipeline, group.refusals):
                if info is None:
                    yield None
                else:
                    candidates.append(info)
            candidates.sort(key=lambda info: (info.active, info.slot))
        preference = self._preference(group)
        if group.pipeline.profile.spread:
            tree = Branch()
            yield from self._grow(tree, group, candidates)
            order = tree.spread(leaf_order(preference))
        else:
            order = self._flat_order(preference, candidates)
        status = self._assigned_status(ASSIGNED_TEXT)
        waiting = list(group.tasks.values())
        placed = 0
        for info in order:
            if info is None:
                yield None
                continue
            yield self._assign(waiting[placed], info, group.pipeline.profile, status)
            placed += 1
            if placed == len(waiting):
                return
        yield from self._left_over(group)

    def _preference(self, group: Group) -> Preference:
        faulty = self._state.failures.faulty((group.service_id, group.version or 0), self._now)
        return Preference(group.service_id, faulty, group.pipeline)

    def _flat_order(self, preference: Preference, candidates: list[NodeInfo] | None) -> Order:
        nodes = self._state.nodes
        if candidates is not None:
            return ranked(preference, filter(preference.is_special, candidates), candidates)
        failing = (nodes.get(node_id) for node_id in preference.faulty)
        special = dict.fromkeys(nodes.running(preference.service_id))
        special.update((info, None) for info in failing if info is not None)
        return ranked(preference, (info for info in special if info.available), nodes.by_load())

    def _grow(self, tree: Branch, group: Group, candidates: list[NodeInfo] | None) -> Iterator[None]:
        """Fill the tree of the placement preferences."""
        nodes = self._state.nodes
        levels = group.pipeline.profile.spread
        for number, info in enumerate(nodes.by_load() if candidates is None else candidates, 1):
            tree.descend(info, levels, 0).nodes.append(info)
            if number % PAUSE_AFTER == 0:
                yield None
        # Nodes that take no more tasks count as well: what runs there is part of the spread.
        for number, info in enumerate(nodes.running(group.service_id), 1):
            tree.descend(info, levels, info.services[group.service_id])
            if number % PAUSE_AFTER == 0:
                yield None

    def _left_over(self, group: Group) -> Decisions:
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
        if group.refusals is None:
            group.refusals = Refusals()
        for _ in self._refresh(group.pipeline, group.refusals):
            yield None
        text = group.refusals.text()
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
