"""Turns assignments into running task managers, and takes up where the last run of the agent ended.

Source: contract/dispatcher-agent.md, 8.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping

from swarmkit.agent import step as rules
from swarmkit.agent.assignments import Changes, read
from swarmkit.agent.database import TaskDatabase, TaskRecord
from swarmkit.agent.dependencies import Dependencies
from swarmkit.agent.exec import Controller, Executor, Sweeper, TemporaryError
from swarmkit.agent.taskmanager import TaskManager
from swarmkit.aio import TaskOwner
from swarmkit.api import messages as api
from swarmkit.clock import Clock
from swarmkit.log import get_logger

log = get_logger(__name__)

#: First and longest pause, in seconds, between attempts to remove a workload whose engine does not answer.
REMOVE_PAUSE = 1.0
REMOVE_PAUSE_MAX = 30.0


class Worker:
    """Owns the task managers of a node.

    ``assign`` and ``update`` are called one at a time. Both may be cancelled: what is left half applied is
    completed by the COMPLETE message that begins the next stream.

    Args:
        report: queues a status for the managers.
    """

    def __init__(
        self,
        executor: Executor,
        database: TaskDatabase,
        report: Callable[[str, api.TaskStatus], None],
        clock: Clock,
    ) -> None:
        self._executor = executor
        self._database = database
        self._send = report
        self._clock = clock
        self._dependencies = Dependencies()
        self._managers: dict[str, TaskManager] = {}
        self._removals: dict[str, asyncio.Task[None]] = {}
        self._owner = TaskOwner("worker")
        self._leaving = False
        self._swept = False
        self._warned_of_volumes = False

    async def start(self) -> None:
        """Resume the stored tasks from their stored statuses, and finish removals that were under way.

        Needs no manager. A task without a stored status waits until it is assigned again.
        """
        for record in self._database.records():
            if not record.assigned:
                self._remove(record.task.id)
            elif record.status is not None:
                await self._start_task(record, record.status)
        log.info("resumed tasks from the task database", count=len(self._managers))

    def statuses(self) -> Mapping[str, api.TaskStatus]:
        """Return the stored status of every assigned task."""
        records = self._database.records()
        return {r.task.id: r.status for r in records if r.assigned and r.status is not None}

    async def apply(self, message: api.AssignmentsMessage) -> None:
        """Apply one assignments message: secrets, configs, then tasks."""
        if self._leaving:
            return
        changes = read(message.changes)
        self._note_volumes(changes.volumes)
        if message.type == api.AssignmentsMessage.COMPLETE:
            await self._assign(changes)
        else:
            await self._update(changes)

    async def _assign(self, changes: Changes) -> None:
        """Make the node hold exactly what a COMPLETE message lists; removals in it say nothing more."""
        self._dependencies.reset(changes.secrets, changes.configs)
        listed = {task.id for task in changes.tasks}
        for record in self._database.records():
            if record.assigned and record.task.id not in listed:
                self._remove(record.task.id)
        await self._take(changes.tasks)
        if not self._swept and not self._leaving:
            self._swept = True
            await self._sweep(listed)

    async def _update(self, changes: Changes) -> None:
        """Change what an INCREMENTAL message lists; ids it removes may be unknown."""
        secrets, configs = self._dependencies.secrets, self._dependencies.configs
        secrets.update((secret.id, secret) for secret in changes.secrets)
        for secret_id in changes.removed_secrets:
            secrets.pop(secret_id, None)
        configs.update((config.id, config) for config in changes.configs)
        for config_id in changes.removed_configs:
            configs.pop(config_id, None)
        for task_id in changes.removed_tasks:
            self._remove(task_id)
        await self._take(changes.tasks)

    async def _take(self, tasks: Iterable[api.Task]) -> None:
        new = [(task, self._database.put_task(task)) for task in tasks]
        await self._database.flush()
        for task, record in new:
            if self._leaving:
                return
            manager = self._managers.get(task.id)
            if manager is not None:
                manager.update(task)
            else:
                # A status of our own making wins over the manager's copy, which may lag behind.
                await self._start_task(record, record.status or task.status)
                await asyncio.sleep(0)  # a node may be given thousands of tasks at once

    async def _start_task(self, record: TaskRecord, status: api.TaskStatus) -> None:
        """Resolve the controller of a task and let a task manager drive it from ``status``."""
        task = record.task
        controller, error = await self._resolve(task)
        resolved = rules.resolve(status, error)
        if controller is None:
            log.warning("cannot resolve the controller of a task", task_id=task.id, error=error)
            await self._report(task.id, resolved)
        elif self._leaving:
            await self._close(controller, task.id)
        else:
            # Nothing is awaited here: a manager that is known is also started.
            manager = TaskManager(
                task, resolved, controller, self._report, self._clock, self._removals.get(task.id)
            )
            self._managers[task.id] = manager
            manager.start()

    async def _resolve(self, task: api.Task) -> tuple[Controller | None, Exception | None]:
        try:
            return await self._executor.controller(task, self._dependencies.restricted_to(task)), None
        except Exception as error:
            return None, error

    async def _report(self, task_id: str, status: api.TaskStatus) -> None:
        record = self._database.get(task_id)
        unchanged = record is not None and record.status == status
        if not self._database.put_status(task_id, status):
            log.info("dropping the status of a task that was removed", task_id=task_id)
            return
        if not unchanged:
            await self._database.flush()
            self._send(task_id, status)

    def _remove(self, task_id: str) -> None:
        """Take a task away: its record at once, its workload in the background.

        The record keeps a mark until the workload is gone, so that a crash in between leaves nothing behind.
        """
        record = self._database.get(task_id)
        earlier = self._removals.get(task_id)
        if record is None or (earlier is not None and not record.assigned):
            return
        self._database.unassign(task_id)
        manager = self._managers.pop(task_id, None)
        self._removals[task_id] = self._owner.spawn(
            self._remove_workload(record.task, manager, earlier), f"remove {task_id}"
        )

    async def _remove_workload(
        self, task: api.Task, manager: TaskManager | None, earlier: "asyncio.Task[None] | None"
    ) -> None:
        controller = None if manager is None else manager.controller
        try:
            if manager is not None:
                await manager.close()
            if earlier is not None:
                await asyncio.wait([earlier])
            await self._database.flush()
            if controller is None:
                controller, _ = await self._resolve(task)
            if controller is not None:
                await self._remove_by(controller, task.id)
            record = self._database.get(task.id)
            if record is not None and not record.assigned and self._is_last_removal(task.id):
                self._database.delete(task.id)
                await self._database.flush()
            log.info("removed task", task_id=task.id, service_id=task.service_id)
        finally:
            if self._is_last_removal(task.id):
                del self._removals[task.id]
            if manager is not None:
                await manager.close()
            if controller is not None:
                await self._close(controller, task.id)

    def _is_last_removal(self, task_id: str) -> bool:
        """Tell whether the calling removal is the newest of its task."""
        return self._removals.get(task_id) is asyncio.current_task()

    async def _remove_by(self, controller: Controller, task_id: str) -> None:
        """Remove a workload. Only an engine that does not answer is asked again."""
        pause = REMOVE_PAUSE
        while True:
            try:
                await controller.remove()
                return
            except Exception as error:
                log.warning("cannot remove the workload of a task", task_id=task_id, error=error)
                if not rules.is_temporary(error) or self._leaving:
                    return
            await self._clock.sleep(pause)
            pause = min(2 * pause, REMOVE_PAUSE_MAX)

    async def _close(self, controller: Controller, task_id: str) -> None:
        try:
            await controller.close()
        except Exception as error:
            log.warning("cannot close the controller of a task", task_id=task_id, error=error)

    async def _sweep(self, assigned: set[str]) -> None:
        """Once per run: have the executor remove workloads of this node that no task accounts for."""
        if not isinstance(self._executor, Sweeper):
            return
        try:
            await self._executor.sweep(frozenset(assigned | self._removals.keys()))
        except TemporaryError as error:
            self._swept = False
            log.warning("cannot look for workloads without a task", error=error)
        except Exception:
            log.exception("looking for workloads without a task failed")

    def _note_volumes(self, count: int) -> None:
        if count and not self._warned_of_volumes:
            self._warned_of_volumes = True
            log.warning("ignoring volume assignments: this node's executor has no volume plugins")

    async def leave(self) -> None:
        """Remove every task, secret and config, and return when all workloads are gone."""
        self._leaving = True
        self._dependencies.reset((), ())
        for record in self._database.records():
            self._remove(record.task.id)
        while self._removals:
            await asyncio.wait(list(self._removals.values()))

    async def close(self) -> None:
        """Stop all task managers; workloads are left as they are, and resumed by the next run."""
        self._leaving = True
        await self._owner.close()
        managers, self._managers = self._managers, {}
        for manager in managers.values():
            await manager.close()
            await self._close(manager.controller, manager.task.id)
