"""All that the dispatcher holds while this manager leads; a new leadership begins with a new one.

It starts from one consistent read, runs four loops (writer, session hub, store events, deadlines) and ends
by letting the open streams say good-bye.
"""

import asyncio
import contextlib
import functools
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass

from swarmkit.api import messages as api
from swarmkit.clock import Clock
from swarmkit.identity import new_id
from swarmkit.log import get_logger
from swarmkit.manager.dispatcher.alarm import Alarm
from swarmkit.manager.dispatcher.config import DispatcherConfig
from swarmkit.manager.dispatcher.errors import (
    ForeignTaskError,
    NodeNotFoundError,
    NodeNotRegisteredError,
    StreamCanceledError,
)
from swarmkit.manager.dispatcher.hub import SessionHub
from swarmkit.manager.dispatcher.nodes import Expiry, NodeTable
from swarmkit.manager.dispatcher.source import EventSource
from swarmkit.manager.dispatcher.updates import (
    DOWN_MESSAGE,
    UNKNOWN_DOWN_MESSAGE,
    UNKNOWN_MESSAGE,
    NodeUpdate,
    orphan,
    update_node,
)
from swarmkit.manager.dispatcher.writer import Change, UpdateWriter, write_changes
from swarmkit.store import Action, Event, Reader, Store, Tx, Watch, Watcher, by

log = get_logger(__name__)

#: The name of the one cluster object.
CLUSTER_NAME = "default"

#: A deadline looked at later than this shows that the program stood still, not the nodes.
LATE_SECONDS = 1.0

_DOWN = api.NodeStatus.DOWN
_UNKNOWN = api.NodeStatus.UNKNOWN
_TASK_STATES = frozenset(api.TaskState.values())

Managers = Callable[[], Sequence[api.Peer]]
SubscribeManagers = Callable[[Callable[[], None]], Callable[[], None]]


@dataclass(frozen=True)
class Surroundings:
    """What the dispatcher works with.

    Attributes:
        store: the replicated store.
        clock: time.
        rng: randomness for heartbeat periods.
        node_id: this manager's node.
        managers: returns every member of the raft group.
        subscribe_managers: has its argument called, on the event loop, whenever ``managers`` changes; returns
            what ends that.
        config: constants.
    """

    store: Store
    clock: Clock
    rng: random.Random
    node_id: str
    managers: Managers
    subscribe_managers: SubscribeManagers
    config: DispatcherConfig


