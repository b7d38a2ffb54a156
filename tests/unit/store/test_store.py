"""The store and replication: pipelining, applying, loss of leadership, snapshots, replay."""

import asyncio
from typing import Any

import pytest

from swarmkit.api import messages as api
from swarmkit.store import (
    MAX_PROPOSAL_BYTES,
    Action,
    CompactedError,
    DivergenceError,
    Event,
    LeadershipLostError,
    ProposalTooLargeError,
    SequenceError,
    StoppedError,
    Store,
    VersionAheadError,
    Watch,
    Watcher,
    by,
)
from swarmkit.store.objects import SCHEMAS
from tests.fakes.loop import VirtualClock
from tests.fakes.proposer import FakeProposer
from tests.unit.store.builders import changed, ids, labelled, new, task


def replicated(automatic: bool = False) -> tuple[Store, FakeProposer]:
    store = Store(VirtualClock())
    proposer = FakeProposer(store, automatic=automatic)
    store.attach(proposer)
    return store, proposer


def start(store: Store, callback: Any) -> "asyncio.Task[Any]":
    return asyncio.ensure_future(store.update(callback))


def events_of(watcher: Watcher) -> list[Event]:
    events: list[Event] = []
    while (commit := watcher.next_nowait()) is not None:
        events += commit.events
    return events


async def settle() -> None:
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_nothing_is_visible_before_the_commit_and_all_of_it_after() -> None:
    store, proposer = replicated()
    watcher = store.watch()
    update = start(store, lambda tx: tx.create(task("t1", node_id="n1")))
    await settle()
    assert store.view().find(api.Task, by.node("n1")) == []
    assert watcher.next_nowait() is None
    assert not update.done()
    proposer.commit()
    assert ids(store.view().find(api.Task, by.node("n1"))) == ["t1"]
    assert [event.action for event in events_of(watcher)] == [Action.CREATE]
    assert (await update) is store.view().get(api.Task, "t1")
    store.check_invariants()


async def test_transactions_run_on_those_in_flight_and_resume_in_order() -> None:
    store, proposer = replicated()
    first = start(store, lambda tx: tx.create(task("t1")))
    await settle()
    second = start(store, lambda tx: tx.update(changed(tx.get(api.Task, "t1"), node_id="n1")))
    third = start(store, lambda tx: [stored.node_id for stored in tx.find(api.Task)])
    await settle()
    assert proposer.waiting == 2
    assert await third == ["n1"]
    store.check_invariants()
    proposer.commit()
    await settle()
    assert (first.done(), second.done()) == (True, False)
    assert [stored.node_id for stored in store.view().find(api.Task)] == [""]
    proposer.commit()
    stored = await second
    assert stored.meta.version.index > (await first).meta.version.index
    store.check_invariants()


async def test_an_empty_transaction_succeeds_on_any_manager_without_a_proposal() -> None:
    store, proposer = replicated()
    proposer.lose_leadership()
    watcher = store.watch()
    assert await store.update(lambda tx: tx.count(api.Task)) == 0
    assert proposer.waiting == 0
    assert watcher.next_nowait() is None


async def test_a_change_without_leadership_is_refused_and_undone() -> None:
    store, proposer = replicated()
    proposer.lose_leadership()
    with pytest.raises(LeadershipLostError, match="node lost leader status"):
        await store.update(lambda tx: tx.create(task("t1")))
    store.check_invariants()
    proposer.gain_leadership()
    update = start(store, lambda tx: tx.create(task("t1")))
    await settle()
    proposer.commit()
    await update


async def test_loss_of_leadership_fails_all_in_flight_and_drops_exactly_their_effect() -> None:
    store, proposer = replicated()
    kept = start(store, lambda tx: tx.create(task("t1", node_id="n1")))
    await settle()
    proposer.commit()
    await kept
    lost = [
        start(store, lambda tx: tx.create(task("t2", node_id="n1"))),
        start(store, lambda tx: tx.update(changed(tx.get(api.Task, "t2"), node_id="n2"))),
        start(store, lambda tx: tx.delete(api.Task, "t1")),
        start(store, lambda tx: tx.create(task("t1", node_id="n3"))),
    ]
    await settle()
    watcher = store.watch()
    proposer.lose_leadership()
    for outcome in await asyncio.gather(*lost, return_exceptions=True):
        assert isinstance(outcome, LeadershipLostError)
    store.check_invariants()
    assert watcher.next_nowait() is None
    assert await store.update(lambda tx: ids(tx.find(api.Task, by.node("n1")))) == ["t1"]


