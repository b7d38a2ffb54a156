"""The events behind a stream."""

import asyncio

import pytest

from swarmkit.api import messages as api
from swarmkit.manager.dispatcher.errors import SessionInvalidError, StreamCanceledError
from swarmkit.manager.dispatcher.source import EventSource
from swarmkit.store import Action, Event, Store, Tx
from tests.fakes.loop import VirtualClock
from tests.unit.manager.dispatcher.bench import task


def create(*names: str) -> object:
    def run(tx: Tx) -> None:
        for name in names:
            tx.create(task(name))

    return run


@pytest.fixture
def store(clock: VirtualClock) -> Store:
    return Store(clock)


async def test_events_come_one_at_a_time_and_none_is_lost_to_a_wait_that_ended(
    store: Store, clock: VirtualClock
) -> None:
    source = EventSource(store.watch())
    assert await source.next(0.1) is None
    assert clock.monotonic() == pytest.approx(0.1)
    await store.update(create("a", "b"))  # type: ignore[arg-type]
    await store.update(create("c"))  # type: ignore[arg-type]
    names = []
    while (event := await source.next(0.1)) is not None:
        assert isinstance(event.object, api.Task)
        names.append(event.object.id)
    assert names == ["a", "b", "c"]
    await source.close()


async def test_a_pushed_event_wakes_the_reader_and_does_not_lose_a_commit(store: Store) -> None:
    source = EventSource(store.watch())
    pushed = Event(Action.UPDATE, api.Volume(id="v"))
    for _ in range(2):
        waiting = asyncio.get_running_loop().create_task(source.next())
        await asyncio.sleep(1)
        source.push(pushed)
        assert await waiting is pushed
    await store.update(create("a"))  # type: ignore[arg-type]
    source.push(pushed)
    received = [await source.next(0.1) for _ in range(3)]
    assert pushed in received
    assert [e.object.id for e in received if e is not None and e is not pushed] == ["a"]
    await source.close()


async def test_without_time_only_what_waits_is_returned(store: Store, clock: VirtualClock) -> None:
    source = EventSource(store.watch())
    await store.update(create("a"))  # type: ignore[arg-type]
    assert await source.next(-1.0) is not None
    assert await source.next(-1.0) is None
    assert clock.monotonic() == 0.0
    await source.close()


async def test_an_ended_source_raises_its_error_also_for_who_waits_already(store: Store) -> None:
    source = EventSource(store.watch())
    waiting = asyncio.get_running_loop().create_task(source.next())
    await asyncio.sleep(1)
    source.end(SessionInvalidError())
    source.end(StreamCanceledError())
    for _ in range(2):
        with pytest.raises(SessionInvalidError):
            await waiting
        with pytest.raises(SessionInvalidError):
            await source.next(0)
    await source.close()


async def test_a_watcher_that_the_store_closes_ends_the_source(store: Store) -> None:
    source = EventSource(store.watch())
    waiting = asyncio.get_running_loop().create_task(source.next())
    await asyncio.sleep(0)
    store.close()
    with pytest.raises(StreamCanceledError):
        await waiting
    await source.close()
