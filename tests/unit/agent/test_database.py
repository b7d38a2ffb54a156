"""The task database keeps what was flushed and bears a full disk (contract/dispatcher-agent.md, 8)."""

import asyncio
import os
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest

from swarmkit.agent.database import TaskDatabase, TaskDatabaseError
from swarmkit.api import messages as api
from tests.fakes.agent_manager import make_task

RUNNING = api.TaskStatus(state=api.TaskState.RUNNING, message="started")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "worker" / "tasks.db"


async def test_what_was_flushed_is_there_after_a_crash(path: Path) -> None:
    database = await TaskDatabase.open(path)
    database.put_task(make_task("a"))
    database.put_status("a", RUNNING)
    database.put_task(make_task("b"))
    database.put_task(make_task("c"))
    database.unassign("c")
    await database.flush()
    database.put_task(make_task("lost"))
    await crash(database)

    again = await TaskDatabase.open(path)
    records = again.records()
    assert [(r.task.id, r.assigned) for r in records] == [("a", True), ("b", True), ("c", False)]
    assert records[0].status == RUNNING
    assert records[1].status is None
    await again.close()


async def crash(database: TaskDatabase) -> None:
    """Drop the file without the flush that an orderly close makes."""
    storage = database._storage
    assert storage is not None
    await storage.close()


async def test_a_stored_task_has_no_status_of_the_managers(path: Path) -> None:
    database = await TaskDatabase.open(path)
    record = database.put_task(make_task("a"))
    assert not record.task.HasField("status")
    assert record.status is None
    await database.close()


async def test_a_status_of_a_task_that_is_not_assigned_is_refused() -> None:
    database = await TaskDatabase.open(None)
    assert not database.put_status("unknown", RUNNING)
    database.put_task(make_task("a"))
    assert database.put_status("a", RUNNING)
    database.unassign("a")
    assert not database.put_status("a", RUNNING)


async def test_a_removed_task_that_is_assigned_again_starts_without_its_old_status(path: Path) -> None:
    database = await TaskDatabase.open(path)
    database.put_task(make_task("a"))
    database.put_status("a", RUNNING)
    database.unassign("a")
    assert database.put_task(make_task("a")).status is None
    await database.close()


async def test_a_deleted_task_stays_deleted(path: Path) -> None:
    database = await TaskDatabase.open(path)
    database.put_task(make_task("a"))
    await database.flush()
    database.delete("a")
    database.delete("never there")
    await database.close()
    again = await TaskDatabase.open(path)
    assert again.records() == []
    await again.close()


async def test_flushes_that_wait_together_share_a_write(path: Path) -> None:
    database = await TaskDatabase.open(path)

    async def change(number: int) -> None:
        database.put_task(make_task(f"task-{number:03d}"))
        await database.flush()

    await asyncio.gather(*(change(number) for number in range(100)))
    assert database._finished <= 3
    await crash(database)
    again = await TaskDatabase.open(path)
    assert len(again.records()) == 100
    await again.close()


async def test_the_file_is_private_and_so_is_its_journal(path: Path) -> None:
    database = await TaskDatabase.open(path)
    database.put_task(make_task("a"))
    await database.flush()
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    for name in os.listdir(path.parent):
        assert stat.S_IMODE((path.parent / name).stat().st_mode) == 0o600, name
    await database.close()


async def test_a_second_user_of_the_file_is_told_so(path: Path) -> None:
    database = await TaskDatabase.open(path)
    with pytest.raises(TaskDatabaseError, match="is another swarmd running"):
        await TaskDatabase.open(path)
    await database.close()


@pytest.fixture
def garbage(path: Path) -> Path:
    path.parent.mkdir()
    path.write_bytes(b"garbage" * 1000)
    return path


async def test_a_damaged_file_is_refused_with_a_way_out(garbage: Path) -> None:
    with pytest.raises(TaskDatabaseError, match=r"is damaged: .* move it away"):
        await TaskDatabase.open(garbage)


async def test_a_file_of_a_newer_layout_is_refused(path: Path) -> None:
    await (await TaskDatabase.open(path)).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 7")
    connection.close()
    with pytest.raises(TaskDatabaseError, match="layout version 7"):
        await TaskDatabase.open(path)


async def test_a_directory_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TaskDatabaseError, match="cannot make the task database"):
        await TaskDatabase.open(tmp_path / "file" / "tasks.db")


async def test_an_unreadable_record_is_dropped_and_the_others_stay(path: Path) -> None:
    database = await TaskDatabase.open(path)
    database.put_task(make_task("a"))
    await database.close()
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO tasks VALUES ('bad', x'ffffff', NULL, 1)")
    connection.close()
    for _ in range(2):  # the second time it is gone from the file as well
        again = await TaskDatabase.open(path)
        assert [record.task.id for record in again.records()] == ["a"]
        await again.close()


async def test_a_full_disk_stops_nothing_and_the_next_flush_writes_what_is_left(path: Path) -> None:
    database = await TaskDatabase.open(path)
    storage = database._storage
    assert storage is not None
    await storage.call(lambda: limit_pages(storage, 1))
    big = make_task("a")
    big.spec.container.args.append("x" * 100_000)
    database.put_task(big)
    await database.flush()
    await database.flush()
    assert database.get("a") is not None
    await storage.call(lambda: limit_pages(storage, 1 << 20))
    await database.flush()
    await crash(database)
    again = await TaskDatabase.open(path)
    assert [record.task.id for record in again.records()] == ["a"]
    await again.close()


def limit_pages(storage: Any, pages: int) -> None:
    storage._connection.execute(f"PRAGMA max_page_count = {pages}")
