"""NodeSet, and the accounts of the NodeInfo in it."""

from collections.abc import Iterator

import pytest

from swarmkit.api import messages as api
from swarmkit.manager.scheduler.nodeinfo import NodeInfo
from swarmkit.manager.scheduler.nodes import NodeSet
from swarmkit.manager.scheduler.profile import Profiles
from tests.unit.manager.scheduler.build import GIB, changed, host_port, node, resources, task, values

PROFILES = Profiles()
RUNNING = api.TaskState.RUNNING


@pytest.fixture
def nodes() -> Iterator[NodeSet]:
    made = NodeSet()
    yield made
    made.check_invariants()


def track(nodes: NodeSet, *tasks: api.Task) -> None:
    for one in tasks:
        nodes.track(one, one.node_id, PROFILES.of(one))


def info(nodes: NodeSet, node_id: str = "n") -> NodeInfo:
    found = nodes.get(node_id)
    assert found is not None
    return found


def test_a_tracked_task_takes_and_an_untracked_one_gives_back(nodes: NodeSet) -> None:
    nodes.put(node("n", cpus=8, memory=8 * GIB, generic=resources(apple=3, orange="red green")))
    held = resources(apple=2, orange="red")
    one = task("t", node_id="n", state=RUNNING, cpus=2, memory=GIB, ports=[host_port(80)], held=held)
    track(nodes, one)
    on = info(nodes)
    assert (on.nano_cpus, on.memory_bytes) == (6_000_000_000, 7 * GIB)
    assert values(on.generic) == [("apple", 1), ("orange", "green")]
    assert (on.active, on.services, on.tracked) == (1, {"service": 1}, 1)
    assert nodes.untrack("t")
    assert (on.nano_cpus, on.memory_bytes) == (8_000_000_000, 8 * GIB)
    assert values(on.generic) == [("apple", 3), ("orange", "red"), ("orange", "green")]
    assert (on.active, on.services, on.tracked, on.ports) == (0, {}, 0, {})


def test_tracking_twice_accounts_once(nodes: NodeSet) -> None:
    nodes.put(node("n", cpus=8))
    one = task("t", node_id="n", state=RUNNING, cpus=2)
    track(nodes, one, one)
    assert info(nodes).nano_cpus == 6_000_000_000
    assert info(nodes).active == 1


def test_untracking_an_unknown_task_changes_nothing(nodes: NodeSet) -> None:
    nodes.put(node("n", cpus=8))
    assert not nodes.untrack("t")
    assert info(nodes).nano_cpus == 8_000_000_000


def test_a_task_whose_desired_state_passes_complete_is_no_longer_active_but_holds_its_resources(
    nodes: NodeSet,
) -> None:
    nodes.put(node("n", cpus=8))
    one = task("t", node_id="n", state=RUNNING, cpus=2)
    track(nodes, one, changed(one, desired_state=api.TaskState.SHUTDOWN))
    assert (info(nodes).active, info(nodes).services) == (0, {})
    assert info(nodes).nano_cpus == 6_000_000_000
    track(nodes, one)
    assert (info(nodes).active, info(nodes).services) == (1, {"service": 1})


def test_exactly_the_recorded_generic_resources_are_taken(nodes: NodeSet) -> None:
    nodes.put(node("n", generic=resources(orange="a b c")))
    track(nodes, task("t", node_id="n", state=RUNNING, generic={"orange": 1}, held=resources(orange="c")))
    assert values(info(nodes).generic) == [("orange", "a"), ("orange", "b")]


def test_a_port_held_by_two_tasks_is_free_when_both_are_gone(nodes: NodeSet) -> None:
    nodes.put(node("n"))
    track(nodes, *(task(name, node_id="n", state=RUNNING, ports=[host_port(80)]) for name in "ab"))
    nodes.untrack("a")
    assert (api.PortConfig.TCP, 80) in info(nodes).ports
    nodes.untrack("b")
    assert not info(nodes).ports


def test_a_changed_description_counts_minus_what_the_tasks_hold(nodes: NodeSet) -> None:
    nodes.put(node("n", cpus=4, generic=resources(apple=4)))
    track(nodes, task("t", node_id="n", state=RUNNING, cpus=3, held=resources(apple=2)))
    nodes.put(node("n", cpus=2, generic=resources(apple=3, pear=1)))
    assert info(nodes).nano_cpus == -1_000_000_000
    assert values(info(nodes).generic) == [("apple", 1), ("pear", 1)]
    nodes.put(node("n"))
    assert info(nodes).nano_cpus == -3_000_000_000, "a node that loses its description still subtracts"


@pytest.mark.parametrize("before", [True, False])
def test_tasks_are_accounted_on_a_node_that_comes_after_them_or_comes_back(
    nodes: NodeSet, before: bool
) -> None:
    if before:
        nodes.put(node("n", cpus=4))
    track(nodes, task("t", node_id="n", state=RUNNING, cpus=3))
    nodes.drop("n")
    assert info(nodes).node is None
    nodes.put(node("n", cpus=4))
    assert info(nodes).nano_cpus == 1_000_000_000
    assert info(nodes).active == 1


def test_a_dropped_node_is_forgotten_with_its_last_task(nodes: NodeSet) -> None:
    nodes.put(node("n"))
    track(nodes, task("t", node_id="n", state=RUNNING))
    slot = info(nodes).slot
    nodes.drop("n")
    nodes.untrack("t")
    assert nodes.get("n") is None
    nodes.put(node("m"))
    assert info(nodes, "m").slot == slot


def test_a_task_that_moves_is_accounted_on_one_node_only(nodes: NodeSet) -> None:
    nodes.put(node("n", cpus=1))
    nodes.put(node("m", cpus=1))
    one = task("t", node_id="n", state=RUNNING, cpus=1)
    track(nodes, one, changed(one, node_id="m"))
    assert info(nodes, "n").nano_cpus == 1_000_000_000
    assert info(nodes, "m").nano_cpus == 0


def test_the_load_order_holds_the_available_nodes_with_the_least_busy_first(nodes: NodeSet) -> None:
    for name in "abcd":
        nodes.put(node(name))
    nodes.put(node("d", availability=api.NodeSpec.DRAIN))
    track(nodes, *(task(f"t{number}", node_id="a", state=RUNNING) for number in range(2)))
    track(nodes, task("t", node_id="b", state=RUNNING))
    assert [on.id for on in nodes.by_load()] == ["c", "b", "a"]


def test_a_change_is_known_by_its_generation(nodes: NodeSet) -> None:
    nodes.put(node("a"))
    nodes.put(node("b"))
    generation = nodes.generation
    assert nodes.changed_since(generation) == []
    track(nodes, task("t", node_id="a", state=RUNNING))
    assert nodes.changed_since(generation) == [info(nodes, "a").slot]
    nodes.put(node("b"))
    nodes.put(node("b"))
    assert nodes.changed_since(generation) == [info(nodes, "b").slot, info(nodes, "a").slot]
    assert nodes.changed_at(info(nodes, "b")) == nodes.generation
