"""The constraint enforcer: evicts what no longer fits its node (contract/orchestration.md, 11.1)."""

from swarmkit.api import messages as api
from swarmkit.clock import Clock
from swarmkit.log import get_logger
from swarmkit.manager.orchestrator.eviction import Eviction, evictions
from swarmkit.manager.orchestrator.pacing import Pacer
from swarmkit.manager.tasks import ended
from swarmkit.store import (
    Action,
    Commit,
    LeadershipLostError,
    StoppedError,
    Store,
    StoreError,
    Tx,
    Watch,
    by,
)

log = get_logger(__name__)


class ConstraintEnforcer:
    """Looks at every node when it changes. ``run`` is called when this manager has become the leader."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def run(self) -> None:
        """Work until cancelled; ends by itself when this manager no longer leads or the store closes.

        May be called again after it ended.
        """
        nodes, watcher = self._store.view_and_watch(
            lambda reader: [node.id for node in reader.find(api.Node)],
            Watch(api.Node, {Action.UPDATE}),
        )
        with watcher:
            try:
                await self._look_at(dict.fromkeys(nodes))
                async for commit in watcher:
                    # A burst of changes of one node is one piece of work.
                    changed = _ids(commit)
                    while (more := watcher.next_nowait()) is not None:
                        changed.update(_ids(more))
                    await self._look_at(changed)
            except (LeadershipLostError, StoppedError):
                log.debug("constraint enforcer stopped: this manager no longer leads")

    async def _look_at(self, node_ids: dict[str, None]) -> None:
        pacer = Pacer(self._clock)
        for node_id in node_ids:
            try:
                await self._enforce(node_id)
            except (LeadershipLostError, StoppedError):
                raise
            except Exception as error:  # one bad object must not stop the work on all others
                log.exception("cannot enforce constraints", node_id=node_id, error=error)
            await pacer.pause()

    async def _enforce(self, node_id: str) -> None:
        reader = self._store.view()
        node = reader.get(api.Node, node_id)
        if node is None:
            return
        tasks = reader.find(api.Task, by.node(node_id))
        found = list(evictions(node, tasks, lambda service_id: reader.get(api.Service, service_id)))
        if not found:
            return
        async with self._store.batch() as batch:
            for eviction in found:
                try:
                    batch.update(lambda tx, eviction=eviction: self._evict(tx, eviction))  # type: ignore[misc]
                except StoreError as error:
                    log.error("cannot evict task", task_id=eviction.task_id, node_id=node_id, error=error)

    def _evict(self, tx: Tx, eviction: Eviction) -> None:
        task = tx.get(api.Task, eviction.task_id)
        if task is None or task.desired_state > api.TaskState.COMPLETE or ended(task):
            return
        copy = api.Task()
        copy.CopyFrom(task)
        copy.status.state = api.TaskState.REJECTED
        copy.status.message = "task rejected by constraint enforcer"
        copy.status.err = "assigned node no longer meets constraints"
        now = self._clock.now()
        copy.status.timestamp.FromDatetime(now)
        # PARITY: the original leaves the time at which a manager last applied a worker's report, so that the
        # task looks older than it is to whoever orders or counts tasks by time.
        copy.status.applied_at.FromDatetime(now)
        tx.update(copy)
        log.info(
            "task evicted from node that no longer meets its needs",
            task_id=task.id,
            node_id=task.node_id,
            violated=eviction.reason,
        )


def _ids(commit: Commit) -> dict[str, None]:
    return dict.fromkeys(event.object.id for event in commit.events)
