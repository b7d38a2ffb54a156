"""The task reaper: deletes records of tasks that are removed, lost or old (contract/orchestration.md, 12)."""

from swarmkit.api import messages as api
from swarmkit.clock import Clock
from swarmkit.log import get_logger
from swarmkit.manager.orchestrator.pacing import Pacer, next_commit
from swarmkit.manager.orchestrator.reads import DEFAULT_CLUSTER_NAME, default_cluster, tasks_in_slot
from swarmkit.manager.orchestrator.reaper_plan import (
    ReaperMarks,
    cleanup_at_start,
    history_limit,
    keeps_history,
    trim_history,
)
from swarmkit.manager.tasks import ended, wanted
from swarmkit.store import (
    Action,
    Event,
    LeadershipLostError,
    ProposalError,
    Reader,
    StoppedError,
    Store,
    StoreError,
    Tx,
    Watch,
    by,
)

log = get_logger(__name__)

#: How long marks are gathered before a pass, in seconds.
BATCHING_SECONDS = 0.25


class TaskReaper:
    """Deletes task records in passes. ``run`` is called when this manager has become the leader.

    Attributes:
        passes: how many passes were made.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self.passes = 0
        self._reset()

    def _reset(self) -> None:
        self._marks = ReaperMarks()
        self._limit = 0
        self._due: float | None = None

    async def run(self) -> None:
        """Work until cancelled; ends by itself when this manager no longer leads or the store closes.

        May be called again after it ended.
        """
        self._reset()
        found, watcher = self._store.view_and_watch(
            _read,
            Watch(api.Task, {Action.CREATE}),
            Watch(api.Task, {Action.UPDATE}, where=lambda task: ended(task) or not wanted(task)),
            Watch(api.Cluster, {Action.CREATE, Action.UPDATE}),
        )
        with watcher:
            try:
                cluster, cleanup = found
                self._adopt(cluster)
                if cleanup:
                    self._marks.clean_up(cleanup)
                    await self._pass()
                pacer = Pacer(self._clock)
                while True:
                    await pacer.pause()
                    commit = await next_commit(watcher, self._clock, self._due)
                    for event in commit.events if commit is not None else ():
                        self._handle(event)
                    if self._marks.overfull() or (
                        self._due is not None and self._clock.monotonic() >= self._due
                    ):
                        self._due = None
                        await self._pass()
            except (LeadershipLostError, StoppedError):
                log.debug("task reaper stopped: this manager no longer leads")

    def _handle(self, event: Event) -> None:
        item = event.object
        if isinstance(item, api.Task):
            if event.action is Action.CREATE:
                self._marks.created(item)
            else:
                self._marks.updated(item)
        elif isinstance(item, api.Cluster) and item.spec.annotations.name == DEFAULT_CLUSTER_NAME:
            self._adopt(item)
            self._marks.limit_changed()
        # PARITY: the original's timer also starts for events that leave nothing to do; nobody can tell.
        if self._marks and self._due is None:
            self._due = self._clock.monotonic() + BATCHING_SECONDS

    def _adopt(self, cluster: api.Cluster | None) -> None:
        self._limit = cluster.spec.orchestration.task_history_retention_limit if cluster is not None else 0

    async def _pass(self) -> None:
        self.passes += 1
        pacer = Pacer(self._clock)
        delete = dict.fromkeys(self._marks.take_cleanup())
        for place in self._marks.take_slots():
            reader = self._store.view()
            service = reader.get(api.Service, place.service_id)
            if service is not None and keeps_history(service, place):
                trim = trim_history(tasks_in_slot(reader, place), history_limit(service, self._limit))
                delete.update(dict.fromkeys(trim.delete))
                if trim.look_again:
                    self._marks.unsettled(place)
            await pacer.pause()
        if delete:
            await self._delete(list(delete), pacer)

    async def _delete(self, task_ids: list[str], pacer: Pacer) -> None:
        try:
            async with self._store.batch() as batch:
                for task_id in task_ids:
                    try:
                        batch.update(lambda tx, task_id=task_id: _delete_if_there(tx, task_id))  # type: ignore[misc]
                    except StoreError as error:
                        log.error("cannot delete task", task_id=task_id, error=error)
                    await pacer.pause()
        except (LeadershipLostError, StoppedError):
            raise
        except ProposalError as error:
            log.error("cannot delete tasks", count=len(task_ids), error=error)


def _delete_if_there(tx: Tx, task_id: str) -> None:
    if tx.get(api.Task, task_id) is not None:
        tx.delete(api.Task, task_id)


def _read(reader: Reader) -> tuple[api.Cluster | None, list[str]]:
    removed = reader.find(api.Task, by.desired_state(api.TaskState.REMOVE))
    orphaned = reader.find(api.Task, by.task_state(api.TaskState.ORPHANED))
    return default_cluster(reader), cleanup_at_start(removed, orphaned)
