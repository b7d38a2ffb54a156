"""How events change what the scheduler knows, and which of them ask for a tick."""

from collections.abc import Iterator

import pytest

from swarmkit.api import messages as api
from swarmkit.manager.scheduler.decisions import Explanation
from swarmkit.manager.scheduler.state import State
from swarmkit.store import Action, Event
from tests.unit.manager.scheduler.build import MOMENT, World, changed, node, task

RUNNING = api.TaskState.RUNNING
SHUTDOWN = api.TaskState.SHUTDOWN


@pytest.fixture
def state() -> Iterator[State]:
    made = State()
    made.handle(Event(Action.CREATE, node("n", cpus=4)), 0.0)
    made.tick_wanted = False
    yield made
    made.check_invariants()


def asks(state: State, action: Action, item: api.Task | api.Node) -> bool:
    """Announce an event; tell whether it asked for a tick."""
    state.tick_wanted = False
    state.handle(Event(action, item), 0.0)
    return state.tick_wanted


def queued(state: State) -> set[str]:
    return {task_id for group in state.groups.values() for task_id in group.tasks}


def free(state: State) -> float:
    info = state.nodes.get("n")
    assert info is not None
    return info.nano_cpus / 1e9


def test_only_a_new_task_without_a_node_asks_for_a_tick(state: State) -> None:
    assert asks(state, Action.CREATE, task("free"))
    assert not asks(state, Action.CREATE, task("fixed", node_id="n"))
    assert not asks(state, Action.CREATE, task("there", node_id="n", state=RUNNING, cpus=1))
    assert not asks(state, Action.CREATE, task("new", state=api.TaskState.NEW))
    assert not asks(state, Action.CREATE, task("dead", node_id="n", state=api.TaskState.FAILED))
    assert queued(state) == {"free"}
    assert set(state.preassigned) == {"fixed"}
    assert set(state.tasks) == {"free", "fixed", "there"}
    assert free(state) == 3


def test_a_known_task_that_ends_asks_for_a_tick_and_frees_what_it_held(state: State) -> None:
    asks(state, Action.CREATE, task("t", node_id="n", state=RUNNING, cpus=1))
    assert asks(state, Action.UPDATE, task("t", node_id="n", state=SHUTDOWN, cpus=1))
    assert free(state) == 4
    assert not asks(state, Action.UPDATE, task("t", node_id="n", state=SHUTDOWN, cpus=1))
    assert not asks(state, Action.UPDATE, task("unknown", node_id="n", state=SHUTDOWN))


def test_a_task_on_its_way_asks_for_nothing(state: State) -> None:
    one = task("t", node_id="n", state=api.TaskState.ASSIGNED, cpus=1)
    asks(state, Action.CREATE, one)
    assert not asks(state, Action.UPDATE, changed(one, state=RUNNING))
    assert free(state) == 3


def test_an_update_below_pending_is_ignored(state: State) -> None:
    asks(state, Action.CREATE, task("t"))
    assert not asks(state, Action.UPDATE, task("t", state=api.TaskState.NEW))
    assert queued(state) == {"t"}


def test_a_task_that_lost_its_node_is_queued_and_asks_for_a_tick(state: State) -> None:
    asks(state, Action.CREATE, task("t", node_id="n", state=RUNNING, cpus=1))
    assert asks(state, Action.UPDATE, task("t", cpus=1))
    assert queued(state) == {"t"}
    assert free(state) == 4


def test_a_deleted_task_asks_for_a_tick_only_if_it_held_something(state: State) -> None:
    asks(state, Action.CREATE, task("held", node_id="n", state=RUNNING, cpus=1))
    asks(state, Action.CREATE, task("queued"))
    assert asks(state, Action.DELETE, task("held", node_id="n", state=RUNNING, cpus=1))
    assert not asks(state, Action.DELETE, task("queued"))
    assert not state.tasks