async def test_an_entry_that_failed_here_and_commits_later_is_applied_once_from_its_content() -> None:
    store, proposer = replicated()
    update = start(store, lambda tx: tx.create(task("t1", node_id="n1")))
    await settle()
    (entry,) = proposer.lose_leadership()
    with pytest.raises(LeadershipLostError):
        await update
    watcher = store.watch()
    index = proposer.append_foreign(entry)
    commit = watcher.next_nowait()
    assert commit is not None
    assert (commit.version, [event.action for event in commit.events]) == (index, [Action.CREATE])
    assert ids(store.view().find(api.Task, by.node("n1"))) == ["t1"]
    store.check_invariants()


async def test_a_follower_ends_up_with_the_same_objects_and_events_as_the_leader() -> None:
    leader, proposer = replicated(automatic=True)
    on_leader = leader.watch()
    await leader.update(lambda tx: (tx.create(new(api.Service, "s")), tx.create(task("t1"))))
    await leader.update(lambda tx: tx.update(labelled(tx.find(api.Service)[0], "x")))
    await leader.update(lambda tx: tx.delete(api.Task, "t1"))
    follower = Store(VirtualClock())
    on_follower = follower.watch()
    for index, data in proposer.log:
        follower.apply(index, data)
    assert follower.view().find(api.Service) == leader.view().find(api.Service)
    assert follower.version == leader.version
    assert events_of(on_follower) == events_of(on_leader)
    follower.check_invariants()


async def test_a_cancelled_caller_does_not_take_back_the_proposal() -> None:
    store, proposer = replicated()
    update = start(store, lambda tx: tx.create(task("t1")))
    await settle()
    update.cancel()
    await settle()
    proposer.commit()
    assert ids(store.view().find(api.Task)) == ["t1"]


async def test_who_waits_for_a_commit_goes_on_before_those_who_watch() -> None:
    store, proposer = replicated()
    went_on: list[str] = []

    async def watch() -> None:
        await anext(store.watch())
        went_on.append("watcher")

    async def write() -> None:
        await store.update(lambda tx: tx.create(task("t1")))
        went_on.append("author")

    both = asyncio.gather(watch(), write())
    await settle()
    proposer.commit()
    await both
    assert went_on == ["author", "watcher"]


async def test_a_transaction_over_the_limit_is_refused_and_does_not_disturb_the_next() -> None:
    store, _ = replicated(automatic=True)
    large = new(api.Config, "big")
    large.spec.data = bytes(MAX_PROPOSAL_BYTES)
    small = start(store, lambda tx: tx.create(task("t1")))
    await asyncio.sleep(0)
    with pytest.raises(ProposalTooLargeError, match="too large"):
        await store.update(lambda tx: tx.create(large))
    await small
    await store.update(lambda tx: tx.create(task("t2")))
    assert store.view().count(api.Config) == 0
    store.check_invariants()


async def test_a_stopping_node_refuses() -> None:
    store, proposer = replicated()
    proposer.stop()
    assert await store.update(lambda tx: tx.count(api.Task)) == 0
    with pytest.raises(StoppedError):
        await store.update(lambda tx: tx.create(task("t1")))
    store.check_invariants()


async def test_of_many_updates_from_one_version_exactly_one_wins() -> None:
    store, _ = replicated(automatic=True)
    stored = await store.update(lambda tx: tx.create(new(api.Service, "s")))
    racing = [start(store, lambda tx, n=n: tx.update(labelled(stored, str(n)))) for n in range(12)]
    outcomes = await asyncio.gather(*racing, return_exceptions=True)
    assert sum(isinstance(outcome, SequenceError) for outcome in outcomes) == 11


@pytest.mark.parametrize(
    ("action", "stored"),
    [
        (Action.CREATE, new(api.Service, "s")),
        (Action.CREATE, new(api.Service, "other", "NAME-s")),
        (Action.UPDATE, new(api.Service, "unknown")),
        (Action.DELETE, new(api.Service, "unknown")),
    ],
)
async def test_an_entry_that_does_not_fit_the_tables_is_a_divergence(action: Action, stored: Any) -> None:
    store, proposer = replicated(automatic=True)
    await store.update(lambda tx: tx.create(new(api.Service, "s")))
    request = api.InternalRaftRequest(id=1)
    request.action.add(action=action.value, service=stored)
    with pytest.raises(DivergenceError):
        proposer.append_foreign(request.SerializeToString())


