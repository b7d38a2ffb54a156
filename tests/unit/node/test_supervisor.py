"""A manager runs while the node's certificate says so (contract/raft-store-manager.md, 22)."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from swarmkit.ca.credentials import Credentials, CredentialsHolder
from swarmkit.net.caller import MANAGER_ROLE, WORKER_ROLE
from swarmkit.node.supervisor import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    ROLE_SECONDS,
    ManagerSupervisor,
    NotYetError,
    RunningManager,
)
from tests.fakes.loop import VirtualClock


class FakeManager:
    def __init__(self, changed: Callable[[], None]) -> None:
        self.removed = False
        self.stopping_seconds = 0
        self.calls: list[str] = []
        self._changed = changed

    async def start(self) -> None:
        self.calls.append("start")

    async def stop(self, erase: bool = False) -> None:
        await asyncio.sleep(self.stopping_seconds)
        self.calls.append("erase" if erase else "stop")

    def be_removed(self) -> None:
        self.removed = True
        self._changed()


def credentials(role: str) -> Credentials:
    return Credentials(b"", b"", b"", "node-1", role, "swarm")


class Setting:
    def __init__(self, clock: VirtualClock, role: str) -> None:
        self.clock = clock
        self.holder = CredentialsHolder(credentials(role))
        self.managers: list[FakeManager] = []
        self.starts: list[float] = []
        self.failures: list[Exception] = []
        self.demands: list[float] = []
        self.supervisor = ManagerSupervisor(self.holder, self.make, self.begin, self.demand, clock)
        self.task: asyncio.Task[None] | None = None

    async def make(self, changed: Callable[[], None]) -> FakeManager:
        self.managers.append(FakeManager(changed))
        return self.managers[-1]

    async def begin(self, manager: RunningManager) -> None:
        self.starts.append(self.clock.monotonic())
        if self.failures:
            raise self.failures.pop(0)
        await manager.start()

    def demand(self) -> None:
        self.demands.append(self.clock.monotonic())

    def run(self) -> None:
        self.task = asyncio.create_task(self.supervisor.run())

    def become(self, role: str) -> None:
        self.holder.replace(credentials(role))

    async def close(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])
        await self.supervisor.stop()


@pytest_asyncio.fixture
async def worker(clock: VirtualClock) -> AsyncIterator[Setting]:
    setting = Setting(clock, WORKER_ROLE)
    setting.run()
    yield setting
    await setting.close()


@pytest_asyncio.fixture
async def manager(clock: VirtualClock) -> AsyncIterator[Setting]:
    setting = Setting(clock, MANAGER_ROLE)
    await setting.supervisor.start()
    setting.run()
    yield setting
    await setting.close()


async def test_a_worker_runs_no_manager(worker: Setting) -> None:
    await asyncio.sleep(100)
    assert not worker.managers


async def test_a_promoted_worker_starts_a_manager(worker: Setting) -> None:
    await asyncio.sleep(1)
    worker.become(MANAGER_ROLE)
    await asyncio.sleep(1)
    assert [manager.calls for manager in worker.managers] == [["start"]]


async def test_a_new_certificate_of_the_same_role_changes_nothing(manager: Setting) -> None:
    manager.become(MANAGER_ROLE)
    await asyncio.sleep(100)
    assert [started.calls for started in manager.managers] == [["start"]]


async def test_a_demoted_manager_erases_its_data(manager: Setting) -> None:
    await asyncio.sleep(1)
    manager.become(WORKER_ROLE)
    await asyncio.sleep(100)
    assert [ended.calls for ended in manager.managers] == [["start", "erase"]]
    assert not manager.demands


async def test_a_removed_manager_erases_its_data_and_asks_for_its_role_after_a_while(
    manager: Setting,
) -> None:
    manager.managers[0].be_removed()
    await asyncio.sleep(1)
    assert manager.managers[0].calls == ["start", "erase"]
    await asyncio.sleep(ROLE_SECONDS)
    assert manager.demands == [pytest.approx(ROLE_SECONDS)]
    manager.become(WORKER_ROLE)
    await asyncio.sleep(100)
    assert len(manager.managers) == 1


async def test_a_removed_manager_that_is_told_its_role_in_time_asks_nobody(manager: Setting) -> None:
    manager.managers[0].be_removed()
    await asyncio.sleep(5)
    manager.become(WORKER_ROLE)
    await asyncio.sleep(100)
    assert not manager.demands
    assert len(manager.managers) == 1


async def test_a_removed_manager_whose_certificate_stays_one_joins_anew(manager: Setting) -> None:
    manager.managers[0].be_removed()
    await asyncio.sleep(2 * ROLE_SECONDS + 1)
    assert [made.calls for made in manager.managers] == [["start", "erase"], ["start"]]


async def test_a_removed_manager_that_is_told_to_stay_one_joins_anew_at_once(manager: Setting) -> None:
    manager.managers[0].be_removed()
    await asyncio.sleep(ROLE_SECONDS + 1)
    assert len(manager.managers) == 1
    manager.become(MANAGER_ROLE)
    await asyncio.sleep(0.1)
    assert len(manager.managers) == 2


async def test_promoted_again_after_a_demotion(manager: Setting) -> None:
    for role in (WORKER_ROLE, MANAGER_ROLE, WORKER_ROLE):
        await asyncio.sleep(1)
        manager.become(role)
    await asyncio.sleep(1)
    assert [made.calls for made in manager.managers] == [["start", "erase"], ["start", "erase"]]


async def test_promoted_again_while_the_manager_was_still_ending(manager: Setting) -> None:
    manager.managers[0].stopping_seconds = 8
    manager.become(WORKER_ROLE)
    await asyncio.sleep(2)
    manager.become(MANAGER_ROLE)
    await asyncio.sleep(7)
    assert [made.calls for made in manager.managers] == [["start", "erase"], ["start"]]


async def test_what_may_pass_by_itself_is_tried_again_with_growing_pauses(worker: Setting) -> None:
    worker.failures = [NotYetError("the port is in use") for _ in range(8)]
    worker.become(MANAGER_ROLE)
    await asyncio.sleep(300)
    pauses = [later - earlier for earlier, later in zip(worker.starts, worker.starts[1:], strict=False)]
    assert pauses[:3] == [pytest.approx(FIRST_PAUSE * 2**n, abs=0.01) for n in range(3)]
    assert max(pauses) == pytest.approx(LONGEST_PAUSE, abs=0.01)
    assert [made.calls for made in worker.managers] == [["stop"]] * 8 + [["start"]]


async def test_a_node_demoted_before_its_manager_could_start_tries_no_longer(worker: Setting) -> None:
    worker.failures = [NotYetError("the port is in use")]
    worker.become(MANAGER_ROLE)
    await asyncio.sleep(0.1)
    worker.become(WORKER_ROLE)
    await asyncio.sleep(100)
    assert [made.calls for made in worker.managers] == [["stop"]]


async def test_what_does_not_pass_ends_the_supervisor(worker: Setting) -> None:
    worker.failures = [RuntimeError("the log is damaged")]
    worker.become(MANAGER_ROLE)
    assert worker.task is not None
    await asyncio.wait([worker.task])
    with pytest.raises(RuntimeError, match="damaged"):
        worker.task.result()


async def test_stopping_keeps_the_data(manager: Setting) -> None:
    await manager.close()
    assert manager.managers[0].calls == ["start", "stop"]
