"""What the orchestrators have in common: one watch, queues of work, restarts before everything else."""

import asyncio
import datetime
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import NamedTuple, TypeVar

from swarmkit.api import messages as api
from swarmkit.clock import Clock
from swarmkit.identity import new_id as random_id
from swarmkit.log import get_logger
from swarmkit.manager.orchestrator.pacing import Pacer
from swarmkit.manager.orchestrator.reads import DEFAULT_CLUSTER_NAME, default_cluster
from swarmkit.manager.orchestrator.restart import STOP_WAIT_SECONDS, RestartSupervisor
from swarmkit.manager.orchestrator.startup import Repair, check_tasks
from swarmkit.manager.orchestrator.update import UpdateSupervisor
from swarmkit.manager.tasks import wanted, with_desired_state
from swarmkit.store import (
    Action,
    Event,
    LeadershipLostError,
    ProposalError,
    Reader,
    StoppedError,
    Store,
    Tx,
    Watch,
    Watcher,
    by,
)

T = TypeVar("T")
#: Ids, each once, first in first out. In a plain dict the first is found behind all that were taken before
#: it: a leader that starts with 50,000 services would look at a billion of them.
_Queue = OrderedDict[str, None]

log = get_logger(__name__)

_COMMON_WATCHES = (
    Watch(api.Node),
    Watch(api.Cluster, {Action.CREATE, Action.UPDATE}),
)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class _Found(NamedTuple):
    """What the store held when the watch began."""

    tasks: list[api.Task]
    services: dict[str, api.Service]
    nodes: dict[str, api.Node]
    cluster: api.Cluster | None