@pytest.mark.parametrize(
    "after",
    [
        task("t", node_id="n", state=api.TaskState.ASSIGNED),
        task("t", state=SHUTDOWN, desired=SHUTDOWN),
        task("t", node_id="n"),
    ],
)
def test_a_queued_task_that_others_moved_on_leaves_the_queue(state: State, after: api.Task) -> None:
    asks(state, Action.CREATE, task("t"))
    asks(state, Action.UPDATE, after)
    assert not state.groups


def test_a_preassigned_task_that_moved_on_leaves_its_queue(state: State) -> None:
    asks(state, Action.CREATE, task("t", node_id="n"))
    asks(state, Action.UPDATE, task("t", node_id="n", state=RUNNING))
    assert not state.preassigned


def test_nodes_ask_for_a_tick_unless_they_go(state: State) -> None:
    assert asks(state, Action.CREATE, node("m"))
    assert asks(state, Action.UPDATE, node("m"))
    assert not asks(state, Action.DELETE, node("m"))


def test_a_node_created_and_deleted_again_takes_nothing() -> None:
    world = World(node("n"))
    world.delete(node("n"))
    world.create(node("down", state=api.NodeStatus.DOWN), task("t"))
    world.create(node("drained"))
    world.update(node("drained", availability=api.NodeSpec.DRAIN))
    assert world.tick() == {}
    world.update(node("down"))
    assert world.tick() == {"t": "down"}


def test_at_start_what_shall_stop_before_it_was_placed_is_left_alone() -> None:
    state = State()
    for desired in (SHUTDOWN, api.TaskState.REMOVE):
        state.load(task(f"free{desired}", desired=desired))
        state.load(task(f"fixed{desired}", node_id="n", desired=desired))
    state.load(task("dead", node_id="n", state=api.TaskState.FAILED))
    state.load(task("new", state=api.TaskState.NEW))
    assert not state.tasks


def test_as_an_event_what_shall_stop_is_queued(state: State) -> None:
    asks(state, Action.CREATE, task("t", desired=SHUTDOWN))
    assert queued(state) == {"t"}


def test_tasks_loaded_before_their_node_are_accounted_on_it() -> None:
    state = State()
    state.load(task("t", node_id="n", state=RUNNING, cpus=1))
    state.load(node("n", cpus=4))
    assert free(state) == 3


def test_undoing_goes_on_from_what_is_stored_now(state: State) -> None:
    one = task("t")
    asks(state, Action.CREATE, one)
    state.undo(Explanation(one, "why", MOMENT), task("t", node_id="n"))
    assert not state.groups
    assert set(state.preassigned) == {"t"}


@pytest.mark.parametrize("stored", [None, task("t", node_id="n", state=RUNNING)])
def test_undoing_drops_what_is_gone_or_placed_by_others(state: State, stored: api.Task | None) -> None:
    one = task("t")
    asks(state, Action.CREATE, one)
    state.undo(Explanation(one, "why", MOMENT), stored)
    assert not state.tasks


def test_undoing_leaves_alone_what_an_event_made_since(state: State) -> None:
    one = task("t", cpus=1)
    asks(state, Action.CREATE, one)
    asks(state, Action.UPDATE, task("t", node_id="n", state=api.TaskState.ASSIGNED, cpus=1))
    state.undo(Explanation(one, "why", MOMENT), None)
    assert free(state) == 3
    assert set(state.tasks) == {"t"}


def test_crossing_to_five_failures_is_logged(state: State, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(6):
        asks(state, Action.CREATE, task("t", node_id="n", state=RUNNING))
        asks(state, Action.UPDATE, task("t", node_id="n", state=api.TaskState.REJECTED))
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_deleted_node_loses_its_failures(state: State) -> None:
    for _ in range(5):
        asks(state, Action.CREATE, task("t", node_id="n", state=RUNNING))
        asks(state, Action.UPDATE, task("t", node_id="n", state=api.TaskState.FAILED))
    assert state.failures.faulty(("service", 0), 0.0) == {"n": 5}
    asks(state, Action.DELETE, node("n"))
    assert state.failures.faulty(("service", 0), 0.0) == {}
