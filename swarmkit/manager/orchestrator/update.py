"""Rolling updates: one updater a service, which replaces outdated tasks slot by slot.

Decisions are in ``rollout`` and ``update_status``; here is what touches the store
(contract/orchestration.md, 9).
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from swarmkit.aio import TaskOwner
from swarmkit.api import messages as api
from swarmkit.clock import Clock
from swarmkit.identity import new_id as random_id
from swarmkit.log import get_logger
from swarmkit.manager.orchestrator import settings, update_status
from swarmkit.manager.orchestrator.dirty import is_slot_dirty, is_task_dirty
from swarmkit.manager.orchestrator.pacing import Pacer, next_commit
from swarmkit.manager.orchestrator.reads import node_of, tasks_in_slot
from swarmkit.manager.orchestrator.restart import RestartSupervisor
from swarmkit.manager.orchestrator.rollout import Rollout, SlotChange, Verdict, change_of_slot
from swarmkit.manager.orchestrator.slots import Slot, SlotKey
from swarmkit.manager.tasks import ended, is_invalid_node, new_task, wanted, with_desired_state
from swarmkit.store import (
    Action,
    Event,
    LeadershipLostError,
    ProposalError,
    StoppedError,
    Store,
    StoreError,
    Tx,
    Watch,
    Watcher,
)

log = get_logger(__name__)

#: Slots that one step begins before it looks at what happened meanwhile: about one proposal.
SLOTS_PER_STEP = 100


class _Started(NamedTuple):
    """A new task that runs now, in a slot whose old tasks were to run until then."""

    task_id: str
    key: SlotKey


class Updater:
    """Brings slots of one service up to date. ``service`` and ``slots`` are as they were at the request."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        restarts: RestartSupervisor,
        new_id: Callable[[], str],
        service: api.Service,
        cluster: api.Cluster | None,
        slots: Sequence[Slot],
    ) -> None:
        self.service = service
        self._store = store
        self._clock = clock
        self._restarts = restarts
        self._new_id = new_id
        self._cluster = cluster
        self._slots: Sequence[Slot] = slots
        self._config = settings.update_config(service)
        self._rollout = Rollout([], self._config, rolling_back=False)
        self._tipped_by = ""
        self._old: dict[str, tuple[str, ...]] = {}
        self._started: list[_Started] = []

    @property
    def halted(self) -> bool:
        """Whether too many failures ended the update; slots that were begun may still be waited for."""
        return self._rollout.verdict is not None

    async def run(self) -> None:
        """Replace what is outdated and record how it went, until done, paused or cancelled.

        Cancellation writes no status; tasks that were created stay and are released when their time comes.

        Raises:
            ProposalError: a change was not confirmed.
        """
        if update_status.is_paused(self.service):
            return
        dirty = await self._dirty_slots()
        if not dirty:
            if update_status.is_under_way(self.service):
                await self._write_status(lambda service: update_status.completed(service, self._clock.now()))
            return
        await self._write_status(lambda service: update_status.started(service, self._clock.now()))
        log.info("update started", service_id=self.service.id, slots=len(dirty))
        self._rollout = Rollout(dirty, self._config, rolling_back=update_status.is_rolling_back(self.service))
        with self._store.watch(
            Watch(
                api.Task,
                {Action.UPDATE},
                service_id=self.service.id,
                where=lambda task: task.status.state >= api.TaskState.RUNNING or not wanted(task),
            ),
            Watch(api.Task, {Action.DELETE}, service_id=self.service.id),
        ) as watcher:
            await self._roll_out(watcher)

    async def _dirty_slots(self) -> list[SlotKey]:
        pacer = Pacer(self._clock)
        dirty: list[SlotKey] = []
        for slot in self._slots:
            reader = self._store.view()
            nodes = [node_of(reader, task) for task in slot.tasks]
            if is_slot_dirty(self.service, slot.tasks, nodes):
                dirty.append(slot.key)
            await pacer.pause()
        self._slots = ()
        return dirty

    async def _wait(self, watcher: Watcher, deadline: float | None) -> None:
        """Wait for news or the deadline, and take note of all the news there is."""
        commit = await next_commit(watcher, self._clock, deadline)
        pacer = Pacer(self._clock)
        while commit is not None:
            for event in commit.events:
                self._observe(event)
            await pacer.pause()
            commit = watcher.next_nowait()

    def _observe(self, event: Event) -> None:
        task = event.object
        assert isinstance(task, api.Task)
        now = self._clock.monotonic()
        if event.action is Action.DELETE:
            # PARITY: the original waits for ever for a new task whose record was deleted.
            self._rollout.forget(task.id, now)
            return
        if not wanted(task) and task.status.state < api.TaskState.RUNNING:
            self._follow(task, now)
            return
        undecided = self._rollout.verdict is None
        key = self._rollout.observe(task, now)
        if undecided and self._rollout.verdict is not None:
            self._tipped_by = task.id
        if key is not None and task.id in self._old:
            self._started.append(_Started(task.id, key))

    def _follow(self, task: api.Task, now: float) -> None:
        """Wait for what replaces a new task that is not to run any more and did not end: its node was lost.

        PARITY: the original waits for the task itself, which is until the node comes back and calls its end a
        failure of the update.
        """
        key = self._rollout.awaited(task.id)
        if key is None:
            return
        reader = self._store.view()
        successors = [
            other
            for other in tasks_in_slot(reader, key)
            if wanted(other) and not is_task_dirty(self.service, other, node_of(reader, other))
        ]
        old = self._old.pop(task.id, None)
        if not successors:
            self._rollout.forget(task.id, now)
            return
        # Made together with this event: what became of it meanwhile is yet to be read from the watcher.
        successor = max(successors, key=lambda other: other.meta.created_at.ToNanoseconds())
        self._rollout.replaced(task.id, successor.id)
        if old is not None:
            self._old[successor.id] = old

    async def _roll_out(self, watcher: Watcher) -> None:
        acted = False
        while True:
            await self._stop_old_of_started()
            if self._rollout.verdict is not None and not acted:
                acted = True
                await self._act(self._rollout.verdict)
            now = self._clock.monotonic()
            slots = self._rollout.take(now, SLOTS_PER_STEP)
            if slots:
                await self._begin(slots)
                await self._wait(watcher, now)  # only what is there already
            elif self._rollout.lanes_done(now):
                break
            else:
                await self._wait(watcher, self._rollout.deadline())
        if not acted:
            await self._monitor(watcher)

    async def _monitor(self, watcher: Watcher) -> None:
        end = self._clock.monotonic() + self._rollout.watch_seconds
        while self._clock.monotonic() < end:
            await self._wait(watcher, end)
            if self._rollout.verdict is not None:
                await self._act(self._rollout.verdict)
                return
        await self._write_status(lambda service: update_status.completed(service, self._clock.now()))
        log.info("update completed", service_id=self.service.id)

    # One slot

    async def _begin(self, keys: Sequence[SlotKey]) -> None:
        pacer = Pacer(self._clock)
        async with self._store.batch() as batch:
            for key in keys:
                try:
                    task_id = batch.update(lambda tx, key=key: self._begin_slot(tx, key))  # type: ignore[misc]
                except ProposalError:
                    raise
                except Exception as error:  # one bad slot must not stop the update of all others
                    log.exception("cannot update slot", service_id=key.service_id, slot=key.slot, error=error)
                    task_id = None
                if task_id is None:
                    self._rollout.slot_done(self._clock.monotonic())
                else:
                    self._rollout.slot_starting(key, task_id)
                await pacer.pause()

    def _begin_slot(self, tx: Tx, key: SlotKey) -> str | None:
        """Change a slot as it is now; return the new task to wait for, if there is one."""
        service = tx.get(api.Service, key.service_id)
        if service is None or service.spec != self.service.spec:
            return None  # gone, or a newer spec is there, whose updater is about to take over
        if key.node_id and not _takes_updates(tx.get(api.Node, key.node_id)):
            return None
        tasks = self._restarts.updatable(service, tasks_in_slot(tx, key))
        change = change_of_slot(self.service, tasks, lambda task: node_of(tx, task))
        if change is None:
            return None
        if change.create:
            return self._replace(tx, key, change)
        self._stop(tx, change.stop)
        keep = change.keep
        if keep is not None and keep.desired_state < api.TaskState.RUNNING:
            self._restarts.schedule_release(keep.id, old=_to_wait_for(tx, change.stop))
        return None

    def _replace(self, tx: Tx, key: SlotKey, change: SlotChange) -> str:
        task = new_task(
            self._new_id(),
            self.service,
            self._clock.now(),
            slot=key.slot,
            node_id=key.node_id,
            cluster=self._cluster,
        )
        task.desired_state = api.TaskState.READY
        tx.create(task)
        if self._config.order == api.UpdateConfig.START_FIRST:
            self._old[task.id] = tuple(old.id for old in change.stop)
            self._restarts.schedule_release(task.id)
        else:
            self._stop(tx, change.stop)
            self._restarts.schedule_release(task.id, old=_to_wait_for(tx, change.stop))
        return task.id

    def _stop(self, tx: Tx, tasks: Sequence[api.Task]) -> None:
        for task in tasks:
            stopped = with_desired_state(task, api.TaskState.SHUTDOWN)
            if stopped is not None:
                tx.update(stopped)

    async def _stop_old_of_started(self) -> None:
        started, self._started = self._started, []
        if not started:
            return
        pacer = Pacer(self._clock)
        async with self._store.batch() as batch:
            for item in started:
                try:
                    batch.update(lambda tx, item=item: self._stop_old(tx, item))  # type: ignore[misc]
                except StoreError as error:
                    log.error("cannot stop old tasks", task_id=item.task_id, error=error)
                await pacer.pause()

    def _stop_old(self, tx: Tx, item: _Started) -> None:
        # Besides the tasks that were there at first, what restarts put in their place meanwhile goes: unless
        # the new task is no longer wanted itself.
        old_ids = self._old.pop(item.task_id)
        new = tx.get(api.Task, item.task_id)
        superseded = new is not None and wanted(new)
        self._stop(
            tx,
            [
                task
                for task in tasks_in_slot(tx, item.key)
                if wanted(task) and task.id != item.task_id and (superseded or task.id in old_ids)
            ],
        )

    # Outcome

    async def _act(self, verdict: Verdict) -> None:
        log.warning(
            "too many tasks of an update failed",
            service_id=self.service.id,
            task_id=self._tipped_by,
            action=verdict.name.lower(),
        )
        change = update_status.rolled_back if verdict is Verdict.ROLL_BACK else update_status.paused
        try:
            await self._write_status(lambda service: change(service, self._tipped_by))
        except ValueError as error:
            log.error("cannot roll back", service_id=self.service.id, error=error)

    async def _write_status(self, change: Callable[[api.Service], api.Service | None]) -> None:
        """Write a status, unless the service is gone or has got another spec, or ``change`` declines."""

        def write(tx: Tx) -> None:
            service = tx.get(api.Service, self.service.id)
            if service is None or service.spec != self.service.spec:
                return
            changed = change(service)
            if changed is not None:
                tx.update(changed)

        try:
            await self._store.update(write)
        except StoreError as error:
            log.error("cannot write update status", service_id=self.service.id, error=error)


