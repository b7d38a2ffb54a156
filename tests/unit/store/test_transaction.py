"""Transactions: what they refuse, stamp and undo (contract/raft-store-manager.md, 2 and 3)."""

import asyncio
import datetime
from typing import Any

import pytest

from swarmkit.api import messages as api
from swarmkit.clock import timestamp
from swarmkit.store import (
    ExistsError,
    InUseError,
    InvalidObjectError,
    NameConflictError,
    NotExistError,
    SequenceError,
    Store,
    Tx,
    by,
)
from swarmkit.store.objects import SCHEMAS
from tests.fakes.loop import EPOCH, VirtualClock
from tests.unit.store.builders import changed, ids, labelled, new, task

KINDS = list(SCHEMAS)
UNIQUE = [kind for kind, schema in SCHEMAS.items() if schema.unique_names]


@pytest.fixture
async def store() -> Store:
    store = Store(VirtualClock())
    await store.update(lambda tx: tx.create(new(api.Extension, "ext", "kind")))
    return store


@pytest.mark.parametrize("kind", KINDS)
async def test_a_taken_id_is_refused(store: Store, kind: Any) -> None:
    await store.update(lambda tx: tx.create(new(kind, "a", "one")))
    with pytest.raises(ExistsError, match="object already exists"):
        await store.update(lambda tx: tx.create(new(kind, "a", "two")))
    store.check_invariants()


@pytest.mark.parametrize("kind", UNIQUE)
async def test_a_taken_name_is_refused_in_any_case_and_before_a_taken_id(store: Store, kind: Any) -> None:
    await store.update(lambda tx: tx.create(new(kind, "a", "one")))
    await store.update(lambda tx: tx.create(new(kind, "b", "two")))
    for id in ("a", "c"):
        with pytest.raises(NameConflictError, match="name conflicts with an existing object"):
            await store.update(lambda tx, id=id: tx.create(new(kind, id, "ONE")))  # type: ignore[misc]
    if kind is not api.Extension:
        second = new(kind, "b", "One")
        second.meta.CopyFrom(store.view().find(kind, by.id_prefix("b"))[0].meta)
        with pytest.raises(NameConflictError):
            await store.update(lambda tx: tx.update(second))


async def test_empty_names_conflict_too(store: Store) -> None:
    await store.update(lambda tx: tx.create(api.Service(id="a")))
    with pytest.raises(NameConflictError):
        await store.update(lambda tx: tx.create(api.Service(id="b")))


@pytest.mark.parametrize("kind", [api.Node, api.Task])
async def test_nodes_and_tasks_share_names(store: Store, kind: Any) -> None:
    await store.update(lambda tx: (tx.create(new(kind, "a", "x")), tx.create(new(kind, "b", "x"))))
    assert ids(store.view().find(kind, by.name("x"))) == ["a", "b"]


@pytest.mark.parametrize("kind", KINDS)
async def test_updating_or_deleting_an_unknown_id_is_refused(store: Store, kind: Any) -> None:
    with pytest.raises(NotExistError, match="object does not exist"):
        await store.update(lambda tx: tx.update(new(kind, "nobody")))
    with pytest.raises(NotExistError):
        await store.update(lambda tx: tx.delete(kind, "nobody"))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not api.Extension])
async def test_a_name_stays_with_its_owner_and_goes_free_with_it(store: Store, kind: Any) -> None:
    stored = await store.update(lambda tx: tx.create(new(kind, "a", "one")))
    stored = await store.update(lambda tx: tx.update(labelled(stored, "x")))
    await store.update(lambda tx: tx.delete(kind, "a"))
    await store.update(lambda tx: tx.create(new(kind, "b", "one")))
    store.check_invariants()


async def test_an_update_of_a_stale_copy_is_out_of_sequence(store: Store) -> None:
    first = await store.update(lambda tx: tx.create(new(api.Service, "a")))
    second = await store.update(lambda tx: tx.update(labelled(first, "x")))
    with pytest.raises(SequenceError, match="update out of sequence"):
        await store.update(lambda tx: tx.update(labelled(first, "y")))
    ahead = labelled(second, "z")
    ahead.meta.version.index += 1
    with pytest.raises(SequenceError):
        await store.update(lambda tx: tx.update(ahead))
    await store.update(lambda tx: tx.update(labelled(second, "y")))
    stored = store.view().get(api.Service, "a")
    assert stored is not None
    assert stored.spec.annotations.labels["label"] == "y"


async def test_one_transaction_updates_an_object_as_often_as_it_likes(store: Store) -> None:
    def callback(tx: Tx) -> api.Service:
        stored: api.Service = tx.create(new(api.Service, "a"))
        stored = tx.update(labelled(stored, "1"))
        stored = tx.update(labelled(stored, "2"))
        return stored

    stored = await store.update(callback)
    assert store.view().get(api.Service, "a") is stored
    assert stored.spec.annotations.labels["label"] == "2"


