"""Which tasks a node may no longer run: contract/orchestration.md, 11.1 and 17 (Enforcers)."""

import pytest

from swarmkit.api import messages as api
from swarmkit.manager.orchestrator.eviction import evictions
from tests.unit.manager.orchestrator.support import State, make_node, make_service, make_task


def node_with(memory: int = 0, cpus: int = 0, *generic: api.GenericResource) -> api.Node:
    node = make_node("n1", labels={"a": "b"})
    node.description.resources.memory_bytes = memory
    node.description.resources.nano_cpus = cpus
    node.description.resources.generic.extend(generic)
    return node


def reserving(
    id: str,
    memory: int = 0,
    cpus: int = 0,
    state: api.TaskState.ValueType = State.RUNNING,
    desired: api.TaskState.ValueType = State.RUNNING,
) -> api.Task:
    task = make_task(make_service(), id, node="n1", state=state, desired=desired)
    task.spec.resources.reservations.memory_bytes = memory
    task.spec.resources.reservations.nano_cpus = cpus
    return task


def using(id: str, *items: api.GenericResource) -> api.Task:
    task = reserving(id)
    task.assigned_generic_resources.extend(items)
    return task


def named(kind: str, value: str) -> api.GenericResource:
    return api.GenericResource(named_resource_spec=api.NamedGenericResource(kind=kind, value=value))


def amount(kind: str, value: int) -> api.GenericResource:
    return api.GenericResource(discrete_resource_spec=api.DiscreteGenericResource(kind=kind, value=value))


def evicted(node: api.Node, *tasks: api.Task, service: api.Service | None = None) -> list[str]:
    return [eviction.task_id for eviction in evictions(node, tasks, lambda id: service)]


def test_a_finished_task_does_not_use_up_memory() -> None:
    done = reserving("done", 700, state=State.COMPLETE, desired=State.COMPLETE)
    assert evicted(node_with(1024), done, reserving("runs", 700)) == []


def test_what_does_not_fit_goes_and_leaves_its_share_to_the_others() -> None:
    tasks = [reserving("a", 700), reserving("b", 700), reserving("c", 300)]
    assert evicted(node_with(1024), *tasks) == ["b"]
    assert evicted(node_with(0, 10), reserving("a", 0, 6), reserving("b", 0, 6), reserving("c", 0, 4)) == [
        "b"
    ]


def test_a_node_without_a_description_has_nothing_to_reserve() -> None:
    assert evicted(make_node("n1"), reserving("a", 1), reserving("b", 0, 1), reserving("c")) == ["a", "b"]


@pytest.mark.parametrize(
    ("desired", "state", "subject"),
    [
        (State.NEW, State.RUNNING, False),
        (State.ASSIGNED, State.RUNNING, True),
        (State.READY, State.PREPARING, True),
        (State.COMPLETE, State.RUNNING, True),
        (State.SHUTDOWN, State.RUNNING, False),
        (State.RUNNING, State.COMPLETE, False),
        (State.RUNNING, State.FAILED, False),
    ],
)
def test_only_tasks_that_shall_run_are_looked_at(
    desired: api.TaskState.ValueType, state: api.TaskState.ValueType, subject: bool
) -> None:
    assert evicted(node_with(), reserving("t", 1, state=state, desired=desired)) == (["t"] if subject else [])


def test_the_constraints_of_the_service_as_it_is_count_else_the_tasks_own() -> None:
    task = make_task(make_service(constraints=["node.labels.a==c"]), "t", node="n1")
    assert evicted(node_with(), task) == ["t"]
    assert evicted(node_with(), task, service=make_service(constraints=["node.labels.a==b"])) == []
    plain = make_task(make_service(), "t", node="n1")
    assert evicted(node_with(), plain, service=make_service(constraints=["node.labels.a==c"])) == ["t"]
    assert evicted(node_with(), plain, service=make_service(constraints=["does not parse"])) == []


def test_the_role_is_a_constraint_like_others() -> None:
    node = node_with()
    task = make_task(make_service(constraints=["node.role==worker"]), "t", node="n1")
    assert evicted(node, task) == []
    node.role = api.NodeRole.MANAGER
    assert evicted(node, task) == ["t"]


def test_a_named_resource_must_still_be_there() -> None:
    task = using("t", named("gpu", "one"))
    assert evicted(node_with(0, 0, named("gpu", "one")), task) == []
    assert evicted(node_with(0, 0, named("gpu", "two")), task) == ["t"]
    assert evicted(node_with(0, 0, amount("gpu", 5)), task) == ["t"]


def test_an_amount_must_still_be_there() -> None:
    task = using("t", amount("apple", 2))
    assert evicted(node_with(0, 0, amount("apple", 2)), task) == []
    assert evicted(node_with(0, 0, amount("apple", 1)), task) == ["t"]
    assert evicted(node_with(0, 0, named("apple", "x")), task) == ["t"]
    assert evicted(node_with(), using("t", amount("apple", 0))) == ["t"]


def test_after_a_missing_generic_resource_no_further_task_is_looked_at() -> None:
    node = node_with(0, 0, amount("apple", 3))
    tasks = [using("a", amount("apple", 2)), using("b", amount("apple", 2)), using("c", amount("apple", 9))]
    assert evicted(node, *tasks) == ["b"]


@pytest.mark.parametrize("availability", [api.NodeSpec.PAUSE, api.NodeSpec.DRAIN])
def test_nodes_that_are_not_active_are_not_looked_at(
    availability: "api.NodeSpec.Availability.ValueType",
) -> None:
    assert evicted(make_node("n1", availability=availability), reserving("t", 1)) == []
