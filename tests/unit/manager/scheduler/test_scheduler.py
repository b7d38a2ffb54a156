"""The loop on a real store, on virtual time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from swarmkit.api import messages as api
from swarmkit.clock import SystemClock
from swarmkit.manager.scheduler import Scheduler
from swarmkit.store import LeadershipLostError, ProposalError, ProposalTooLargeError, Store, Tx
from tests.fakes.loop import VirtualClock
from tests.fakes.proposer import FakeProposer
from tests.unit.manager.scheduler.build import changed, node, task

SHUTDOWN = api.TaskState.SHUTDOWN


@pytest.fixture
def store(clock: VirtualClock) -> Store:
    made = Store(clock)
    return made


@contextlib.asynccontextmanager
async def scheduling(store: Store) -> AsyncIterator[None]:
    running = asyncio.create_task(Scheduler(store, VirtualClock()).run())
    await asyncio.sleep(0.01)
    yield
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()


async def create(store: Store, *items: api.Node | api.Task | api.Service) -> None:
    def fill(tx: Tx) -> None:
        for item in items:
            tx.create(item)

    await store.update(fill)


async def alter(store: Store, task_id: str, **fields: object) -> None:
    await store.update(lambda tx: tx.update(changed(found(tx.get(api.Task, task_id)), **fields)))


def found(one: api.Task | None) -> api.Task:
    assert one is not None
    return one


def stored(store: Store, task_id: str) -> api.Task:
    return found(store.view().get(api.Task, task_id))


SERVICE = api.Service(id="service", spec=api.ServiceSpec(annotations=api.Annotations(name="service")))


async def test_what_waits_at_the_start_is_placed_at_once_preassigned_first(store: Store) -> None:
    await create(store, node("a", cpus=1), node("b", cpus=1), task("free", cpus=1))
    await create(store, task("fixed", node_id="a", cpus=1), task("stop", desired=SHUTDOWN, cpus=1))
    async with scheduling(store):
        assert stored(store, "fixed").status.state == api.TaskState.ASSIGNED
        assert stored(store, "free").node_id == "b"
        assert stored(store, "stop").status.state == api.TaskState.PENDING


async def test_later_tasks_are_placed_after_twenty_quiet_milliseconds(store: Store) -> None:
    await create(store, node("a"))
    async with scheduling(store):
        await create(store, task("t"))
        await asyncio.sleep(0.015)
        assert not stored(store, "t").node_id
        await asyncio.sleep(0.010)
        assert stored(store, "t").node_id == "a"
        assert stored(store, "t").status.timestamp.ToJsonString().startswith("2026-01-01T00:00:00.03")


async def test_a_steady_stream_of_changes_delays_placing_by_about_a_second_at_most(store: Store) -> None:
    await create(store, node("a"))
    async with scheduling(store):
        for number in range(100):
            await create(store, task(f"t{number}"))
            await asyncio.sleep(0.012)
        assert stored(store, "t0").node_id == "a"
        placed = stored(store, "t0").status.timestamp.ToDatetime()
        assert 1.0 < placed.second + placed.microsecond / 1e6 < 1.1


async def test_an_explanation_is_written_once_and_then_all_is_quiet(store: Store) -> None:
    await create(store, SERVICE)
    async with scheduling(store):
        await create(store, task("t"))
        await asyncio.sleep(5)
        assert stored(store, "t").status.err == "no suitable node"
        version = store.version
        await create(store, node("a", state=api.NodeStatus.DOWN))
        await asyncio.sleep(5)
        assert store.version == version + 2, "the node, and the new reason"
        assert "1 node not available" in stored(store, "t").status.err


async def test_a_task_that_lost_its_node_is_placed_again(store: Store) -> None:
    await create(store, node("a"), task("t"))
    async with scheduling(store):
        await alter(store, "t", node_id="", state=api.TaskState.PENDING)
        await asyncio.sleep(1)
        assert stored(store, "t").node_id == "a"


async def test_a_stuck_task_of_an_old_version_is_shut_down_while_its_sibling_runs(store: Store) -> None:
    versioned = api.Service()
    versioned.CopyFrom(SERVICE)
    versioned.spec_version.index = 1
    await create(store, versioned, node("a"))
    await create(store, *(task(name, version=1, max_replicas=1) for name in ("first", "second")))
    async with scheduling(store):
        await asyncio.sleep(1)
        assert stored(store, "first").node_id == "a"
        assert "max replicas per node" in stored(store, "second").status.err

        def renew(tx: Tx) -> None:
            service = api.Service()
            service.CopyFrom(tx.get(api.Service, "service") or SERVICE)
            service.spec_version.index = 2
            tx.update(service)

        await store.update(renew)
        await alter(store, "second", desired_state=SHUTDOWN)
        await asyncio.sleep(1)
        assert stored(store, "second").status.state == SHUTDOWN
        assert stored(store, "second").status.err == ""
        assert stored(store, "first").status.state == api.TaskState.ASSIGNED


async def test_a_task_with_a_change_in_flight_is_taken_back_and_placed_as_it_is_then(
    clock: VirtualClock,
) -> None:
    store = Store(clock)
    proposer = FakeProposer(store, automatic=False)
    store.attach(proposer)
    creating = asyncio.create_task(create(store, node("a"), node("b"), task("t"), task("u")))
    await asyncio.sleep(0)
    proposer.commit()
    changing = asyncio.create_task(alter(store, "t", desired_state=SHUTDOWN))
    await asyncio.sleep(0)
    scheduler = Scheduler(store, clock)
    running = asyncio.create_task(scheduler.run())
    await asyncio.sleep(0.01)
    proposer.commit(2)
    await asyncio.gather(creating, changing)
    assert stored(store, "u").node_id
    assert not stored(store, "t").node_id
    await asyncio.sleep(1)
    proposer.commit()
    await asyncio.sleep(1)
    scheduler._state.check_invariants()
    assert stored(store, "t").node_id == "a"
    assert stored(store, "t").desired_state == SHUTDOWN
    running.cancel()
    await asyncio.wait([running])


async def test_it_ends_quietly_when_leadership_is_lost_while_it_waits_for_a_commit(
    clock: VirtualClock,
) -> None:
    store = Store(clock)
    proposer = FakeProposer(store)
    store.attach(proposer)
    await create(store, node("a"), task("t"))
    proposer._automatic = False
    running = asyncio.create_task(Scheduler(store, clock).run())
    await asyncio.sleep(0.01)
    assert proposer.waiting == 1
    proposer.lose_leadership()
    await asyncio.wait_for(running, 1)
    assert not stored(store, "t").node_id


class Refusing:
    """Proposes nothing: fails as told."""

    may_propose = True

    def __init__(self, error: Callable[[], ProposalError]) -> None:
        self._error = error

    def next_index(self) -> int:
        return 1000

    def propose(self, data: bytes) -> "asyncio.Future[int]":
        raise self._error()

    def changes_since(self, index: int) -> None:
        return None


async def test_it_ends_quietly_when_leadership_is_lost(store: Store) -> None:
    await create(store, node("a"), task("t"))
    store.attach(Refusing(LeadershipLostError))
    await asyncio.wait_for(Scheduler(store, VirtualClock()).run(), 1)
    assert len(store._hub) == 0


async def test_it_ends_when_the_store_is_closed(store: Store) -> None:
    running = asyncio.create_task(Scheduler(store, VirtualClock()).run())
    await asyncio.sleep(0)
    store.close()
    await asyncio.wait_for(running, 1)


async def test_decisions_that_were_not_committed_are_taken_back_and_made_again(store: Store) -> None:
    await create(store, SERVICE, node("a", cpus=1), task("t", cpus=1), task("fixed", node_id="a", cpus=1))
    store.attach(Refusing(lambda: ProposalTooLargeError(2_000_000)))
    scheduler = Scheduler(store, VirtualClock())
    running = asyncio.create_task(scheduler.run())
    await asyncio.sleep(0.01)
    scheduler._state.check_invariants()
    assert set(scheduler._state.tasks) == {"t", "fixed"}
    store._proposer = None
    await create(store, node("b", cpus=1))
    await asyncio.sleep(1)
    assert (stored(store, "fixed").node_id, stored(store, "t").node_id) == ("a", "b")
    assert stored(store, "fixed").status.state == api.TaskState.ASSIGNED
    running.cancel()
    await asyncio.wait([running])


async def test_one_object_that_cannot_be_handled_does_not_stop_the_others(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler = Scheduler(store, VirtualClock())
    running = asyncio.create_task(scheduler.run())
    await asyncio.sleep(0.01)
    handle = scheduler._state.handle

    def fail_on_bad(event: object, now: float) -> None:
        if getattr(event, "object", SERVICE).id == "bad":
            raise ValueError("broken")
        handle(event, now)  # type: ignore[arg-type]

    scheduler._state.handle = fail_on_bad  # type: ignore[method-assign]
    await create(store, node("a"), task("bad"), task("good"))
    await asyncio.sleep(1)
    assert stored(store, "good").node_id == "a"
    assert "cannot handle an event" in caplog.text
    running.cancel()
    await asyncio.wait([running])


async def test_a_scheduler_started_again_knows_what_the_first_one_placed(store: Store) -> None:
    await create(store, node("a"), node("b"), task("t"))
    async with scheduling(store):
        pass
    await create(store, task("u"))
    async with scheduling(store):
        assert {stored(store, "t").node_id, stored(store, "u").node_id} == {"a", "b"}


@pytest.mark.slow
@pytest.mark.real_time
async def test_a_long_pass_lets_the_event_loop_go_on(store: Store) -> None:
    await create(store, *(node(f"n{number}") for number in range(200)), SERVICE)
    await create(store, *(task(f"t{number:05}") for number in range(4000)))
    running = asyncio.create_task(Scheduler(store, SystemClock()).run())
    turns = 0
    async with asyncio.timeout(60):
        while any(not one.node_id for one in store.view().find(api.Task)):
            turns += 1
            await asyncio.sleep(0)
    assert turns > 5
    running.cancel()
    await asyncio.wait([running])
