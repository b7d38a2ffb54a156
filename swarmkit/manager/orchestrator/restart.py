"""The restart supervisor: replaces tasks and starts the replacements when their time has come.

Decisions are in ``restart_policy`` and ``release_queue``; here is what touches the store
(contract/orchestration.md, 8).
"""

import asyncio
from collections.abc import Callable, Iterable

from swarmkit.api import messages as api
from swarmkit.clock import Clock
from swarmkit.identity import new_id as random_id
from swarmkit.log import get_logger
from swarmkit.manager.orchestrator.pacing import Pacer, wait_for_event
from swarmkit.manager.orchestrator.reads import node_of
from swarmkit.manager.orchestrator.release_queue import ReleaseQueue
from swarmkit.manager.orchestrator.restart_policy import RestartHistory, replacement_for
from swarmkit.manager.orchestrator.slots import slot_key, updatable
from swarmkit.manager.tasks import ended, wanted_of, with_desired_state
from swarmkit.store import (
    Action,
    Event,
    LeadershipLostError,
    ProposalError,
    StoppedError,
    Store,
    Tx,
    Watch,
    Watcher,
)

log = get_logger(__name__)

#: How long a replacement waits for the task it replaces to end, in seconds.
STOP_WAIT_SECONDS = 60.0


class AlreadyShutDownError(Exception):
    """A restart was asked for a task that is to be shut down already."""

    def __init__(self, task_id: str) -> None:
        super().__init__(f"task {task_id} was already shut down; it is not restarted")
        self.task_id = task_id