async def test_versions_rise_and_stay_below_the_index_of_their_own_entry(store: Store) -> None:
    with store.watch() as watcher:
        stored = await store.update(lambda tx: tx.create(new(api.Service, "a")))
        versions = [stored.meta.version.index]
        for n in range(3):
            stored = await store.update(lambda tx, n=n, s=stored: tx.update(labelled(s, str(n))))  # type: ignore[misc]
            versions.append(stored.meta.version.index)
        commits = [watcher.next_nowait() for _ in range(4)]
    assert versions == sorted(set(versions))
    assert all(c is not None and v < c.version for v, c in zip(versions, commits, strict=True))


async def test_created_at_stays_and_updated_at_moves(store: Store) -> None:
    stored = await store.update(lambda tx: tx.create(new(api.Service, "a")))
    assert stored.meta.created_at == stored.meta.updated_at == timestamp(EPOCH)
    await asyncio.sleep(7)
    forged = labelled(stored, "x")
    forged.meta.created_at.seconds = 1
    forged.meta.updated_at.nanos = 5
    updated = await store.update(lambda tx: tx.update(forged))
    assert updated.meta.created_at == timestamp(EPOCH)
    assert updated.meta.updated_at == timestamp(EPOCH + datetime.timedelta(seconds=7))


async def test_created_at_is_kept_if_it_is_given(store: Store) -> None:
    given = new(api.Service, "a")
    given.meta.created_at.seconds = 5
    stored = await store.update(lambda tx: tx.create(given))
    assert stored.meta.created_at.seconds == 5


async def test_the_callers_object_is_left_alone(store: Store) -> None:
    given = new(api.Service, "a")
    before = changed(given)
    stored = await store.update(lambda tx: tx.create(given))
    assert given == before
    given.spec.annotations.name = "other"
    assert stored.spec.annotations.name == "name-a"
    assert store.view().get(api.Service, "a") is stored


async def test_a_callback_that_fails_changes_nothing(store: Store) -> None:
    kept = await store.update(lambda tx: tx.create(task("t1", node_id="n1")))
    watcher = store.watch()

    def callback(tx: Tx) -> None:
        tx.create(task("t2", node_id="n1"))
        tx.update(changed(kept, node_id="n2"))
        tx.delete(api.Task, "t1")
        tx.create(task("t1", node_id="n3"))
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await store.update(callback)
    store.check_invariants()
    assert watcher.next_nowait() is None
    assert store.view().find(api.Task) == [kept]
    await store.update(lambda tx: tx.create(task("t2")))


async def test_own_changes_are_visible_inside_and_nowhere_else(store: Store) -> None:
    def callback(tx: Tx) -> tuple[int, int]:
        tx.create(task("t1", node_id="n1"))
        return len(tx.find(api.Task, by.node("n1"))), len(store.view().find(api.Task))

    assert await store.update(callback) == (1, 0)


async def test_a_transaction_that_has_ended_takes_no_more_changes(store: Store) -> None:
    kept = await store.update(lambda tx: tx)
    with pytest.raises(RuntimeError, match="has ended"):
        kept.create(task("t1"))
    with pytest.raises(RuntimeError, match="has ended"):
        kept.delete(api.Task, "t1")


@pytest.mark.parametrize("name", ["node", "Task", "VOLUME"])
async def test_an_extension_cannot_have_the_name_of_a_table(store: Store, name: str) -> None:
    with pytest.raises(InvalidObjectError):
        await store.update(lambda tx: tx.create(new(api.Extension, "e", name)))


async def test_an_extension_is_never_updated(store: Store) -> None:
    stored = store.view().find(api.Extension)[0]
    with pytest.raises(InvalidObjectError):
        await store.update(lambda tx: tx.update(labelled(stored, "x")))


async def test_an_extension_stays_while_a_resource_of_its_kind_exists(store: Store) -> None:
    resource = new(api.Resource, "r")
    resource.kind = "KIND"
    await store.update(lambda tx: tx.create(resource))
    with pytest.raises(InUseError):
        await store.update(lambda tx: tx.delete(api.Extension, "ext"))
    await store.update(lambda tx: tx.delete(api.Resource, "r"))
    await store.update(lambda tx: tx.delete(api.Extension, "ext"))
    assert store.view().count(api.Extension) == 0


async def test_a_resource_needs_its_kind_registered_at_create_and_update(store: Store) -> None:
    stranger = new(api.Resource, "r")
    stranger.kind = "unknown"
    with pytest.raises(InvalidObjectError, match="unregistered"):
        await store.update(lambda tx: tx.create(stranger))
    stored = await store.update(lambda tx: tx.create(new(api.Resource, "r")))
    with pytest.raises(InvalidObjectError, match="unregistered"):
        await store.update(lambda tx: tx.update(changed(stored, kind="unknown")))


async def test_a_volume_without_a_driver_is_an_invalid_object(store: Store) -> None:
    with pytest.raises(InvalidObjectError, match="driver"):
        await store.update(lambda tx: tx.create(api.Volume(id="v")))