async def test_a_foreign_entry_between_those_in_flight_is_a_divergence() -> None:
    store, proposer = replicated()
    update = start(store, lambda tx: tx.create(task("t1")))
    await settle()
    with pytest.raises(DivergenceError):
        store.apply(9, api.InternalRaftRequest(id=1).SerializeToString())
    proposer.commit()
    await update


async def test_a_transaction_cannot_be_started_inside_another() -> None:
    store, _ = replicated(automatic=True)
    batch = store.batch()
    with pytest.raises(RuntimeError, match="inside another"):
        await store.update(lambda tx: batch.update(lambda inner: inner.create(task("t1"))))
    store.check_invariants()
    await store.update(lambda tx: tx.create(task("t1")))


async def test_a_snapshot_is_pinned_when_taken_and_restores_the_committed_state() -> None:
    store, proposer = replicated()
    for kind in SCHEMAS:
        done = start(store, lambda tx, kind=kind: tx.create(new(kind, "a", "kind")))
        await settle()
        proposer.commit()
        await done
    pending = start(store, lambda tx: tx.create(new(api.Service, "b", "pending")))
    await settle()
    serialise = store.snapshot()
    proposer.commit()
    await pending
    other = Store(VirtualClock())
    other.prepare(await asyncio.to_thread(serialise))()
    for kind in SCHEMAS:
        assert ids(other.view().find(kind)) == ["a"]
        assert other.view().get(kind, "a") == store.view().get(kind, "a")
    other.check_invariants()


@pytest.mark.parametrize("kind", [kind for kind in SCHEMAS if kind is not api.Extension])
async def test_a_restore_announces_the_differences_in_one_commit_deletions_first(kind: Any) -> None:
    source, target = Store(VirtualClock()), Store(VirtualClock())
    for store in (source, target):
        await store.update(lambda tx: tx.create(new(api.Extension, "ext", "kind")))
    for id in ("same", "updated", "takes-over", "added"):
        await source.update(lambda tx, id=id: tx.create(new(kind, id)))  # type: ignore[misc]
    data = source.snapshot()()
    target.prepare(data)()
    for id in ("takes-over", "added"):
        await target.update(lambda tx, id=id: tx.delete(kind, id))  # type: ignore[misc]
    await target.update(lambda tx: tx.update(labelled(tx.find(kind, by.id_prefix("updated"))[0], "x")))
    await target.update(lambda tx: tx.create(new(kind, "surplus", "name-takes-over")))
    watcher = target.watch()
    target.prepare(data)()
    commit = watcher.next_nowait()
    assert commit is not None
    assert [(event.action, event.object.id) for event in commit.events] == [
        (Action.DELETE, "surplus"),
        (Action.CREATE, "added"),
        (Action.CREATE, "takes-over"),
        (Action.UPDATE, "updated"),
    ]
    assert watcher.next_nowait() is None
    assert ids(target.view().find(kind, by.name("name-takes-over"))) == ["takes-over"]
    assert target.view().find(kind) == source.view().find(kind)
    target.check_invariants()


@pytest.mark.real_time
async def test_a_snapshot_is_read_in_a_thread_and_shows_nothing_before_it_is_put_in_place() -> None:
    source, target = Store(VirtualClock()), Store(VirtualClock())
    for n in range(2000):
        await source.update(lambda tx, n=n: tx.create(task(f"new-{n:04}", node_id=f"n{n % 7}")))  # type: ignore[misc]
    for n in range(500):
        await target.update(lambda tx, n=n: tx.create(task(f"old-{n:04}")))  # type: ignore[misc]
    before = ids(target.view().find(api.Task))
    watcher = target.watch()
    preparing = asyncio.ensure_future(asyncio.to_thread(target.prepare, source.snapshot()()))
    while not preparing.done():
        assert ids(target.view().find(api.Task)) == before
        assert watcher.next_nowait() is None
        target.check_invariants()
        await asyncio.sleep(0)
    replace = await preparing
    assert ids(target.view().find(api.Task)) == before
    replace()
    target.check_invariants()
    assert target.view().find(api.Task) == source.view().find(api.Task)
    assert ids(target.view().find(api.Task, by.node("n3"))) == ids(
        source.view().find(api.Task, by.node("n3"))
    )
    assert target.version == max(stored.meta.version.index for stored in target.view().find(api.Task))
    commit = watcher.next_nowait()
    assert commit is not None
    assert len(commit.events) == 2500
    await target.update(lambda tx: tx.delete(api.Task, "new-0001"))
    target.check_invariants()


