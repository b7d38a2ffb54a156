"""The loop on a real store, on virtual time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from swarmkit.api import messages as api
from swarmkit.manager.allocator import Allocator
from swarmkit.store import LeadershipLostError, ProposalTooLargeError, Store, Tx, Watch
from tests.fakes.loop import VirtualClock
from tests.fakes.proposer import FakeProposer

NEW = api.TaskState.NEW
PENDING = api.TaskState.PENDING


@pytest.fixture
def store(clock: VirtualClock) -> Store:
    return Store(clock)


@contextlib.asynccontextmanager
async def allocating(store: Store) -> AsyncIterator[None]:
    running = asyncio.create_task(Allocator(store, VirtualClock()).run())
    await settle()
    yield
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()


async def settle() -> None:
    await asyncio.sleep(0.01)


async def create(store: Store, *items: api.Task | api.Service) -> None:
    def fill(tx: Tx) -> None:
        for item in items:
            tx.create(item)

    await store.update(fill)


async def change_service(store: Store, service: api.Service) -> None:
    def write(tx: Tx) -> None:
        stored = tx.get(api.Service, service.id)
        assert stored is not None
        copy = api.Service()
        copy.CopyFrom(stored)
        copy.spec.CopyFrom(service.spec)
        tx.update(copy)

    await store.update(write)


def service(service_id: str = "s", *, ingress: bool = False, host: int = 0) -> api.Service:
    made = api.Service(id=service_id)
    made.spec.annotations.name = service_id
    if ingress:
        made.spec.endpoint.ports.add(target_port=80, published_port=80)
    if host:
        made.spec.endpoint.ports.add(target_port=80, published_port=host, publish_mode=api.PortConfig.HOST)
    return made


def task(
    task_id: str, service_id: str = "s", state: api.TaskState.ValueType = NEW, network: str = ""
) -> api.Task:
    made = api.Task(id=task_id, service_id=service_id, desired_state=api.TaskState.RUNNING)
    made.status.state = state
    if network:
        made.spec.networks.add(target=network)
    return made


def states(store: Store) -> dict[str, int]:
    return {one.id: one.status.state for one in store.view().find(api.Task)}


def stored(store: Store, task_id: str) -> api.Task:
    found = store.view().get(api.Task, task_id)
    assert found is not None
    return found


async def test_what_is_there_at_the_start_is_allocated_services_before_tasks_in_order_of_ids(
    store: Store,
) -> None:
    await create(store, task("b"), task("a"), task("c", state=api.TaskState.RUNNING), service(host=8080))
    with store.watch(Watch(api.Service), Watch(api.Task)) as watcher:
        async with allocating(store):
            order = [event.object.id for _ in range(len(watcher)) for event in (await anext(watcher)).events]
    assert order == ["s", "a", "b"]
    assert states(store) == {"a": PENDING, "b": PENDING, "c": api.TaskState.RUNNING}
    assert stored(store, "a").endpoint.ports[0].published_port == 8080


async def test_a_new_task_is_passed_on_at_once_with_a_status_that_says_so(store: Store) -> None:
    async with allocating(store):
        await create(store, service(), task("t"), task("alone", ""))
        await settle()
        assert states(store) == {"t": PENDING, "alone": PENDING}
        assert stored(store, "t").status.message == "pending task scheduling"


async def test_what_is_allocated_is_not_written_again(store: Store) -> None:
    async with allocating(store):
        await create(store, service(host=1), task("t"))
        await settle()
        version = store.version
        await change_service(store, service(host=1))
        await settle()
        assert store.version == version + 1


async def test_changed_host_ports_replace_those_of_the_endpoint(store: Store) -> None:
    async with allocating(store):
        await create(store, service(host=1))
        await settle()
        await change_service(store, service(host=2))
        await create(store, task("t"))
        await settle()
        assert [port.published_port for port in stored(store, "t").endpoint.ports] == [2]


@pytest.mark.parametrize(
    ("blocked", "reason"),
    [(service(ingress=True), "ingress network is missing"), (service(), "network support is unavailable")],
)
async def test_tasks_of_a_service_that_cannot_be_allocated_stay_new_and_the_log_says_once_why(
    store: Store, caplog: pytest.LogCaptureFixture, blocked: api.Service, reason: str
) -> None:
    if not blocked.spec.endpoint.ports:
        blocked.spec.task.networks.add(target="n")
    async with allocating(store):
        await create(store, blocked, task("a"), task("b"))
        await settle()
        await create(store, task("c"))
        await change_service(store, blocked)
        await settle()
        assert set(states(store).values()) == {NEW}
        lines = [record.fields for record in caplog.records]  # type: ignore[attr-defined]
        assert lines == [{"reason": reason, "service_id": "s"}]


async def test_waiting_tasks_go_on_when_their_service_can_be_allocated(store: Store) -> None:
    async with allocating(store):
        await create(store, service(ingress=True), task("a"), task("b"), service("other", ingress=True))
        await create(store, task("c", "other"))
        await settle()
        await change_service(store, service(host=7))
        await settle()
        assert states(store) == {"a": PENDING, "b": PENDING, "c": NEW}


async def test_a_task_whose_service_is_missing_stays_new_until_something_changes(store: Store) -> None:
    async with allocating(store):
        await create(store, task("t"))
        await settle()
        assert states(store) == {"t": NEW}
        await create(store, service())
        await settle()
        assert states(store) == {"t": NEW}

        def touch(tx: Tx) -> None:
            copy = api.Task()
            copy.CopyFrom(stored(store, "t"))
            copy.slot = 3
            tx.update(copy)

        await store.update(touch)
        await settle()
        assert states(store) == {"t": PENDING}


async def test_nothing_is_kept_of_deleted_objects(store: Store) -> None:
    allocator = Allocator(store, VirtualClock())
    running = asyncio.create_task(allocator.run())
    await create(store, service(ingress=True), task("a"), task("b", ""), task("c", "", network="n"))
    await settle()
    assert allocator._waiting
    assert allocator._reasons
    for name in "abc":
        await store.update(lambda tx, name=name: tx.delete(api.Task, name))  # type: ignore[misc]
    await store.update(lambda tx: tx.delete(api.Service, "s"))
    await settle()
    assert not allocator._waiting
    assert not allocator._reasons
    running.cancel()
    await asyncio.wait([running])


async def test_the_decision_is_made_on_the_latest_version_and_never_lowers_a_state(
    clock: VirtualClock,
) -> None:
    store = Store(clock)
    proposer = FakeProposer(store)
    store.attach(proposer)
    await create(store, service(), task("t"))
    proposer._automatic = False

    def move_on(tx: Tx) -> None:
        copy = api.Task()
        copy.CopyFrom(stored(store, "t"))
        copy.status.state = api.TaskState.ASSIGNED
        tx.update(copy)

    moving = asyncio.create_task(store.update(move_on))
    await asyncio.sleep(0)
    running = asyncio.create_task(Allocator(store, clock).run())
    await settle()
    proposer.commit(proposer.waiting)
    await moving
    await settle()
    assert states(store) == {"t": api.TaskState.ASSIGNED}
    running.cancel()
    await asyncio.wait([running])


async def test_it_ends_quietly_when_leadership_is_lost(clock: VirtualClock) -> None:
    store = Store(clock)
    proposer = FakeProposer(store)
    store.attach(proposer)
    await create(store, service(), task("t"))
    proposer._automatic = False
    running = asyncio.create_task(Allocator(store, clock).run())
    await settle()
    proposer.lose_leadership()
    await asyncio.wait_for(running, 1)
    assert states(store) == {"t": NEW}


class RefusingOnce(FakeProposer):
    """Refuses the first proposal after ``armed`` was set."""

    armed = False

    def propose(self, data: bytes) -> "asyncio.Future[int]":
        if self.armed:
            self.armed = False
            raise ProposalTooLargeError(len(data))
        if not self.may_propose:
            raise LeadershipLostError
        return super().propose(data)


async def test_what_was_not_committed_is_tried_again_after_the_next_change(clock: VirtualClock) -> None:
    store = Store(clock)
    proposer = RefusingOnce(store)
    store.attach(proposer)
    await create(store, service(), task("t"))
    proposer.armed = True
    async with allocating(store):
        assert states(store) == {"t": NEW}
        await create(store, service("other"))
        await settle()
        assert states(store) == {"t": PENDING}


async def test_one_object_that_cannot_be_allocated_does_not_stop_the_others(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await create(store, service(), task("bad"), task("good"))
    allocator = Allocator(store, VirtualClock())
    allocate = allocator._allocate_task

    def broken(tx: Tx, task_id: str) -> bool:
        if task_id == "bad":
            raise ValueError("broken")
        return allocate(tx, task_id)

    monkeypatch.setattr(allocator, "_allocate_task", broken)
    running = asyncio.create_task(allocator.run())
    await settle()
    assert states(store) == {"bad": NEW, "good": PENDING}
    assert "cannot allocate" in caplog.text
    running.cancel()
    await asyncio.wait([running])
