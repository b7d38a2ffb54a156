"""What the scheduler knows, and how events change it (contract/scheduler.md, 1 to 3)."""

from dataclasses import dataclass, field

from swarmkit.api import messages as api
from swarmkit.log import get_logger
from swarmkit.manager.scheduler.decisions import Assignment, Decision
from swarmkit.manager.scheduler.failures import FAULTY_FROM, WINDOW_SECONDS, FailureKey, FailureLog
from swarmkit.manager.scheduler.filters import Pipeline, Refusals
from swarmkit.manager.scheduler.nodes import NodeSet
from swarmkit.manager.scheduler.profile import Profile, Profiles
from swarmkit.store import Action, Event

log = get_logger(__name__)

_PENDING = api.TaskState.PENDING
_RUNNING = api.TaskState.RUNNING
_FAILURES = (api.TaskState.FAILED, api.TaskState.REJECTED)

#: (service id, index of the spec version or None, profile).
GroupKey = tuple[str, int | None, Profile]


@dataclass(slots=True, eq=False)
class Group:
    """Unassigned tasks that are alike: what is found out about a node for one holds for all.

    Attributes:
        service_id: their service; empty for none.
        version: the index of their spec version, None if they have none.
        pipeline: their filters.
        tasks: by id, in the order they came.
        unexplained: those that do not say ``explanation`` yet.
        refusals: why nodes refuse them; None until an attempt failed.
        explanation: why they were not placed; empty until an attempt failed.
    """

    service_id: str
    version: int | None
    pipeline: Pipeline
    tasks: dict[str, api.Task] = field(default_factory=dict)
    unexplained: dict[str, api.Task] = field(default_factory=dict)
    refusals: Refusals | None = None
    explanation: str = ""

    @property
    def key(self) -> GroupKey:
        """What makes them alike."""
        return self.service_id, self.version, self.pipeline.profile


@dataclass(slots=True, eq=False)
class Preassigned:
    """A pending task that was given a node: one of a global service, or a network attachment.

    Attributes:
        task: the task.
        pipeline: its filters.
        checked: the generation of the node when the task was tried last.
    """

    task: api.Task
    pipeline: Pipeline
    checked: int = -1


