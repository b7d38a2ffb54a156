"""Tables: order, exact and prefix search, and the upkeep of indexes (contract/raft-store-manager.md, 1)."""

from typing import Any

import pytest

from swarmkit.api import messages as api
from swarmkit.api.naming import task_name
from swarmkit.store import InvalidSelectorError, Store, by
from swarmkit.store.objects import SCHEMAS, StoreObject
from swarmkit.store.table import SortedKeys, Table
from tests.fakes.loop import VirtualClock
from tests.unit.store.builders import changed, ids, labelled, new, task

KINDS = list(SCHEMAS)
EXTENSION = new(api.Extension, "ext", "kind")


async def store_with(*objects: StoreObject) -> Store:
    store = Store(VirtualClock())
    if any(isinstance(stored, api.Resource) for stored in objects):
        await store.update(lambda tx: tx.create(EXTENSION))
    for stored in objects:
        await store.update(lambda tx, stored=stored: tx.create(stored))  # type: ignore[misc]
    store.check_invariants()
    return store


@pytest.mark.parametrize("kind", KINDS)
async def test_an_empty_table_finds_nothing(kind: Any) -> None:
    reader = (await store_with()).view()
    assert reader.find(kind) == []
    assert reader.find(kind, by.name("x"), by.id_prefix("")) == []
    assert reader.count(kind) == 0
    assert reader.get(kind, "x") is None


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not api.Extension])
async def test_objects_are_found_by_id_name_and_prefix_in_any_case(kind: Any) -> None:
    store = await store_with(*(new(kind, f"id{n}", f"Name{n}") for n in (3, 1, 2)))
    reader = store.view()
    assert ids(reader.find(kind)) == ["id1", "id2", "id3"]
    assert ids(reader.find(kind, by.name("nAME2"))) == ["id2"]
    assert ids(reader.find(kind, by.name_prefix("NA"))) == ["id1", "id2", "id3"]
    assert ids(reader.find(kind, by.id_prefix("id"))) == ["id1", "id2", "id3"]
    assert ids(reader.find(kind, by.id_prefix("ID"))) == []
    assert ids(reader.find(kind, by.name("name3"), by.id_prefix("id3"), by.name("name1"))) == ["id3", "id1"]
    assert ids(reader.find(kind, by.any_of())) == []
    assert ids(reader.find(kind, by.any_of(by.all()))) == ["id1", "id2", "id3"]
    assert reader.count(kind, by.name("name1"), by.name("name2")) == 2


async def test_an_update_moves_an_object_between_index_values_and_a_delete_clears_all() -> None:
    store = await store_with(task("t1", node_id="n1", desired_state=api.TaskState.RUNNING))
    stored = store.view().find(api.Task)[0]
    moved = changed(stored, node_id="n2", desired_state=api.TaskState.SHUTDOWN)
    await store.update(lambda tx: tx.update(moved))
    store.check_invariants()
    assert store.view().find(api.Task, by.node("n1"), by.desired_state(api.TaskState.RUNNING)) == []
    assert ids(store.view().find(api.Task, by.node("n2"))) == ["t1"]
    await store.update(lambda tx: tx.delete(api.Task, "t1"))
    store.check_invariants()
    assert store.view().find(api.Task, by.node("n2"), by.id_prefix("t")) == []


async def test_tasks_are_found_by_service_node_slot_states_runtime_and_references() -> None:
    container = api.ContainerSpec(
        secrets=[api.SecretReference(secret_id="sec")], configs=[api.ConfigReference(config_id="cfg")]
    )
    spec = api.TaskSpec(container=container, networks=[api.NetworkAttachmentConfig(target="net")])
    one = task("t1", service_id="s1", node_id="n1", slot=1, spec=spec, desired_state=api.TaskState.RUNNING)
    two = task("t2", service_id="s1", slot=2, volumes=[api.VolumeAttachment(id="vol")])
    two.status.state = api.TaskState.FAILED
    two.spec.generic.kind = "Wasm"
    reader = (await store_with(one, two)).view()
    for selector, expected in [
        (by.service("s1"), ["t1", "t2"]),
        (by.service("S1"), []),
        (by.node("n1"), ["t1"]),
        (by.node(""), ["t2"]),
        (by.slot("s1", 2), ["t2"]),
        (by.slot("s2", 2), []),
        (by.desired_state(api.TaskState.RUNNING), ["t1"]),
        (by.task_state(api.TaskState.FAILED), ["t2"]),
        (by.runtime("container"), ["t1"]),
        (by.runtime("wasm"), ["t2"]),
        (by.network("net"), ["t1"]),
        (by.secret("sec"), ["t1"]),
        (by.config("cfg"), ["t1"]),
        (by.volume("vol"), ["t2"]),
    ]:
        assert ids(reader.find(api.Task, selector)) == expected, selector


async def test_the_computed_task_name_is_the_one_to_find_by() -> None:
    named = task("t1", slot=4)
    on_node = task("t2", node_id="Node")
    own = task("t3", annotations=api.Annotations(name="own"))
    assert [task_name(each) for each in (named, on_node, own)] == ["s.4.t1", "s.Node.t2", "own"]
    reader = (await store_with(named, on_node, own)).view()
    assert ids(reader.find(api.Task, by.name("S.4.T1"))) == ["t1"]
    assert ids(reader.find(api.Task, by.name("s.node.t2"))) == ["t2"]
    assert ids(reader.find(api.Task, by.name_prefix("s."))) == ["t1", "t2"]