def _takes_updates(node: api.Node | None) -> bool:
    return node is not None and not is_invalid_node(node) and node.spec.availability != api.NodeSpec.PAUSE


def _to_wait_for(tx: Tx, stopped: Sequence[api.Task]) -> api.Task | None:
    """Return the last of the stopped tasks whose end can be seen, None if there is none."""
    for task in reversed(stopped):
        node = node_of(tx, task)
        down = node is not None and node.status.state == api.NodeStatus.DOWN
        if not ended(task) and not down:
            return task
    return None


class UpdateSupervisor:
    """Runs at most one updater a service."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        restarts: RestartSupervisor,
        new_id: Callable[[], str] = random_id,
    ) -> None:
        self._store = store
        self._clock = clock
        self._restarts = restarts
        self._new_id = new_id
        self._owner = TaskOwner("update supervisor")
        self._active: dict[str, Updater] = {}
        self._running: dict[str, set[asyncio.Task[None]]] = {}

    def update(self, service: api.Service, cluster: api.Cluster | None, slots: Sequence[Slot]) -> None:
        """Have ``slots`` brought to the service's spec in the background.

        Ignored, slots and all, while an updater for an equal spec is at work. An updater for another spec is
        cancelled, and the new one starts when it has ended.
        """
        active = self._active.get(service.id)
        if active is not None and active.service.spec == service.spec:
            # PARITY: one that only waits for its last slots after too many failures gives way when the status
            # is cleared; the original ignores the request, and the update stays as if paused.
            resumed = active.halted and not service.HasField("update_status")
            if not resumed:
                return
        under_way = service.update_status.state in (
            api.UpdateStatus.UPDATING,
            api.UpdateStatus.ROLLBACK_STARTED,
        )
        if not slots and not under_way and service.id not in self._running:
            return  # nothing to update, to finish or to cancel: the case of every new service
        updater = Updater(self._store, self._clock, self._restarts, self._new_id, service, cluster, slots)
        self._active[service.id] = updater
        running = self._running.setdefault(service.id, set())
        task = self._owner.spawn(self._run(updater, tuple(running)), service.id)
        running.add(task)
        task.add_done_callback(lambda task: self._ended(updater, task))

    def cancel(self, service_id: str) -> None:
        """Stop the updater of a service, if there is one."""
        self._active.pop(service_id, None)
        for task in self._running.get(service_id, ()):
            task.cancel()

    async def close(self) -> None:
        """Cancel all updaters and wait until they have ended."""
        await self._owner.close()

    async def _run(self, updater: Updater, before: Sequence[asyncio.Task[None]]) -> None:
        for task in before:
            task.cancel()
        if before:
            await asyncio.wait(before)
        try:
            await updater.run()
        except (LeadershipLostError, StoppedError):
            log.debug("update stopped: this manager no longer leads", service_id=updater.service.id)

    def _ended(self, updater: Updater, task: asyncio.Task[None]) -> None:
        service_id = updater.service.id
        running = self._running[service_id]
        running.discard(task)
        if not running:
            del self._running[service_id]
        if self._active.get(service_id) is updater:
            del self._active[service_id]
