"""Autolock on one manager (contract/security.md, 13; cases 75 to 77)."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from swarmkit.api import messages as api
from swarmkit.ca.autolock import set_unlock_key
from swarmkit.ca.errors import KekConflictError, StateDirError
from swarmkit.ca.keyfile import Kek, KeyHeaders, is_news
from swarmkit.manager.keys import RETRY_SECONDS, KeyFollower
from swarmkit.store import Store, Tx
from tests.fakes.loop import VirtualClock
from tests.fakes.proposer import FakeProposer

CLUSTER = "c" * 25


class FakeFile:
    """A key file in memory."""

    def __init__(self) -> None:
        self.kek = Kek()
        self.marked = False
        self.failure: StateDirError | None = None
        self.attempts = 0

    def follow(self, candidate: Kek) -> bool:
        self.attempts += 1
        if self.failure is not None:
            raise self.failure
        if not is_news(self.kek, candidate):
            return False
        locks = not self.kek.key
        self.kek, self.marked = candidate, self.marked or locks
        return locks

    def headers(self) -> KeyHeaders:
        return KeyHeaders(b"d" * 32, needs_rotation=self.marked)


class Manager:
    """A follower of keys over a store."""

    def __init__(self, clock: VirtualClock) -> None:
        self.store = Store(clock)
        self.store.attach(FakeProposer(self.store))
        self.file = FakeFile()
        self.rotations = 0
        self.renewals = 0
        self.follower = KeyFollower(self.store, CLUSTER, self.file, self._rotate, self._renew)

    def _rotate(self) -> None:
        self.rotations += 1

    def _renew(self) -> None:
        self.renewals += 1

    async def set_key(self, key: bytes) -> int:
        """Change the unlock key; return the version of the object that has it."""

        def change(tx: Tx) -> None:
            stored = tx.get(api.Cluster, CLUSTER)
            cluster = api.Cluster(
                id=CLUSTER, spec=api.ClusterSpec(annotations=api.Annotations(name="default"))
            )
            if stored is not None:
                cluster.CopyFrom(stored)
            set_unlock_key(cluster, key)
            tx.create(cluster) if stored is None else tx.update(cluster)

        await self.store.update(change)
        (cluster,) = self.store.view().find(api.Cluster)
        await asyncio.sleep(0.1)
        return cluster.meta.version.index


@pytest.fixture
async def manager(clock: VirtualClock) -> AsyncIterator[Manager]:
    manager = Manager(clock)
    task = asyncio.create_task(manager.follower.run())
    yield manager
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() or task.exception() is None


async def test_a_lock_reaches_the_file_and_wakes_the_rotation_and_the_renewal(manager: Manager) -> None:
    version = await manager.set_key(b"k" * 32)
    assert manager.file.kek == Kek(b"k" * 32, version)
    assert (manager.rotations, manager.renewals) == (1, 1)


async def test_what_was_changed_before_the_start_is_taken_over_at_the_start(clock: VirtualClock) -> None:
    manager = Manager(clock)
    version = await manager.set_key(b"k" * 32)
    task = asyncio.create_task(manager.follower.run())
    await asyncio.sleep(0.1)
    assert manager.file.kek == Kek(b"k" * 32, version)
    task.cancel()
    await asyncio.wait([task])


async def test_a_new_unlock_key_and_the_end_of_autolock_wrap_anew_and_rotate_nothing(
    manager: Manager,
) -> None:
    await manager.set_key(b"k" * 32)
    manager.file.marked = False  # raft has begun
    for key in (b"l" * 32, b""):
        version = await manager.set_key(key)
        assert manager.file.kek == Kek(key, version)
    assert (manager.rotations, manager.renewals) == (1, 1)


async def test_a_mark_that_a_renewal_left_wakes_the_rotation_with_the_next_change(manager: Manager) -> None:
    manager.file.kek, manager.file.marked = Kek(b"k" * 32, 1), True
    await manager.set_key(b"k" * 32)
    assert (manager.rotations, manager.renewals) == (1, 0)


async def test_a_conflict_is_said_loudly_and_not_tried_again(
    manager: Manager, caplog: pytest.LogCaptureFixture
) -> None:
    manager.file.failure = KekConflictError(7)
    await manager.set_key(b"k" * 32)
    await asyncio.sleep(10 * RETRY_SECONDS)
    assert manager.file.attempts == 1
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "was not taken over" in record.getMessage()
    assert (manager.rotations, manager.renewals) == (0, 0)


async def test_a_file_that_cannot_be_written_is_tried_until_it_can(manager: Manager) -> None:
    manager.file.failure = StateDirError("cannot write")
    version = await manager.set_key(b"k" * 32)
    assert manager.file.kek == Kek()
    manager.file.failure = None
    await asyncio.sleep(RETRY_SECONDS)
    assert manager.file.kek == Kek(b"k" * 32, version)
    assert (manager.rotations, manager.renewals) == (1, 1)


async def test_of_changes_that_come_quickly_the_last_one_counts(manager: Manager) -> None:
    for number in range(20):
        await manager.set_key(b"%032d" % number)
    assert manager.file.kek.key == b"%032d" % 19