async def test_service_level_networks_count_only_where_the_task_has_none() -> None:
    def attached(target: str) -> list[api.NetworkAttachmentConfig]:
        return [api.NetworkAttachmentConfig(target=target)]

    old = new(api.Service, "old")
    old.spec.networks.extend(attached("legacy"))
    both = changed(old, id="both")
    both.spec.annotations.name = "both"
    both.spec.task.networks.extend(attached("net"))
    reader = (await store_with(old, both)).view()
    assert ids(reader.find(api.Service, by.network("legacy"))) == ["old"]
    assert ids(reader.find(api.Service, by.network("net"))) == ["both"]


async def test_nodes_share_hostnames_and_are_unnamed_without_a_description() -> None:
    bare = api.Node(id="n3", role=api.NodeRole.MANAGER)
    bare.spec.membership = api.NodeSpec.ACCEPTED
    reader = (await store_with(new(api.Node, "n2", "h"), new(api.Node, "n1", "H"), bare)).view()
    assert ids(reader.find(api.Node, by.name("h"))) == ["n1", "n2"]
    assert reader.find(api.Node, by.name("")) == []
    assert ids(reader.find(api.Node, by.name_prefix(""))) == ["n1", "n2"]
    assert ids(reader.find(api.Node, by.role(api.NodeRole.MANAGER))) == ["n3"]
    assert ids(reader.find(api.Node, by.membership(api.NodeSpec.PENDING))) == ["n1", "n2"]


async def test_custom_entries_are_found_exactly_and_by_the_beginning_of_their_value() -> None:
    one, two = new(api.Node, "n1"), new(api.Node, "n2")
    one.spec.annotations.indices.add(key="rack", val="a1")
    two.spec.annotations.indices.add(key="rack", val="a2")
    two.spec.annotations.indices.add(key="rack", val="b1")
    two.spec.annotations.indices.add(key="rack", val="b1")
    reader = (await store_with(one, two)).view()
    assert ids(reader.find(api.Node, by.custom("rack", "b1"))) == ["n2"]
    assert ids(reader.find(api.Node, by.custom_prefix("rack", "a"))) == ["n1", "n2"]
    assert reader.find(api.Node, by.custom("rack", "a")) == []
    assert reader.find(api.Node, by.custom("room", "a1")) == []


async def test_volumes_are_found_by_group_also_the_empty_one_and_driver() -> None:
    grouped = new(api.Volume, "v1")
    grouped.spec.group = "g"
    reader = (await store_with(grouped, new(api.Volume, "v2"))).view()
    assert ids(reader.find(api.Volume, by.group("g"))) == ["v1"]
    assert ids(reader.find(api.Volume, by.group(""))) == ["v2"]
    assert ids(reader.find(api.Volume, by.driver("csi"))) == ["v1", "v2"]


async def test_resources_are_found_by_kind_in_any_case() -> None:
    reader = (await store_with(new(api.Resource, "r1"))).view()
    assert ids(reader.find(api.Resource, by.kind("KIND"))) == ["r1"]


@pytest.mark.parametrize(
    ("kind", "selector"),
    [
        (api.Node, by.service("s")),
        (api.Network, by.secret("s")),
        (api.Service, by.node("n")),
        (api.Extension, by.name_prefix("x")),
        (api.Cluster, by.any_of(by.kind("k"))),
    ],
)
async def test_a_selector_that_a_table_does_not_know_is_an_error(kind: Any, selector: by.Selector) -> None:
    store = await store_with()
    with pytest.raises(InvalidSelectorError, match="invalid find argument type"):
        store.view().find(kind, selector)


async def test_a_selector_of_many_objects_keeps_the_order_of_ids() -> None:
    store = await store_with(*(task(f"t{n:02}", node_id=f"n{n % 2}") for n in reversed(range(40))))
    assert ids(store.view().find(api.Task, by.node("n1"))) == [f"t{n:02}" for n in range(1, 40, 2)]
    few = await store_with(*(task(f"t{n:02}", node_id=f"n{n // 3}") for n in reversed(range(60))))
    assert ids(few.view().find(api.Task, by.node("n2"))) == ["t06", "t07", "t08"]


def test_an_update_that_changes_no_entry_leaves_the_indexes_alone() -> None:
    table = Table(SCHEMAS[api.Node])
    table.put(table.schema.row(new(api.Node, "n1")))
    table.put(table.schema.row(labelled(new(api.Node, "n1"), "x")))
    table.check_invariants()
    assert table.rows["n1"].object.spec.annotations.labels["label"] == "x"


def test_sorted_keys_follow_changes_between_readings() -> None:
    keys = {"b", "d"}
    order = SortedKeys(lambda: keys)
    order.added("d")  # before the first reading the source alone counts
    assert order.in_order() == ["b", "d"]
    order.added("c")
    order.removed("b")
    order.added("a")
    order.removed("a")
    order.removed("d")
    order.added("d")
    assert order.in_order() == ["c", "d"]
    assert list(order.with_prefix("d")) == ["d"]
