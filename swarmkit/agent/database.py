"""The agent's memory across restarts: the tasks assigned to this node and their last statuses.

Source: contract/dispatcher-agent.md, 8. The file is SQLite at ``<state>/worker/tasks.db``.

All records are also held in memory, so that reading never waits and a failing disk stops no task. Changes are
made in memory at once and marked; ``flush`` writes what is marked in one transaction, in a thread of the
database's own: SQLite's calls would mostly be short enough for the event loop, its syncs are not. Flushes
that arrive while one runs share the next one: a hundred tasks that change together cost a few writes.

Which tasks the node has is synced to disk: it survives a loss of power. A status alone is not: it survives
any end of the daemon, and when the power goes the workload it speaks of goes too, and is looked at again.
"""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from google.protobuf.message import DecodeError

from swarmkit.agent.step import copy_of
from swarmkit.aio import TaskOwner
from swarmkit.api import messages as api
from swarmkit.log import get_logger

log = get_logger(__name__)

#: Version of the file's layout, kept in SQLite's ``user_version``.
LAYOUT_VERSION = 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS tasks (
    id TEXT PRIMARY KEY,
    data BLOB NOT NULL,
    status BLOB,
    assigned INTEGER NOT NULL
) WITHOUT ROWID
"""
_WRITE = "INSERT OR REPLACE INTO tasks (id, data, status, assigned) VALUES (?, ?, ?, ?)"

_Row = tuple[str, bytes, bytes | None, int]
_T = TypeVar("_T")


class TaskDatabaseError(Exception):
    """The task database cannot be opened; the text says why and what to do."""


@dataclass
class TaskRecord:
    """What is kept of one task.

    Attributes:
        task: the task as assigned, its status blanked; never changed in place.
        status: the last status of this node's own making; None if there is none yet. Never changed in place.
        assigned: False once the manager took the task away: its workload waits to be removed.
    """

    task: api.Task
    status: api.TaskStatus | None
    assigned: bool


class TaskDatabase:
    """The task records of a node. Made by ``open``; used on the event loop only."""

    def __init__(self, storage: "_Storage | None", records: dict[str, TaskRecord]) -> None:
        self._storage = storage
        self._records = records
        self._dirty: set[str] = set()
        self._sync = False  # what is marked has to survive a loss of power
        self._started = 0  # number of writes begun
        self._finished = 0  # number of writes ended, well or not
        self._failing = False
        self._owner = TaskOwner("task database")
        self._writer: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, path: Path | None) -> "TaskDatabase":
        """Open the file at ``path``, made if missing, or with None keep all in memory (simulated nodes).

        Raises:
            TaskDatabaseError: the file is in use, is damaged, has an unknown layout or cannot be made.
        """
        if path is None:
            return cls(None, {})
        storage = _Storage(path)
        try:
            rows = await storage.call(storage.load)
        except BaseException:
            await storage.close()
            raise
        database = cls(storage, {})
        for row in rows:
            database._read(row)
        return database

    def _read(self, row: _Row) -> None:
        task_id, data, status, assigned = row
        try:
            task = api.Task.FromString(data)
            parsed = None if status is None else api.TaskStatus.FromString(status)
        except DecodeError:
            # The manager sends the assignment again, and the workload is found by the task's id.
            log.warning("dropping an unreadable record from the task database", task_id=task_id)
            self._mark(task_id)
            return
        self._records[task_id] = TaskRecord(task, parsed, bool(assigned))

    def records(self) -> list[TaskRecord]:
        """Return all records, ascending by task id."""
        return [self._records[task_id] for task_id in sorted(self._records)]

    def get(self, task_id: str) -> TaskRecord | None:
        """Return the record of a task, or None."""
        return self._records.get(task_id)

    def put_task(self, task: api.Task) -> TaskRecord:
        """Store a task as assigned; its status field is not stored, a status stored before stays."""
        blank = api.Task()
        blank.CopyFrom(task)
        blank.ClearField("status")
        previous = self._records.get(task.id)
        record = TaskRecord(blank, previous.status if previous else None, True)
        if record != previous:
            self._records[task.id] = record
            self._mark(task.id)
        return record

    def put_status(self, task_id: str, status: api.TaskStatus) -> bool:
        """Store a status; return False, and store nothing, if the task is not assigned here (any more)."""
        record = self._records.get(task_id)
        if record is None or not record.assigned:
            return False
        if record.status != status:
            record.status = copy_of(status)
            self._dirty.add(task_id)
        return True

    def unassign(self, task_id: str) -> None:
        """Note that a task is to be removed. Its status is forgotten: it spoke of a workload that will go."""
        record = self._records.get(task_id)
        if record is not None and record.assigned:
            record.assigned, record.status = False, None
            self._mark(task_id)

    def delete(self, task_id: str) -> None:
        """Forget a task; no error if it is unknown."""
        if self._records.pop(task_id, None) is not None:
            self._mark(task_id)

    def _mark(self, task_id: str) -> None:
        self._dirty.add(task_id)
        self._sync = True

    async def flush(self) -> None:
        """Return when all changes made before the call are written, or when that failed.

        A failure (disk full) is logged once, the changes stay marked and go with the next flush: the tasks
        keep running, and only a crash before that loses them, which the manager's next complete assignment
        mends.
        """
        if self._storage is None:
            self._dirty.clear()
            return
        # A change is covered by the first write that starts after it.
        target = self._started + bool(self._dirty)
        while self._finished < target:
            if self._writer is None:
                self._started += 1
                ids, self._dirty = self._dirty, set()
                sync, self._sync = self._sync, False
                self._writer = self._owner.spawn(self._write(self._storage, ids, sync), "write")
            await asyncio.wait([self._writer])

    async def _write(self, storage: "_Storage", ids: set[str], sync: bool) -> None:
        rows = [self._row(task_id, self._records[task_id]) for task_id in ids if task_id in self._records]
        gone = [task_id for task_id in ids if task_id not in self._records]
        try:
            await storage.call(lambda: storage.write(rows, gone, sync))
        except (sqlite3.Error, OSError) as error:
            self._dirty |= ids
            self._sync |= sync
            if not self._failing:
                log.error("cannot write the task database; tasks go on", error=error, path=storage.path)
            self._failing = True
        else:
            if self._failing:
                log.info("the task database can be written again", path=storage.path)
            self._failing = False
        finally:
            self._finished += 1
            self._writer = None

    @staticmethod
    def _row(task_id: str, record: TaskRecord) -> _Row:
        status = None if record.status is None else record.status.SerializeToString()
        return (task_id, record.task.SerializeToString(), status, int(record.assigned))

    async def close(self) -> None:
        """Write what is left and close the file."""
        await self.flush()
        await self._owner.close()
        if self._storage is not None:
            await self._storage.close()
            self._storage = None


class _Storage:
    """The SQLite file. ``load`` and ``write`` run in its one thread, through ``call``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="task-database")
        self._connection: sqlite3.Connection | None = None

    async def call(self, function: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)

    def load(self) -> list[_Row]:
        try:
            self._connection = self._connect()
            return self._connection.execute("SELECT id, data, status, assigned FROM tasks").fetchall()
        except OSError as error:
            raise TaskDatabaseError(f"cannot make the task database {self.path}: {error}") from error
        except sqlite3.OperationalError as error:
            raise TaskDatabaseError(
                f"cannot use the task database {self.path}: {error}"
                + (" (is another swarmd running on this state directory?)" if "locked" in str(error) else "")
            ) from error
        except sqlite3.DatabaseError as error:
            raise TaskDatabaseError(
                f"the task database {self.path} is damaged: {error}; move it away to start with an "
                "empty one: the manager sends this node's tasks again"
            ) from error

    def _connect(self) -> sqlite3.Connection:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite gives its journal the mode of the database file: make that one first.
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
        connection = sqlite3.connect(
            self.path, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=8
        )
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA journal_mode = WAL")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version not in (0, LAYOUT_VERSION):
                raise TaskDatabaseError(
                    f"the task database {self.path} has layout version {version}, this program knows "
                    f"{LAYOUT_VERSION}: it was written by a newer one"
                )
            connection.execute(_SCHEMA)
            connection.execute(f"PRAGMA user_version = {LAYOUT_VERSION}")
        except BaseException:
            connection.close()
            raise
        return connection

    def write(self, rows: list[_Row], gone: list[str], sync: bool) -> None:
        if self._connection is None:
            raise sqlite3.ProgrammingError("the task database is not open")
        self._connection.execute(f"PRAGMA synchronous = {'FULL' if sync else 'NORMAL'}")
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._connection.executemany(_WRITE, rows)
            self._connection.executemany("DELETE FROM tasks WHERE id = ?", [(task_id,) for task_id in gone])
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await self.call(connection.close)
        self._executor.shutdown(wait=True)
