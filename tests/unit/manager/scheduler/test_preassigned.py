"""Tasks that were bound to a node before the scheduler saw them."""

from swarmkit.manager.scheduler.decisions import CONFIRMED_TEXT, Assignment
from tests.unit.manager.scheduler.build import World, node, nodes, task


def test_a_preassigned_task_is_confirmed_on_its_node_alone() -> None:
    world = World(*nodes("ab"), task("t", node_id="b"))
    (decision,) = world.decide()
    assert isinstance(decision, Assignment)
    assert decision.node.id == "b"
    assert decision.status.message == CONFIRMED_TEXT
    assert not world.state.preassigned


def test_a_preassigned_task_comes_before_the_unassigned_ones() -> None:
    world = World(*nodes("ab", cpus=1), task("free", cpus=1), task("fixed", node_id="a", cpus=1))
    assert world.tick() == {"fixed": "a", "free": "b"}


def test_a_preassigned_task_that_does_not_fit_is_told_why_without_the_wrapper() -> None:
    world = World(node("a", cpus=1), task("t", node_id="a", cpus=2))
    assert world.tick() == {}
    assert world.errors == {"t": "insufficient resources on 1 node"}
    world.tick()
    assert world.writes == 1
    world.update(node("a", cpus=2))
    assert world.tick() == {"t": "a"}


def test_a_task_preassigned_to_an_unknown_node_is_left_alone() -> None:
    world = World(task("t", node_id="nowhere"))
    assert world.decide() == []
    world.create(node("nowhere"))
    assert world.tick() == {"t": "nowhere"}


def test_pending_preassigned_tasks_hold_nothing() -> None:
    world = World(node("a", cpus=1), task("big", node_id="a", cpus=2), task("small", cpus=1))
    assert world.tick() == {"small": "a"}
