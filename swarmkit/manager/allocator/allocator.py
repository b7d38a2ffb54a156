"""The loop of the allocator: follows services and tasks, allocates, writes in batches.

Events put ids into queues; what is allocated is decided inside the transaction, on what is stored then. So a
stale event acts on the latest version, and no write conflicts.
"""

from collections.abc import Callable

from swarmkit.api import messages as api
from swarmkit.clock import Clock, timestamp
from swarmkit.log import get_logger
from swarmkit.manager.allocator.allocation import Blocked, allocate_service, allocate_task, is_allocated
from swarmkit.manager.pacing import Pacer
from swarmkit.store import (
    Action,
    Batch,
    Commit,
    Event,
    LeadershipLostError,
    ProposalError,
    Reader,
    StoppedError,
    Store,
    Tx,
    Watch,
    by,
)

log = get_logger(__name__)


class Allocator:
    """Gives services their endpoint and passes tasks from NEW to PENDING. Runs on the leader only.

    All queues hold ids of stored objects, each once: they are bounded by the number of objects.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._services: dict[str, None] = {}
        self._tasks: dict[str, None] = {}
        #: Tasks that wait until their service changes, by service id.
        self._waiting: dict[str, dict[str, None]] = {}
        #: What each service, or task without one, was last said in the log to wait for.
        self._reasons: dict[str, str] = {}

    async def run(self) -> None:
        """Allocate until cancelled, or until this manager does not lead any more.

        What was allocated is read from the store, so it may be run again after it ended.
        """
        (services, tasks), watcher = self._store.view_and_watch(
            _snapshot, Watch(api.Service), Watch(api.Task)
        )
        self._services, self._tasks = dict.fromkeys(services), dict.fromkeys(tasks)
        self._waiting, self._reasons = {}, {}
        pacer = Pacer(self._clock)
        with watcher:
            try:
                await self._allocate(pacer)
                async for commit in watcher:
                    await self._handle(commit, pacer)
                    # What else has come already is worked off together, but nothing that comes meanwhile:
                    # a steady stream must not keep the work waiting.
                    for _ in range(len(watcher)):
                        await self._handle(await anext(watcher), pacer)
                    await self._allocate(pacer)
            except (LeadershipLostError, StoppedError) as error:
                log.info("allocator stops", reason=str(error))

    # Events

    async def _handle(self, commit: Commit, pacer: Pacer) -> None:
        for event in commit.events:
            if isinstance(event.object, api.Service):
                self._service_changed(event, event.object.id)
            elif isinstance(event.object, api.Task):
                self._task_changed(event, event.object)
            await pacer.pause()

    def _service_changed(self, event: Event, service_id: str) -> None:
        if event.action is not Action.DELETE:
            # Most services are stored complete; then there is nothing to do but for tasks that wait for them.
            assert isinstance(event.object, api.Service)
            if service_id in self._waiting or not is_allocated(event.object):
                self._services[service_id] = None
            else:
                self._reasons.pop(service_id, None)
            return
        self._services.pop(service_id, None)
        self._waiting.pop(service_id, None)
        self._reasons.pop(service_id, None)

    def _task_changed(self, event: Event, task: api.Task) -> None:
        if event.action is not Action.DELETE and task.status.state == api.TaskState.NEW:
            self._tasks[task.id] = None
            return
        self._tasks.pop(task.id, None)
        self._reasons.pop(task.id, None)
        waiting = self._waiting.get(task.service_id)
        if waiting is not None:
            waiting.pop(task.id, None)
            if not waiting:
                del self._waiting[task.service_id]

    # Work

    async def _allocate(self, pacer: Pacer) -> None:
        """Work off the queues, services first: tasks need theirs."""
        services, self._services = self._services, {}
        tasks, self._tasks = self._tasks, {}
        if not services and not tasks:
            return
        try:
            async with self._store.batch() as batch:
                for service_id in services:
                    if self._guarded(batch, service_id, self._allocate_service):
                        tasks.update(self._waiting.pop(service_id, {}))
                    await pacer.pause()
                for task_id in tasks:
                    self._guarded(batch, task_id, self._allocate_task)
                    await pacer.pause()
        except (LeadershipLostError, StoppedError):
            raise
        except ProposalError as error:
            log.error("allocations were not committed, they will be tried again", error=str(error))
            self._services, self._tasks = {**services, **self._services}, {**tasks, **self._tasks}

    def _guarded(self, batch: Batch, object_id: str, allocate: Callable[[Tx, str], bool]) -> bool:
        try:
            return batch.update(lambda tx: allocate(tx, object_id))
        except ProposalError:
            raise
        except Exception as error:  # one bad object must not keep all others from being allocated
            log.exception("cannot allocate", object_id=object_id, error=str(error))
            return False

    def _allocate_service(self, tx: Tx, service_id: str) -> bool:
        service = tx.get(api.Service, service_id)
        if service is None:
            return False
        endpoint = allocate_service(service)
        if isinstance(endpoint, Blocked):
            self._explain(service_id, endpoint.reason, service_id=service_id)
            return False
        self._reasons.pop(service_id, None)
        if not service.HasField("endpoint") or service.endpoint != endpoint:
            changed = api.Service()
            changed.CopyFrom(service)
            changed.endpoint.CopyFrom(endpoint)
            tx.update(changed)
        return True

    def _allocate_task(self, tx: Tx, task_id: str) -> bool:
        task = tx.get(api.Task, task_id)
        if task is None:
            return False
        service = tx.get(api.Service, task.service_id) if task.service_id else None
        result = allocate_task(task, service, timestamp(self._clock.now()))
        if isinstance(result, Blocked):
            self._wait(task, result)
            return False
        if result is not None:
            self._reasons.pop(task_id, None)
            tx.update(result)
        return True

    def _wait(self, task: api.Task, blocked: Blocked) -> None:
        """Say once, a service at a time, why tasks do not go on; try again when the service changes."""
        if blocked.service_id:
            self._waiting.setdefault(blocked.service_id, {})[task.id] = None
            self._explain(blocked.service_id, blocked.reason, service_id=blocked.service_id)
        else:
            self._explain(task.id, blocked.reason, task_id=task.id, service_id=task.service_id)

    def _explain(self, object_id: str, reason: str, **fields: object) -> None:
        if self._reasons.get(object_id) != reason:
            self._reasons[object_id] = reason
            log.warning("tasks stay in state NEW", reason=reason, **fields)


def _snapshot(reader: Reader) -> tuple[list[str], list[str]]:
    tasks = reader.find(api.Task, by.task_state(api.TaskState.NEW))
    return [service.id for service in reader.find(api.Service)], [task.id for task in tasks]