class Orchestrator(ABC):
    """The loop of one kind of service; ``run`` is called when this manager has become the leader.

    Events only put ids into queues; the work is done between events, on what the store holds then. So a burst
    of events about one object is one piece of work, and each queue is bounded by the number of objects.

    PARITY: the updater of a deleted service ends; in the original it runs on, unable to create anything.
    """

    name = "orchestrator"

    def __init__(
        self,
        store: Store,
        clock: Clock,
        new_id: Callable[[], str] = random_id,
        stop_wait_seconds: float = STOP_WAIT_SECONDS,
    ) -> None:
        self._store = store
        self._clock = clock
        self._new_id = new_id
        self._stop_wait_seconds = stop_wait_seconds
        self._reset()

    def _reset(self) -> None:
        """Begin with nothing: what an earlier run knew may be out of date."""
        self._restarts = RestartSupervisor(self._store, self._clock, self._new_id, self._stop_wait_seconds)
        self._updates = UpdateSupervisor(self._store, self._clock, self._restarts, self._new_id)
        self._cluster: api.Cluster | None = None
        self._restart_queue: dict[str, None] = {}
        self._deleted_services: _Queue = OrderedDict()
        self._nodes: _Queue = OrderedDict()
        self._reconciles: _Queue = OrderedDict()

    async def run(self) -> None:
        """Work until cancelled; ends by itself when this manager no longer leads or the store closes.

        May be called again after it ended. Updaters end first, then pending releases: their tasks stay in
        READY for the next leader.
        """
        self._reset()
        services = Watch(api.Service, where=self._takes)
        found, watcher = self._store.view_and_watch(_read, *self._watches(), services, *_COMMON_WATCHES)
        with watcher, self._restarts.watch() as ends:
            try:
                async with asyncio.TaskGroup() as group:
                    releases = group.create_task(self._restarts.run(ends), name=f"{self.name}:restarts")
                    try:
                        await self._start(found)
                        del found  # what it refers to would stay in memory for as long as this manager leads
                        await self._loop(watcher)
                    finally:
                        await self._updates.close()
                        releases.cancel()
            except* (LeadershipLostError, StoppedError):
                log.debug("orchestrator stopped: this manager no longer leads", orchestrator=self.name)

    async def _loop(self, watcher: Watcher) -> None:
        pacer = Pacer(self._clock)
        while True:
            while (commit := watcher.next_nowait()) is not None:
                for event in commit.events:
                    self._handle_safely(event)
                await pacer.pause()
            if self._has_work():
                await self._work(pacer)
                continue
            try:
                commit = await anext(watcher)
            except StopAsyncIteration:
                return
            for event in commit.events:
                self._handle_safely(event)

    # What the kinds differ in

    @abstractmethod
    def _takes(self, service: api.Service | None) -> bool:
        """Tell whether the service exists and is of this orchestrator's kind."""

    @abstractmethod
    def _watches(self) -> tuple[Watch, ...]:
        """Return which events of tasks to watch."""

    @abstractmethod
    def _repair(self, task: api.Task, nodes: Mapping[str, api.Node]) -> Repair:
        """Decide what a task of such a service needs when this manager begins to lead."""

    @abstractmethod
    def _task_event(self, action: Action, task: api.Task) -> None:
        """Queue what an event of a task needs."""

    def _service_changed(self, service: api.Service) -> None:
        """Queue what a new or changed service needs."""
        self._reconciles[service.id] = None

    def _service_deleted(self, service: api.Service) -> None:
        """Queue what is left to do for a service that is gone."""
        self._updates.cancel(service.id)
        self._restarts.forget_service(service.id)
        self._reconciles.pop(service.id, None)
        self._deleted_services[service.id] = None

    def _node_event(self, action: Action, node: api.Node) -> None:
        """Queue what an event of a node needs."""
        self._nodes[node.id] = None

    @abstractmethod
    def _restart(self, tx: Tx, service: api.Service, task: api.Task) -> None:
        """Restart a wanted task of a service of this kind, or what the kind does instead."""

    @abstractmethod
    async def _reconcile(self, service_id: str) -> None:
        """Bring the tasks of one service to what its spec asks for."""

    @abstractmethod
    async def _reconcile_node(self, node_id: str) -> None:
        """Deal with the tasks of a node that was created, changed or deleted."""

    # Start

    async def _start(self, found: _Found) -> None:
        self._adopt(found.cluster)
        pacer = Pacer(self._clock)
        now = (self._clock.now() - _EPOCH) // datetime.timedelta(microseconds=1) * 1000
        plan = await pacer.drive(
            check_tasks(found.tasks, found.services, found.nodes, self._takes, self._repair, now)
        )
        for key, task in plan.restarts:
            self._restarts.history.record(key, task, self._clock.now())
            await pacer.pause()
        for task_id, delay_seconds in plan.release:
            self._restarts.schedule_release(task_id, delay_seconds=delay_seconds)
            await pacer.pause()
        await self._change_tasks(plan.forget, _delete)
        await self._change_tasks(plan.shut_down, shut_down)
        self._restart_queue.update(dict.fromkeys(plan.restart))
        for service in found.services.values():
            if self._takes(service):
                self._service_changed(service)
            await pacer.pause()

    # Events

    def _handle_safely(self, event: Event) -> None:
        try:
            self._handle(event)
        except Exception as error:  # one bad object must not stop the work on all others
            log.exception("cannot handle event", object_id=event.object.id, error=error)

    def _handle(self, event: Event) -> None:
        item = event.object
        if isinstance(item, api.Task):
            self._task_event(event.action, item)
        elif isinstance(item, api.Node):
            self._node_event(event.action, item)
        elif isinstance(item, api.Cluster):
            if item.spec.annotations.name == DEFAULT_CLUSTER_NAME:
                self._adopt(item)
        elif isinstance(item, api.Service) and self._takes(item):
            if event.action is Action.DELETE:
                self._service_deleted(item)
            else:
                self._service_changed(item)

    def _adopt(self, cluster: api.Cluster | None) -> None:
        self._cluster = cluster
        self._restarts.adopt_cluster(cluster)

    # Work

    def _has_work(self) -> bool:
        return bool(self._deleted_services or self._nodes or self._restart_queue or self._reconciles)

    async def _work(self, pacer: Pacer) -> None:
        """Empty the queues but for reconciliations: of those do one, then look at what happened meanwhile.

        Most of what is looked at needs nothing, and so waits for nothing: only the pacer lets others go on.
        """
        while self._deleted_services:
            service_id = _pop(self._deleted_services)
            tasks = self._store.view().find(api.Task, by.service(service_id))
            await self._change_tasks([task.id for task in tasks], _remove)
            await pacer.pause()
        while self._nodes:
            await self._attempt(self._reconcile_node, _pop(self._nodes))
            await pacer.pause()
        if self._restart_queue:
            task_ids = list(self._restart_queue)
            self._restart_queue.clear()
            await self._change_tasks(task_ids, self._restart_queued)
        if self._reconciles:
            await self._attempt(self._reconcile, _pop(self._reconciles))
        await pacer.pause()

    async def _attempt(self, work: Callable[[str], Awaitable[None]], item: str) -> None:
        try:
            await work(item)
        except (LeadershipLostError, StoppedError):
            raise
        except Exception as error:  # one bad object must not stop the work on all others
            log.exception("reconciliation failed", orchestrator=self.name, item=item, error=error)

    def _restart_queued(self, tx: Tx, task: api.Task) -> None:
        service = tx.get(api.Service, task.service_id)
        if service is not None and wanted(task) and self._takes(service):
            self._restart(tx, service, task)

    async def _change_tasks(self, task_ids: Iterable[str], change: Callable[[Tx, api.Task], None]) -> None:
        """Change tasks, each by itself, as they are then; those that are gone are skipped."""

        def change_one(tx: Tx, task_id: str) -> None:
            task = tx.get(api.Task, task_id)
            if task is not None:
                change(tx, task)

        await self._each(list(task_ids), change_one)

    async def _each(self, items: Collection[T], change: Callable[[Tx, T], None]) -> None:
        """Make a change for each of ``items``, each by itself; a failure is logged and the rest goes on."""
        if not items:
            return
        pacer = Pacer(self._clock)
        try:
            async with self._store.batch() as batch:
                for item in items:
                    try:
                        batch.update(lambda tx, item=item: change(tx, item))  # type: ignore[misc]
                    except ProposalError:
                        raise
                    except Exception as error:  # one bad object must not stop the work on all others
                        log.exception("cannot change task", item=item, orchestrator=self.name, error=error)
                    await pacer.pause()
        except (LeadershipLostError, StoppedError):
            raise
        except ProposalError as error:
            log.error("changes were not made", orchestrator=self.name, error=error)


def _pop(queue: _Queue) -> str:
    return queue.popitem(last=False)[0]


def shut_down(tx: Tx, task: api.Task) -> None:
    """Raise the desired state of ``task`` to SHUTDOWN."""
    raise_desired_state(tx, task, api.TaskState.SHUTDOWN)


def _remove(tx: Tx, task: api.Task) -> None:
    raise_desired_state(tx, task, api.TaskState.REMOVE)


def raise_desired_state(tx: Tx, task: api.Task, state: api.TaskState.ValueType) -> None:
    """Raise the desired state of ``task`` to ``state``, unless it is there or above it."""
    raised = with_desired_state(task, state)
    if raised is not None:
        tx.update(raised)


def _delete(tx: Tx, task: api.Task) -> None:
    tx.delete(api.Task, task.id)


def _read(reader: Reader) -> _Found:
    return _Found(
        tasks=reader.find(api.Task),
        services={service.id: service for service in reader.find(api.Service)},
        nodes={node.id: node for node in reader.find(api.Node)},
        cluster=default_cluster(reader),
    )