class State:
    """All tasks between PENDING and RUNNING, those to be placed, the nodes, and the failures.

    Owned by one loop. Invariants (``check_invariants``): a task is known if and only if it is queued, waits
    preassigned, is accounted on a node, or was dropped as not to be placed; it is in one of the two queues at
    most, and never in one while it is accounted, except between a decision and its event.

    Attributes:
        tasks: all known tasks by id, as last seen.
        groups: the unassigned tasks.
        preassigned: the pending tasks that have a node, by id.
        nodes: the nodes and what is accounted on them.
        failures: the failures of tasks on nodes.
        tick_wanted: something happened that may let an unassigned task be placed.
    """

    def __init__(self) -> None:
        self.tasks: dict[str, api.Task] = {}
        self.groups: dict[GroupKey, Group] = {}
        self.preassigned: dict[str, Preassigned] = {}
        self.nodes = NodeSet()
        self.failures = FailureLog()
        self.tick_wanted = False
        self._queued: dict[str, Group] = {}
        self._ever_preassigned: set[str] = set()
        self._profiles = Profiles()

    # Start

    def load(self, item: api.Node | api.Task) -> None:
        """Take in an object of the first snapshot.

        A task that was to end before it was placed is left alone here; as an event it is not (contract, 3).
        """
        if isinstance(item, api.Node):
            self.nodes.put(item)
        elif _in_scope(item) and not (
            item.status.state == _PENDING and item.desired_state > api.TaskState.COMPLETE
        ):
            self._admit(item)

    # Events

    def handle(self, event: Event, now: float) -> None:
        """Follow one event of a task or a node."""
        stored = event.object
        if isinstance(stored, api.Task):
            if event.action is Action.DELETE:
                self._ever_preassigned.discard(stored.id)
                self.tick_wanted |= self.forget(stored.id)
            else:
                self._task_changed(stored, now)
        elif isinstance(stored, api.Node):
            if event.action is Action.DELETE:
                self.nodes.drop(stored.id)
                self.failures.drop_node(stored.id)
            else:
                self.nodes.put(stored)
                self.tick_wanted = True

    def _task_changed(self, task: api.Task, now: float) -> None:
        state = task.status.state
        if state < _PENDING:
            return
        if state > _RUNNING:
            known = self.tasks.get(task.id)
            if known is not None:
                if state in _FAILURES:
                    self._record_failure(task, now)
                self._ever_preassigned.discard(task.id)
                self.forget(task.id)
                self.tick_wanted = True
            return
        self._admit(task)
        if not task.node_id:
            self.tick_wanted = True

    def _admit(self, task: api.Task) -> None:
        """Put a task where it belongs, from wherever it was."""
        self.tasks[task.id] = task
        if not task.node_id:
            self.nodes.untrack(task.id)
            self._enqueue(task)
            return
        self._dequeue(task.id)
        if task.status.state == _PENDING:
            self.nodes.untrack(task.id)
            self._ever_preassigned.add(task.id)
            self.preassigned[task.id] = Preassigned(task, Pipeline(self._profiles.of(task), task.service_id))
            return
        claim = self.nodes.claim_of(task.id)
        self.nodes.track(task, task.node_id, claim.profile if claim else self._profiles.of(task))

    def _enqueue(self, task: api.Task) -> None:
        profile = self._profiles.of(task)
        version = task.spec_version.index if task.HasField("spec_version") else None
        key = (task.service_id, version, profile)
        group = self.groups.get(key)
        if self._queued.get(task.id) is not group or group is None:
            self._dequeue(task.id)
            # Looked up again: the task may have been the last of its group.
            group = self.groups.get(key)
            if group is None:
                group = self.groups[key] = Group(task.service_id, version, Pipeline(profile, task.service_id))
            self._queued[task.id] = group
        group.tasks[task.id] = task
        if task.status.err == group.explanation:
            group.unexplained.pop(task.id, None)
        else:
            group.unexplained[task.id] = task

    def _dequeue(self, task_id: str) -> None:
        """Take a task out of whichever queue it is in (D1)."""
        self.preassigned.pop(task_id, None)
        group = self._queued.pop(task_id, None)
        if group is not None:
            del group.tasks[task_id]
            group.unexplained.pop(task_id, None)
            if not group.tasks:
                del self.groups[group.key]

    def forget(self, task_id: str) -> bool:
        """Forget a task; returns whether that freed something on a node."""
        self.tasks.pop(task_id, None)
        self._dequeue(task_id)
        return self.nodes.untrack(task_id)

    def _record_failure(self, task: api.Task, now: float) -> None:
        if task.id in self._ever_preassigned or not task.node_id:
            return
        count = self.failures.record(failure_key(task), task.node_id, now)
        if count == FAULTY_FROM:
            log.warning(
                "tasks of the service keep failing on the node: other nodes are preferred",
                node_id=task.node_id,
                service_id=task.service_id,
                failures=count,
                window_seconds=int(WINDOW_SECONDS),
            )

    # Decisions

    def assign(self, assignment: Assignment, profile: Profile) -> None:
        """Account a decision before it is written, so that the next one sees it."""
        task = assignment.task
        self._dequeue(task.id)
        self.nodes.place(task, assignment.node.id, profile, assignment.generic)

    def drop(self, group: Group) -> None:
        """Stop trying to place the tasks of a group; they are known until an event says otherwise."""
        for task_id in group.tasks:
            del self._queued[task_id]
        group.tasks = {}
        del self.groups[group.key]

    def undo(self, decision: Decision, stored: api.Task | None) -> None:
        """Take back a decision that was not written, and go on from what is stored now.

        Accounting that an event made since the decision stays (D1).
        """
        task_id = decision.task.id
        if self.tasks.get(task_id) is not decision.task:
            return
        self.forget(task_id)
        if stored is not None and stored.status.state == _PENDING:
            # An event will bring this copy too. It may be of a transaction that is not committed yet; should
            # that fail, leadership is lost and so is all of this.
            self._admit(stored)

    def check_invariants(self) -> None:
        """Compare the queues and accounts with each other; call between events, with no decision open.

        Raises:
            AssertionError: they contradict each other.
        """
        self.nodes.check_invariants()
        queued = [task_id for group in self.groups.values() for task_id in group.tasks]
        assert sorted(queued) == sorted(self._queued)
        assert not self._queued.keys() & self.preassigned.keys()
        for key, group in self.groups.items():
            assert group.tasks
            assert group.key == key
            assert group.unexplained.keys() <= group.tasks.keys()
        for task_id, task in self.tasks.items():
            accounted = self.nodes.claim_of(task_id)
            if accounted is not None:
                assert accounted.info.id == task.node_id
                assert task_id not in self._queued
                assert task_id not in self.preassigned
        for task_id in (*self._queued, *self.preassigned):
            assert task_id in self.tasks


def failure_key(task: api.Task) -> FailureKey:
    """Return under what the failures of a task are counted."""
    return task.service_id, task.spec_version.index


def _in_scope(task: api.Task) -> bool:
    return _PENDING <= task.status.state <= _RUNNING