class RestartSupervisor:
    """Replaces tasks under their restart policy. One per orchestrator; its ``run`` must be running.

    All methods but ``run`` are synchronous. What they schedule depends on ``run`` alone, so a transaction may
    call them without missing what happens to the old task afterwards.
    """

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
        self._queue = ReleaseQueue()
        self._wake = asyncio.Event()
        self._cluster: api.Cluster | None = None
        self.history = RestartHistory()

    # Called by orchestrators and updaters

    def adopt_cluster(self, cluster: api.Cluster | None) -> None:
        """Take the cluster object that supplies the log driver of replacements."""
        self._cluster = cluster

    def updatable(self, service: api.Service, tasks: Iterable[api.Task]) -> list[api.Task]:
        """Return those of a slot's tasks that make it a running slot; see ``slots.updatable``."""
        return updatable(service, tasks, self.history.should_restart)

    def restart(self, tx: Tx, service: api.Service, task: api.Task) -> None:
        """Shut ``task`` down and, if its policy says so, put a replacement into its slot.

        ``service`` and ``task`` are as ``tx`` has them. While the task's own start is still pending, it is
        dealt with after that start, so that a task that is rejected at once cannot loop faster than its
        delay.

        Raises:
            AlreadyShutDownError: the task's desired state is above COMPLETE.
        """
        if task.id in self._queue:
            self._queue.restart_after(task.id)
            return
        if task.desired_state > api.TaskState.COMPLETE:
            raise AlreadyShutDownError(task.id)
        stopped = with_desired_state(task, api.TaskState.SHUTDOWN)
        assert stopped is not None
        tx.update(stopped)
        if not self.history.should_restart(service, task):
            log.info("task not restarted", task_id=task.id, service_id=service.id)
            return
        now = self._clock.now()
        successor = replacement_for(
            service,
            task,
            node_of(tx, task),
            task_id=self._new_id(),
            now=now,
            cluster=self._cluster,
        )
        if successor is None:
            return
        created = tx.create(successor.task)
        self.history.record(slot_key(service, created), created, now)
        self.schedule_release(
            created.id,
            delay_seconds=successor.delay_seconds,
            old=task if successor.wait_for_old else None,
        )
        log.info("task replaced", task_id=task.id, replacement=created.id, service_id=service.id)

    def schedule_release(
        self, task_id: str, *, delay_seconds: float = 0.0, old: api.Task | None = None
    ) -> None:
        """Start a task that waits in READY, after a delay and, if ``old`` still runs, after its end.

        Replaces a release of the task that is already pending. A release does nothing if meanwhile the
        task's desired state has been raised.
        """
        awaited = old if old is not None and not ended(old) else None
        self._queue.schedule(
            task_id,
            self._clock.monotonic(),
            delay_seconds=delay_seconds,
            limit_seconds=self._stop_wait_seconds,
            old_id=awaited.id if awaited is not None else "",
            node_id=awaited.node_id if awaited is not None else "",
        )
        self._wake.set()

    def cancel(self, task_id: str) -> None:
        """Drop the pending start of a task, if there is one."""
        self._queue.cancel(task_id)
        self._wake.set()

    def forget_service(self, service_id: str) -> None:
        """Drop the restart history of a service that is gone."""
        self.history.forget_service(service_id)

    # Background

    def watch(self) -> Watcher:
        """Subscribe to what releases wait for. From now on nothing is missed; ``run`` reads the stream."""
        return self._store.watch(
            Watch(api.Task, {Action.UPDATE}, where=ended),
            Watch(api.Node, {Action.UPDATE}, where=lambda node: node.status.state == api.NodeStatus.DOWN),
            Watch(api.Node, {Action.DELETE}),
        )

    async def run(self, watcher: Watcher) -> None:
        """Carry out releases until cancelled; ends by itself when this manager no longer leads.

        Pending releases are dropped with it: their tasks stay in READY for the next leader. ``watcher`` is
        from ``watch``.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._observe_all(watcher))
                while True:
                    self._wake.clear()
                    await self._work()
                    await wait_for_event(self._wake, self._clock, self._queue.deadline())
        except* (LeadershipLostError, StoppedError):
            log.debug("releases stopped: this manager no longer leads")

    async def _observe_all(self, watcher: Watcher) -> None:
        async for commit in watcher:
            for event in commit.events:
                self._observe(event)

    def _observe(self, event: Event) -> None:
        now = self._clock.monotonic()
        if isinstance(event.object, api.Task):
            self._queue.task_ended(event.object.id, now)
        else:
            self._queue.node_lost(event.object.id, now)
        self._wake.set()

    async def _work(self) -> None:
        pacer = Pacer(self._clock)
        while due := self._queue.advance(self._clock.monotonic()):
            await self._batch(due, self._release, pacer)
        if restarts := self._queue.take_restarts():
            await self._batch(restarts, self._restart_late, pacer)

    async def _batch(self, task_ids: list[str], change: Callable[[Tx, str], None], pacer: Pacer) -> None:
        try:
            async with self._store.batch() as batch:
                for task_id in task_ids:
                    try:
                        batch.update(lambda tx, task_id=task_id: change(tx, task_id))  # type: ignore[misc]
                    except ProposalError:
                        raise
                    except Exception as error:  # one bad object must not stop the work on all others
                        log.exception("cannot start or restart a task", task_id=task_id, error=error)
                    await pacer.pause()
        except (LeadershipLostError, StoppedError):
            raise
        except ProposalError as error:
            log.error("cannot start or restart tasks", count=len(task_ids), error=error)

    def _release(self, tx: Tx, task_id: str) -> None:
        task = tx.get(api.Task, task_id)
        if task is None or task.desired_state >= api.TaskState.RUNNING:
            return
        is_job = task.HasField("job_iteration")
        state = api.TaskState.COMPLETE if is_job else api.TaskState.RUNNING
        released = with_desired_state(task, state)
        assert released is not None
        tx.update(released)

    def _restart_late(self, tx: Tx, task_id: str) -> None:
        task = tx.get(api.Task, task_id)
        service = tx.get(api.Service, task.service_id) if task is not None else None
        if task is not None and service is not None and wanted_of(service, task):
            self.restart(tx, service, task)
