"""The batching writer: reports of all nodes become a few transactions (contract/dispatcher-agent.md, 3.7)."""

import asyncio
import datetime
import functools
from collections.abc import Callable, Iterator, Sequence

from swarmkit.api import messages as api
from swarmkit.clock import Clock
from swarmkit.log import get_logger
from swarmkit.manager.dispatcher.alarm import Alarm
from swarmkit.manager.dispatcher.config import DispatcherConfig
from swarmkit.manager.dispatcher.errors import DispatcherStoppedError
from swarmkit.manager.dispatcher.updates import (
    NodeUpdate,
    PendingUpdates,
    accept_status,
    release_volume,
    update_node,
)
from swarmkit.store import ProposalError, ProposalTooLargeError, Store, Tx

log = get_logger(__name__)

#: Changes between two points where other tasks get their turn.
SLICE = 100

Change = Callable[[Tx], object]


async def write_changes(store: Store, changes: Sequence[Change]) -> None:
    """Write independent changes in batches. One that fails is logged and does not stop the others.

    Raises:
        ProposalError: the changes were not confirmed.
    """
    try:
        async with store.batch() as batch:
            for number, change in enumerate(changes, start=1):
                try:
                    batch.update(change)
                except ProposalError:
                    raise
                except Exception as error:  # what one node reports must not stop what the others report
                    log.exception("failed to write an update", error=str(error))
                if number % SLICE == 0:
                    await asyncio.sleep(0)
    except ProposalTooLargeError:
        await _write_singly(store, changes)


async def _write_singly(store: Store, changes: Sequence[Change]) -> None:
    """Write each change by itself: one that is too large must not take its neighbours with it."""
    for change in changes:
        try:
            await store.update(change)
        except ProposalTooLargeError as error:
            log.error("an update is too large to be written", error=str(error))
        except ProposalError:
            raise
        except Exception as error:  # as above
            log.exception("failed to write an update", error=str(error))


class UpdateWriter:
    """Collects reports and writes them, at most so often; at once when there are many.

    A write takes all that waits, in the order tasks, nodes, volumes; while it is under way the next collects.
    """

    def __init__(self, store: Store, clock: Clock, leader_id: str, config: DispatcherConfig) -> None:
        self._store = store
        self._clock = clock
        self._leader_id = leader_id
        self._config = config
        self._pending = PendingUpdates()
        self._flushed = asyncio.Event()
        self._alarm = Alarm()
        self._awake = False
        self._closed = False

    def put_task(self, task_id: str, status: api.TaskStatus) -> None:
        """Have the status written; one that still waits for the same task is dropped."""
        self._pending.put_task(task_id, status)
        self._notify()

    def put_unpublished(self, volume_id: str, node_id: str) -> None:
        """Have it written that the node no longer uses the volume."""
        self._pending.put_unpublished(volume_id, node_id)
        self._notify()

    def put_node(self, node_id: str, update: NodeUpdate) -> None:
        """Have the node's new state written."""
        self._pending.put_node(node_id, update)
        self._notify()

    async def write_node(self, node_id: str, update: NodeUpdate) -> None:
        """Have the node's new state written and wait until that was tried.

        Raises:
            DispatcherStoppedError: the writer was closed first; nothing is known of the write.
        """
        self.put_node(node_id, update)
        await self._flushed.wait()
        if self._closed:
            raise DispatcherStoppedError

    async def run(self) -> None:
        """Write until cancelled.

        Raises:
            ProposalError: a write was not confirmed; what waits is not written.
        """
        written_at = float("-inf")
        while True:
            await self._alarm.wait()
            if self._pending.largest() < self._config.flush_entries:
                due = written_at + self._config.flush_seconds - self._clock.monotonic()
                await self._alarm.wait(max(due, self._config.gather_seconds))
            written_at = self._clock.monotonic()
            pending, self._pending = self._pending, PendingUpdates()
            flushed, self._flushed = self._flushed, asyncio.Event()
            self._awake = False
            try:
                await write_changes(self._store, [*self._changes(pending, self._clock.now())])
            except BaseException:
                self._closed = True
                raise
            finally:
                flushed.set()

    def close(self) -> None:
        """Release those who wait for a write. What has not been written is dropped."""
        self._closed = True
        self._flushed.set()

    def _notify(self) -> None:
        """Wake the writer for the first item and when there are many; other rings would cut its wait."""
        if not self._awake or self._pending.largest() >= self._config.flush_entries:
            self._awake = True
            self._alarm.ring()

    def _changes(self, pending: PendingUpdates, now: datetime.datetime) -> Iterator[Change]:
        for task_id, status in pending.tasks.items():
            yield functools.partial(_write_task, task_id, status, self._leader_id, now)
        for node_id, update in pending.nodes.items():
            yield functools.partial(_write_node, node_id, update)
        for volume_id, node_id in pending.volumes:
            yield functools.partial(_write_volume, volume_id, node_id)


def _write_task(task_id: str, status: api.TaskStatus, leader_id: str, now: datetime.datetime, tx: Tx) -> None:
    task = tx.get(api.Task, task_id)
    accepted = accept_status(task, status, leader_id, now) if task is not None else None
    if task is None or accepted is None:
        return
    tx.update(accepted)
    log.debug(
        "task status",
        task_id=task_id,
        node_id=task.node_id,
        old=api.TaskState.Name(task.status.state),
        new=api.TaskState.Name(status.state),
    )


def _write_node(node_id: str, update: NodeUpdate, tx: Tx) -> None:
    node = tx.get(api.Node, node_id)
    changed = update_node(node, update) if node is not None else None
    if changed is not None:
        tx.update(changed)


def _write_volume(volume_id: str, node_id: str, tx: Tx) -> None:
    volume = tx.get(api.Volume, volume_id)
    changed = release_volume(volume, node_id) if volume is not None else None
    if changed is not None:
        tx.update(changed)
