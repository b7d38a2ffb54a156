"""Batches: how they are cut, what a failure does (contract/raft-store-manager.md, 5)."""

import asyncio

import pytest

from swarmkit.api import messages as api
from swarmkit.store import (
    Batch,
    LeadershipLostError,
    ProposalTooLargeError,
    Store,
    Tx,
    Watcher,
)
from tests.fakes.loop import VirtualClock
from tests.fakes.proposer import FakeProposer
from tests.unit.store.builders import changed, ids, new, task


def replicated(automatic: bool = True) -> tuple[Store, FakeProposer]:
    store = Store(VirtualClock())
    proposer = FakeProposer(store, automatic=automatic)
    store.attach(proposer)
    return store, proposer


def create(batch: Batch, id: str) -> api.Task:
    return batch.update(lambda tx: tx.create(task(id)))


def sizes(watcher: Watcher) -> list[int]:
    found = []
    while (commit := watcher.next_nowait()) is not None:
        found.append(len(commit.events))
    return found


async def test_405_changes_are_cut_into_parts_of_200() -> None:
    store, proposer = replicated()
    watcher = store.watch()
    async with store.batch() as batch:
        for n in range(405):
            create(batch, f"t{n:03}")
    assert sizes(watcher) == [200, 200, 5]
    assert len(proposer.log) == 3
    store.check_invariants()


async def test_parts_go_out_without_waiting_and_the_end_waits_for_all() -> None:
    store, proposer = replicated(automatic=False)

    async def run() -> None:
        async with store.batch() as batch:
            for n in range(401):
                create(batch, f"t{n:03}")
            assert proposer.waiting == 2

    running = asyncio.ensure_future(run())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert proposer.waiting == 3
    proposer.commit(2)
    await asyncio.sleep(0)
    assert not running.done()
    proposer.commit()
    await running


async def test_large_changes_are_cut_at_three_quarters_of_the_limit() -> None:
    store, _ = replicated()
    watcher = store.watch()
    async with store.batch() as batch:
        for n in range(7):
            config = new(api.Config, f"c{n}")
            config.spec.data = bytes(400_000)
            batch.update(lambda tx, config=config: tx.create(config))  # type: ignore[misc]
    assert sizes(watcher) == [3, 3, 1]


async def test_the_changes_of_one_inner_update_stay_together() -> None:
    store, _ = replicated()
    watcher = store.watch()

    def many(tx: Tx) -> None:
        for n in range(250):
            tx.create(task(f"many{n:03}"))

    async with store.batch() as batch:
        create(batch, "one")
        batch.update(many)
        create(batch, "two")
    assert sizes(watcher) == [251, 1]


async def test_a_batch_that_raises_drops_the_open_part_and_keeps_what_was_sent() -> None:
    store, _ = replicated()
    watcher = store.watch()

    async def failing() -> None:
        async with store.batch() as batch:
            for n in range(209):
                create(batch, f"t{n:03}")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await failing()
    store.check_invariants()
    await asyncio.sleep(0)
    assert sizes(watcher) == [200]
    assert await store.update(lambda tx: tx.count(api.Task)) == 200


async def test_an_inner_update_is_all_or_nothing_and_the_batch_goes_on() -> None:
    store, _ = replicated()

    def failing(tx: Tx) -> None:
        tx.create(task("half"))
        raise ValueError("no")

    async with store.batch() as batch:
        create(batch, "before")
        with pytest.raises(ValueError, match="no"):
            batch.update(failing)
        create(batch, "after")
    assert ids(store.view().find(api.Task)) == ["after", "before"]


async def test_a_part_that_fails_ends_the_batch_and_nothing_more_is_proposed() -> None:
    store, proposer = replicated(automatic=False)

    async def run() -> None:
        async with store.batch() as batch:
            for n in range(200):
                create(batch, f"t{n:03}")
            proposer.lose_leadership()
            proposer.gain_leadership()
            await asyncio.sleep(0)
            with pytest.raises(LeadershipLostError):
                create(batch, "later")
            with pytest.raises(LeadershipLostError):
                create(batch, "still later")

    with pytest.raises(LeadershipLostError):
        await run()
    assert proposer.waiting == 0
    assert await store.update(lambda tx: tx.count(api.Task)) == 0


async def test_loss_of_leadership_drops_the_open_part_too() -> None:
    store, proposer = replicated(automatic=False)

    async def run() -> None:
        async with store.batch() as batch:
            create(batch, "t1")
            proposer.lose_leadership()
            proposer.gain_leadership()

    with pytest.raises(LeadershipLostError):
        await run()
    assert proposer.waiting == 0
    store.check_invariants()


async def test_a_batch_without_leadership_fails_at_its_end() -> None:
    store, proposer = replicated()
    proposer.lose_leadership()

    async def run() -> None:
        async with store.batch() as batch:
            create(batch, "t1")

    with pytest.raises(LeadershipLostError):
        await run()
    store.check_invariants()


async def test_a_part_over_the_hard_limit_fails_the_batch() -> None:
    store, _ = replicated()
    config = new(api.Config, "c")
    config.spec.data = bytes(1_600_000)

    async def run() -> None:
        async with store.batch() as batch:
            batch.update(lambda tx: tx.create(config))

    with pytest.raises(ProposalTooLargeError):
        await run()
    store.check_invariants()


async def test_another_transaction_sees_the_open_part_and_is_ordered_behind_it() -> None:
    store, _ = replicated()
    watcher = store.watch()
    async with store.batch() as batch, store.batch() as other:
        first = create(batch, "t1")
        second = await store.update(lambda tx: tx.update(changed(tx.get(api.Task, "t1"), node_id="n1")))
        third = batch.update(lambda tx: tx.update(changed(tx.get(api.Task, "t1"), node_id="n2")))
        fourth = other.update(lambda tx: tx.update(changed(tx.get(api.Task, "t1"), node_id="n3")))
        fifth = batch.update(lambda tx: tx.update(changed(tx.get(api.Task, "t1"), node_id="n4")))
        store.check_invariants()
    versions = [stored.meta.version.index for stored in (first, second, third, fourth, fifth)]
    assert versions == sorted(set(versions))
    assert sizes(watcher) == [1, 1, 1, 1, 1]
    assert [stored.node_id for stored in store.view().find(api.Task)] == ["n4"]


async def test_an_empty_batch_proposes_nothing() -> None:
    store, proposer = replicated()
    proposer.lose_leadership()
    async with store.batch() as batch:
        assert batch.update(lambda tx: tx.count(api.Task)) == 0
    assert proposer.log == []


async def test_a_batch_that_has_ended_refuses() -> None:
    store, _ = replicated()
    async with store.batch() as batch:
        pass
    with pytest.raises(RuntimeError, match="ended"):
        create(batch, "t1")


async def test_a_batch_on_a_store_without_replication_commits_in_parts() -> None:
    store = Store(VirtualClock())
    watcher = store.watch()
    async with store.batch() as batch:
        for n in range(201):
            create(batch, f"t{n}")
    assert sizes(watcher) == [200, 1]