class Tenure:
    """The dispatcher's state and loops during one leadership."""

    def __init__(self, surroundings: Surroundings) -> None:
        self.store = surroundings.store
        self.config = surroundings.config
        self.clock = surroundings.clock
        self._surroundings = surroundings
        self.nodes = NodeTable(self.config, surroundings.rng)
        self.hub = SessionHub(surroundings.managers)
        self.writer = UpdateWriter(self.store, self.clock, surroundings.node_id, self.config)
        self.serving = False
        self.stopped = False
        self._sources: dict[str, dict[EventSource, None]] = {}
        self._calls = 0
        self._idle = Alarm()
        self._wake_at: float | None = None
        self._wake_earlier = Alarm()

    # Life cycle

    async def run(self) -> None:
        """Work until cancelled or until leadership is lost; then end all streams and await their last words.

        Raises:
            ProposalError: a write was not confirmed.
        """
        watcher: Watcher | None = None
        unsubscribe = self._surroundings.subscribe_managers(self.hub.announce)
        try:
            nodes, watcher = self.store.view_and_watch(
                self._read,
                Watch(api.Cluster),
                Watch(api.Node, {Action.UPDATE}),
                Watch(api.Volume, {Action.UPDATE}),
            )
            await self._mark_nodes(nodes)
            async with asyncio.TaskGroup() as group:
                group.create_task(self.writer.run(), name="dispatcher:writer")
                group.create_task(self.hub.run(), name="dispatcher:hub")
                group.create_task(self._follow(watcher), name="dispatcher:events")
                group.create_task(self._expire(), name="dispatcher:deadlines")
                self.serving = True
        finally:
            unsubscribe()
            if watcher is not None:
                watcher.close()
            await self._stop()

    def _read(self, reader: Reader) -> list[api.Node]:
        for cluster in reader.find(api.Cluster, by.name(CLUSTER_NAME)):
            self._use_cluster(cluster)
        return reader.find(api.Node)

    async def _mark_nodes(self, nodes: Sequence[api.Node]) -> None:
        """Make every node UNKNOWN that is not DOWN, and start the timers of both."""
        now = self.clock.monotonic()
        changes: list[Change] = []
        for node in nodes:
            if node.status.state == _DOWN:
                self.nodes.add_down(node.id, now)
                continue
            self.nodes.add_unknown(node.id, now)
            changes.append(functools.partial(_mark_unknown, node.id))
        await write_changes(self.store, changes)

    async def _stop(self) -> None:
        self.serving = False
        self.stopped = True
        self.writer.close()
        self.hub.close()
        for sources in self._sources.values():
            for source in sources:
                source.end(StreamCanceledError())
        deadline = self.clock.monotonic() + self.config.stop_seconds
        while self._calls and (left := deadline - self.clock.monotonic()) > 0:
            await self._idle.wait(left)
        if self._calls:
            log.warning("calls of nodes still run after the dispatcher stopped", calls=self._calls)

    async def _follow(self, watcher: Watcher) -> None:
        async for commit in watcher:
            for event in commit.events:
                stored = event.object
                if isinstance(stored, api.Volume):
                    self._push_volume(event)
                elif isinstance(stored, api.Node):
                    self.hub.set_node(stored)
                elif isinstance(stored, api.Cluster) and event.action is not Action.DELETE:
                    if stored.spec.annotations.name == CLUSTER_NAME:
                        self._use_cluster(stored)

    def _push_volume(self, event: Event) -> None:
        """Hand the event to the streams of the nodes that use or used the volume.

        A watch of each stream's own would make every volume cost as much as there are nodes.
        """
        versions = [v for v in (event.object, event.old) if isinstance(v, api.Volume)]
        for node_id in {status.node_id for version in versions for status in version.publish_status}:
            for source in self._sources.get(node_id, ()):
                source.push(event)

    def _use_cluster(self, cluster: api.Cluster) -> None:
        period = cluster.spec.dispatcher.heartbeat_period
        self.nodes.set_period(period.seconds + period.nanos / 1e9)
        self.hub.set_cluster(cluster)

    # Deadlines

    async def _expire(self) -> None:
        """Act on heartbeat deadlines and orphan timers as they come."""
        while True:
            deadline = self.nodes.next_deadline()
            now = self.clock.monotonic()
            if deadline is None or deadline > now:
                self._wake_at = deadline
                await self._wake_earlier.wait(None if deadline is None else deadline - now)
                continue
            if now - deadline > LATE_SECONDS:
                # The heartbeats that came meanwhile lie unread in the sockets: read them before judging.
                log.warning("deadlines are looked at late", seconds=round(now - deadline, 1))
                await self.clock.sleep(LATE_SECONDS)
                now = self.clock.monotonic()
            for expiry in self.nodes.expire(now):
                self._node_down(expiry, now)
            for node_id in self.nodes.orphaned(now):
                await self._orphan_tasks(node_id)

    def _notice_deadline(self) -> None:
        """Wake the loop above if a deadline now comes before the one it waits for."""
        deadline = self.nodes.next_deadline()
        if deadline is not None and (self._wake_at is None or deadline < self._wake_at):
            self._wake_earlier.ring()

    def _node_down(self, expiry: Expiry, now: float) -> None:
        """End the streams of a silent node, have it written DOWN, and start its orphan timer.

        PARITY: the original ends task and assignment streams after their next message only; a node that has
        stopped reading never takes one, and what is queued for it would grow.
        """
        for source in self._sources.get(expiry.node_id, ()):
            source.end(NodeNotRegisteredError())
        if self.store.view().get(api.Node, expiry.node_id) is None:
            return
        log.info("heartbeat expiration for node", node_id=expiry.node_id, unknown=expiry.unknown)
        self.nodes.add_down(expiry.node_id, now)
        message = UNKNOWN_DOWN_MESSAGE if expiry.unknown else DOWN_MESSAGE
        self.writer.put_node(expiry.node_id, NodeUpdate(_DOWN, message))

    async def _orphan_tasks(self, node_id: str) -> None:
        """Give up the tasks of a node that has been DOWN for too long."""
        tasks = self.store.view().find(api.Task, by.node(node_id))
        log.info("node is down for too long, its tasks are orphaned", node_id=node_id, tasks=len(tasks))
        await write_changes(self.store, [functools.partial(_orphan, task.id) for task in tasks])

    # What the calls need

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        """Count a call, so that stopping waits for its end."""
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle.ring()

    @contextlib.asynccontextmanager
    async def source(self, node_id: str, *watches: Watch) -> AsyncIterator[EventSource]:
        """Watch the store for a stream of the node, until the block ends, the node expires or all stops."""
        source = EventSource(self.store.watch(*watches))
        self._sources.setdefault(node_id, {})[source] = None
        try:
            yield source
        finally:
            del self._sources[node_id][source]
            if not self._sources[node_id]:
                del self._sources[node_id]
            await source.close()

    async def open_session(
        self, node_id: str, ip: str, session_id: str, description: api.NodeDescription | None
    ) -> str:
        """Resume the node's session or register it anew, write its state READY, and return the session id.

        PARITY: the table entry is made before the write and not after it, so that a call that breaks off in
        between leaves a node that expires and not one that stays READY.

        Raises:
            RateLimitError: the node registers too often.
            NodeNotFoundError: it is not in the store.
            DispatcherStoppedError: the dispatcher stopped meanwhile.
        """
        update = NodeUpdate.registered(ip, description)
        if not self.nodes.has_session(node_id, session_id):
            now = self.clock.monotonic()
            self.nodes.count_attempt(node_id, now)
            if self.store.view().get(api.Node, node_id) is None:
                raise NodeNotFoundError
            session_id = new_id()
            self.nodes.register(node_id, session_id, now)
            self._notice_deadline()
            log.info("node registered", node_id=node_id, addr=ip)
        await self.writer.write_node(node_id, update)
        return session_id

    def heartbeat(self, node_id: str, session_id: str) -> float:
        """Accept a beat and return the seconds until the next.

        Raises:
            NodeNotRegisteredError: the node has no entry.
            SessionInvalidError: it has, with another session or none yet.
        """
        seconds = self.nodes.heartbeat(node_id, session_id, self.clock.monotonic())
        self._notice_deadline()
        return seconds

    def report_tasks(
        self, node_id: str, updates: Sequence[api.UpdateTaskStatusRequest.TaskStatusUpdate]
    ) -> None:
        """Take in reports about the node's tasks; those about unknown tasks are dropped.

        PARITY: so are those of a state without a name, which the original stores as it stores any number.

        Raises:
            ForeignTaskError: one is about another node's task; none is taken in.
        """
        reader = self.store.view()
        known = []
        for update in updates:
            task = reader.get(api.Task, update.task_id) if update.HasField("status") else None
            if task is None:
                continue
            if task.node_id != node_id:
                raise ForeignTaskError(update.task_id)
            if update.status.state not in _TASK_STATES:
                log.warning("a task state that does not exist was reported", node_id=node_id, task_id=task.id)
                continue
            known.append(update)
        for update in known:
            self.writer.put_task(update.task_id, update.status)

    def report_volumes(
        self, node_id: str, updates: Sequence[api.UpdateVolumeStatusRequest.VolumeStatusUpdate]
    ) -> None:
        """Take in which volumes the node no longer uses; those about unknown volumes are dropped.

        PARITY: the original stops the leader at a volume it does not know.
        """
        reader = self.store.view()
        for update in updates:
            if update.unpublished and reader.get(api.Volume, update.id) is not None:
                self.writer.put_unpublished(update.id, node_id)


def _mark_unknown(node_id: str, tx: Tx) -> None:
    node = tx.get(api.Node, node_id)
    changed = update_node(node, NodeUpdate(_UNKNOWN, UNKNOWN_MESSAGE)) if node is not None else None
    if changed is not None:
        tx.update(changed)


def _orphan(task_id: str, tx: Tx) -> None:
    task = tx.get(api.Task, task_id)
    orphaned = orphan(task) if task is not None else None
    if orphaned is not None:
        tx.update(orphaned)