async def test_a_broken_snapshot_or_entry_is_a_divergence() -> None:
    store = Store(VirtualClock())
    with pytest.raises(DivergenceError):
        store.prepare(b"\xff")
    with pytest.raises(DivergenceError):
        store.apply(1, b"\xff")
    unknown = api.InternalRaftRequest(id=1, action=[api.StoreAction(service=api.Service(id="s"))])
    with pytest.raises(DivergenceError):
        store.apply(1, unknown.SerializeToString())


async def test_view_and_watch_leaves_no_gap_and_no_watcher_if_the_view_fails() -> None:
    store, proposer = replicated()
    pending = start(store, lambda tx: tx.create(task("t1")))
    await settle()
    seen, watcher = store.view_and_watch(lambda reader: reader.find(api.Task), Watch(api.Task))
    proposer.commit()
    await pending
    assert (seen, ids(event.object for event in events_of(watcher))) == ([], ["t1"])

    def failing(_: object) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        store.view_and_watch(failing, Watch(api.Task))
    assert len(store._hub) == 1


async def test_a_watch_from_a_version_replays_the_later_entries_and_goes_on_live() -> None:
    store, _ = replicated(automatic=True)
    for n in range(4):
        await store.update(lambda tx, n=n: tx.create(task(f"t{n}")))  # type: ignore[misc]
    second = store.view().get(api.Task, "t1")
    assert second is not None
    watcher = store.watch_from(second.meta.version.index, Watch(api.Task))
    everything = store.watch_from(0)
    await store.update(lambda tx: tx.create(new(api.Node, "n")))
    await store.update(lambda tx: tx.create(task("t4")))
    replayed = events_of(watcher)
    assert ids(event.object for event in replayed) == ["t1", "t2", "t3", "t4"]
    assert ids(event.object for event in events_of(everything)) == ["t0", "t1", "t2", "t3", "n", "t4"]


async def test_replayed_commits_carry_the_index_of_their_entry_and_no_predecessor() -> None:
    store, proposer = replicated(automatic=True)
    await store.update(lambda tx: tx.create(task("t1")))
    await store.update(lambda tx: tx.update(changed(tx.get(api.Task, "t1"), node_id="n")))
    watcher = store.watch_from(0)
    commits = [watcher.next_nowait(), watcher.next_nowait()]
    assert [commit and commit.version for commit in commits] == [index for index, _ in proposer.log]
    assert commits[1] is not None
    assert commits[1].events == (Event(Action.UPDATE, store.view().find(api.Task)[0], None),)


async def test_a_watch_from_the_future_or_behind_the_compacted_log_is_refused() -> None:
    store, proposer = replicated(automatic=True)
    for n in range(3):
        await store.update(lambda tx, n=n: tx.create(task(f"t{n}")))  # type: ignore[misc]
    with pytest.raises(VersionAheadError):
        store.watch_from(store.version + 1)
    proposer.compact(store.version - 1)
    with pytest.raises(CompactedError):
        store.watch_from(store.version - 2)
    assert ids(event.object for event in events_of(store.watch_from(store.version - 1))) == ["t2"]
    assert events_of(store.watch_from(store.version)) == []
    assert len(store._hub) == 2


async def test_a_watch_from_behind_the_newest_object_of_a_snapshot_misses_no_deletion() -> None:
    store, proposer = replicated(automatic=True)
    for n in range(2):
        await store.update(lambda tx, n=n: tx.create(task(f"t{n}")))  # type: ignore[misc]
    seen = store.version
    await store.update(lambda tx: tx.delete(api.Task, "t1"))
    store.prepare(store.snapshot()())()
    fresh = Store(VirtualClock(), proposer)
    fresh.prepare(store.snapshot()())()
    watcher = fresh.watch_from(seen)
    assert [event.action for event in events_of(watcher)] == [Action.DELETE]


async def test_without_a_log_only_the_present_can_be_watched() -> None:
    store = Store(VirtualClock())
    await store.update(lambda tx: tx.create(task("t1")))
    with pytest.raises(CompactedError):
        store.watch_from(0)
    assert store.watch_from(store.version).next_nowait() is None


async def test_closing_the_store_ends_all_watchers() -> None:
    store = Store(VirtualClock())
    watcher = store.watch()
    reading = asyncio.ensure_future(watcher.__anext__())
    await settle()
    store.close()
    with pytest.raises(StopAsyncIteration):
        await reading
    assert len(store._hub) == 0
