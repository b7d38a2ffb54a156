"""Tasks of a global service against the nodes: contract/orchestration.md, 7.1 and 7.2."""

import pytest

from swarmkit.api import messages as api
from swarmkit.manager import constraint
from swarmkit.manager.orchestrator.global_plan import GlobalPlan, change_of_place, plan_global
from swarmkit.manager.orchestrator.steps import finish
from tests.unit.manager.orchestrator.support import State, make_node, make_service, make_task

OLD = make_service()
NEW = make_service(version=1, image="new")
DRAINED = make_node("n1", availability=api.NodeSpec.DRAIN)
DOWN = make_node("n1", state=api.NodeStatus.DOWN)
PAUSED = make_node("n1", availability=api.NodeSpec.PAUSE)
READY = make_node("n1")


def never(service: api.Service, task: api.Task) -> bool:
    return False


def plan(nodes: list[api.Node], *tasks: api.Task, expressions: tuple[str, ...] = ()) -> GlobalPlan:
    return finish(plan_global(OLD, constraint.parse(expressions), nodes, tasks, never))


def on(node: str, id: str = "t", service: api.Service = OLD, **fields: api.TaskState.ValueType) -> api.Task:
    return make_task(service, id, node=node, **fields)


def test_a_node_without_a_task_gets_one() -> None:
    result = plan([make_node("n1"), make_node("n2")], on("n1"))
    assert [key.node_id for key in result.create] == ["n2"]
    assert [slot.key.node_id for slot in result.update] == ["n1"]
    assert result.stop == []


@pytest.mark.parametrize("state", [api.NodeStatus.UNKNOWN, api.NodeStatus.DISCONNECTED])
def test_a_node_whose_state_is_unclear_is_still_a_candidate(
    state: "api.NodeStatus.State.ValueType",
) -> None:
    assert len(plan([make_node("n1", state=state)]).create) == 1


def test_a_paused_node_is_left_alone() -> None:
    assert plan([PAUSED]) == GlobalPlan()
    assert plan([PAUSED], on("n1")) == GlobalPlan()


def test_tasks_on_nodes_that_do_not_match_are_shut_down_even_on_paused_ones() -> None:
    for node in (READY, PAUSED):
        assert plan([node], on("n1"), expressions=("node.labels.a==b",)) == GlobalPlan(stop=["t"])
    assert plan([READY], expressions=("node.labels.a==b",)) == GlobalPlan()


@pytest.mark.parametrize("nodes", [[DRAINED], [DOWN], []])
def test_tasks_on_nodes_that_are_no_candidates_are_shut_down(nodes: list[api.Node]) -> None:
    assert plan(nodes, on("n1")) == GlobalPlan(stop=["t"])


def test_a_task_without_a_node_is_shut_down() -> None:
    assert plan([], on("")) == GlobalPlan(stop=["t"])


def test_several_tasks_of_a_node_are_one_slot() -> None:
    result = plan([READY], on("n1", "a"), on("n1", "b"))
    assert [[task.id for task in slot.tasks] for slot in result.update] == [["a", "b"]]


def change(node: api.Node, *tasks: api.Task, expressions: tuple[str, ...] = ()) -> tuple[bool, list[str]]:
    result = change_of_place(NEW, constraint.parse(expressions), node, tasks, never)
    assert bool(result) is (result.create or bool(result.stop))
    return result.create, [task.id for task in result.stop]


def test_a_node_that_changed_gets_a_missing_task() -> None:
    assert change(READY) == (True, [])


def test_outdated_tasks_of_a_node_that_changed_are_replaced_at_once() -> None:
    assert change(READY, on("n1", "old")) == (True, ["old"])


def test_of_clean_tasks_one_that_runs_stays() -> None:
    tasks = [
        on("n1", "failed", NEW, state=State.FAILED),
        on("n1", "runs", NEW),
        on("n1", "starts", NEW, state=State.STARTING),
        on("n1", "old"),
    ]
    assert change(READY, *tasks) == (False, ["failed", "starts", "old"])


def test_a_finished_task_that_is_not_restarted_is_enough() -> None:
    assert change(READY, on("n1", "done", NEW, state=State.COMPLETE, desired=State.SHUTDOWN)) == (False, [])


@pytest.mark.parametrize("node", [DRAINED, DOWN])
def test_a_node_that_became_invalid_loses_its_tasks(node: api.Node) -> None:
    assert change(node, on("n1", "a", NEW), on("n1", "b")) == (False, ["a", "b"])
    assert change(node, on("n1", "over", desired=State.SHUTDOWN)) == (False, [])


def test_a_paused_or_unsuitable_node_is_left_to_others() -> None:
    assert change(PAUSED, on("n1", "old")) == (False, [])
    assert change(READY, on("n1", "old"), expressions=("node.labels.a==b",)) == (False, [])
