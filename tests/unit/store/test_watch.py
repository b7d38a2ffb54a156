"""Watchers: filtering, order, cancellation, closing (contract/raft-store-manager.md, 6)."""

import asyncio

import pytest

from swarmkit.api import messages as api
from swarmkit.store import Action, Commit, Event, Store, Tx, Watch, Watcher
from tests.fakes.loop import VirtualClock
from tests.fakes.proposer import FakeProposer
from tests.unit.store.builders import changed, ids, new, task


@pytest.fixture
def store() -> Store:
    return Store(VirtualClock())


def drain(watcher: Watcher) -> list[Commit]:
    commits = []
    while (commit := watcher.next_nowait()) is not None:
        commits.append(commit)
    return commits


def seen(watcher: Watcher) -> list[str]:
    return ids(event.object for commit in drain(watcher) for event in commit.events)


async def test_one_commit_per_transaction_with_its_events_in_order(store: Store) -> None:
    watcher = store.watch()

    def callback(tx: Tx) -> None:
        stored = tx.create(task("t1"))
        tx.create(new(api.Node, "n1"))
        tx.update(changed(stored, node_id="n1"))
        tx.delete(api.Node, "n1")

    await store.update(callback)
    await store.update(lambda tx: tx.create(task("t2")))
    first, second = drain(watcher)
    assert first.version < second.version
    actions = [(event.action, event.object.id) for event in first.events]
    assert actions == [
        (Action.CREATE, "t1"),
        (Action.CREATE, "n1"),
        (Action.UPDATE, "t1"),
        (Action.DELETE, "n1"),
    ]
    assert first.events[2].old is first.events[0].object
    assert first.events[0].old is None
    assert second.events == (Event(Action.CREATE, store.view().find(api.Task)[1]),)


async def test_who_waits_for_the_commit_and_who_carries_the_answer_away_go_before_a_watcher(
    store: Store,
) -> None:
    order: list[str] = []

    async def watch() -> None:
        await anext(watcher)
        order.append("watcher")

    async def change() -> None:
        await store.update(lambda tx: tx.create(task("t1")))
        order.append("answer")
        asyncio.get_running_loop().call_soon(order.append, "gateway")

    store.attach(FakeProposer(store))
    watcher = store.watch()
    watching = asyncio.ensure_future(watch())
    await asyncio.sleep(0)
    await change()
    await watching
    assert order == ["answer", "gateway", "watcher"]


async def test_a_watch_selects_by_kind_action_id_node_service_and_condition(store: Store) -> None:
    watchers = {
        "kind": store.watch(Watch(api.Task)),
        "action": store.watch(Watch(api.Task, {Action.DELETE})),
        "ids": store.watch(Watch(api.Task, ids={"t2", "t9"})),
        "node": store.watch(Watch(api.Task, node_id="n1")),
        "service": store.watch(Watch(api.Task, service_id="s2")),
        "where": store.watch(Watch(api.Task, where=lambda stored: stored.slot > 1)),
        "two": store.watch(Watch(api.Node), Watch(api.Task, ids={"t1"}, node_id="n1")),
        "other": store.watch(Watch(api.Network)),
    }
    await store.update(lambda tx: tx.create(task("t1", node_id="n1", service_id="s1", slot=1)))
    await store.update(lambda tx: tx.create(task("t2", node_id="n2", service_id="s2", slot=2)))
    await store.update(lambda tx: tx.create(new(api.Node, "n1")))
    await store.update(lambda tx: tx.delete(api.Task, "t1"))
    assert {name: seen(watcher) for name, watcher in watchers.items()} == {
        "kind": ["t1", "t2", "t1"],
        "action": ["t1"],
        "ids": ["t2"],
        "node": ["t1", "t1"],
        "service": ["t2"],
        "where": ["t2"],
        "two": ["t1", "n1", "t1"],
        "other": [],
    }


async def test_an_event_that_matches_twice_is_delivered_once(store: Store) -> None:
    watcher = store.watch(Watch(api.Task), Watch(api.Task, node_id="n1"), Watch(api.Task, ids=["t1", "t1"]))
    await store.update(lambda tx: tx.create(task("t1", node_id="n1")))
    assert seen(watcher) == ["t1"]


async def test_an_object_that_leaves_the_filtered_set_is_not_announced(store: Store) -> None:
    watcher = store.watch(Watch(api.Task, where=lambda stored: stored.node_id == "n1"))
    await store.update(lambda tx: tx.create(task("t1", node_id="n1")))
    await store.update(lambda tx: tx.update(changed(tx.get(api.Task, "t1"), node_id="n2")))
    assert seen(watcher) == ["t1"]


async def test_a_commit_costs_nothing_for_the_watchers_of_other_nodes(store: Store) -> None:
    asked: list[str] = []
    for n in range(3):
        where = lambda stored, n=n: bool(asked.append(f"n{n}")) or True  # type: ignore[func-returns-value]  # noqa: E731
        store.watch(Watch(api.Task, node_id=f"n{n}", where=where))
    await store.update(lambda tx: tx.create(task("t1", node_id="n1")))
    assert asked == ["n1"]


async def test_a_slow_watcher_delays_nobody_and_loses_nothing(store: Store) -> None:
    slow, fast = store.watch(), store.watch()
    for n in range(50):
        await store.update(lambda tx, n=n: tx.create(task(f"t{n:02}")))  # type: ignore[misc]
        assert len(drain(fast)) == 1
    assert len(slow) == 50
    assert len(seen(slow)) == 50
    assert len(slow) == 0


async def test_a_cancelled_wait_loses_nothing(store: Store) -> None:
    watcher = store.watch()
    waiting = asyncio.ensure_future(watcher.__anext__())
    await asyncio.sleep(0)
    await store.update(lambda tx: tx.create(task("t1")))
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ids(event.object for event in (await anext(watcher)).events) == ["t1"]


async def test_closing_ends_the_stream_also_for_a_reader_that_waits(store: Store) -> None:
    watcher = store.watch()
    await store.update(lambda tx: tx.create(task("t1")))
    read = []

    async def reader() -> None:
        read.extend([commit async for commit in watcher])

    reading = asyncio.ensure_future(reader())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    watcher.close()
    watcher.close()
    await reading
    await store.update(lambda tx: tx.create(task("t2")))
    assert len(read) == 1
    assert len(watcher) == 0


async def test_a_block_closes_its_watcher(store: Store) -> None:
    with store.watch(Watch(api.Task, ids={"a", "b"}), Watch(api.Task), Watch(api.Node)) as watcher:
        assert len(store._hub) == 1
    with pytest.raises(StopAsyncIteration):
        await anext(watcher)
    assert len(store._hub) == 0
    assert store._hub._buckets == {}


async def test_a_second_reader_is_refused(store: Store) -> None:
    watcher = store.watch()
    first = asyncio.ensure_future(anext(watcher))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="already being read"):
        await anext(watcher)
    await store.update(lambda tx: tx.create(task("t1")))
    await first


async def test_a_condition_that_fails_ends_its_own_watcher_alone(store: Store) -> None:
    broken = store.watch(Watch(api.Task, where=lambda stored: stored.nothing))
    sound = store.watch(Watch(api.Task))
    await store.update(lambda tx: tx.create(task("t1")))
    assert seen(sound) == ["t1"]
    with pytest.raises(AttributeError):
        await anext(broken)
    assert len(store._hub) == 1
