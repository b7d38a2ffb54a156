"""Is a task out of date: contract/orchestration.md, 5 and 17 (Creation, dirtiness)."""

from collections.abc import Callable

import pytest

from swarmkit.api import messages as api
from swarmkit.manager.orchestrator.dirty import differs_in_placement_only, is_slot_dirty, is_task_dirty
from tests.unit.manager.orchestrator.support import State, make_node, make_service, make_task

NODE = make_node("n1", labels={"a": "yes"})


def changed(change: Callable[[api.Service], object], version: int | None = None) -> api.Service:
    service = make_service(replicas=1, version=version)
    change(service)
    return service


def constrain(*expressions: str) -> Callable[[api.Service], object]:
    return lambda service: service.spec.task.placement.constraints.extend(expressions)


def plain(
    state: api.TaskState.ValueType = State.RUNNING, desired: api.TaskState.ValueType = State.RUNNING
) -> api.Task:
    return make_task(
        make_service(replicas=1, version=None), "t", slot=1, node="n1", state=state, desired=desired
    )


def test_a_task_without_version_and_with_an_identical_spec_is_clean() -> None:
    assert not is_task_dirty(make_service(replicas=1, version=None), plain(), NODE)
    assert not is_task_dirty(make_service(replicas=1, version=3), plain(), NODE)


def test_equal_versions_are_clean_whatever_the_specs_say() -> None:
    task = make_task(make_service(replicas=1, version=0), "t", slot=1)
    assert not is_task_dirty(make_service(replicas=1, version=0, image="other"), task, NODE)
    assert is_task_dirty(make_service(replicas=1, version=1, image="other"), task, NODE)


@pytest.mark.parametrize("expression", ["node.labels.a==yes", "node.labels.a!=no", "this does not parse"])
def test_an_added_constraint_that_holds_or_does_not_parse_leaves_the_task_clean(expression: str) -> None:
    assert not is_task_dirty(changed(constrain(expression)), plain(), NODE)


@pytest.mark.parametrize("expression", ["node.labels.a==no", "unknown.key==x", "unknown.key!=x"])
def test_an_added_constraint_that_does_not_hold_makes_the_task_dirty(expression: str) -> None:
    assert is_task_dirty(changed(constrain(expression)), plain(), NODE)


def test_a_placement_change_makes_a_task_dirty_whose_node_is_not_known() -> None:
    assert is_task_dirty(changed(constrain("node.labels.a==yes")), plain(), None)


def test_a_placement_change_together_with_another_one_is_dirty() -> None:
    service = changed(constrain("node.labels.a==yes"))
    service.spec.task.container.image = "other"
    assert is_task_dirty(service, plain(), NODE)


def test_placement_only_is_told_from_no_change_and_from_more() -> None:
    base = make_service(replicas=1).spec.task
    other = api.TaskSpec()
    other.CopyFrom(base)
    assert not differs_in_placement_only(other, base)
    other.placement.constraints.append("node.role==worker")
    assert differs_in_placement_only(other, base)
    other.container.image = "other"
    assert not differs_in_placement_only(other, base)
    del other.placement.constraints[:]
    assert not differs_in_placement_only(other, base)


@pytest.mark.parametrize(
    ("state", "desired", "dirty"),
    [
        (State.READY, State.RUNNING, False),
        (State.RUNNING, State.RUNNING, False),
        (State.PREPARING, State.RUNNING, True),
        (State.SHUTDOWN, State.RUNNING, True),
        (State.RUNNING, State.SHUTDOWN, True),
    ],
)
def test_pull_options_alone_matter_only_to_tasks_that_do_not_have_their_image(
    state: api.TaskState.ValueType, desired: api.TaskState.ValueType, dirty: bool
) -> None:
    service = make_service(replicas=1, version=None)
    service.spec.task.container.pull_options.registry_auth = "secret"
    assert is_task_dirty(service, plain(state, desired), NODE) is dirty
    service.spec.task.container.image = "other"
    assert is_task_dirty(service, plain(state, desired), NODE)


def test_the_endpoint_counts_if_the_task_has_one_and_absent_is_not_empty() -> None:
    service = make_service(replicas=1, version=None)
    service.spec.endpoint.SetInParent()
    assert is_task_dirty(service, plain(), NODE)
    without = plain()
    without.ClearField("endpoint")
    assert not is_task_dirty(service, without, NODE)


def test_an_absent_part_of_the_spec_differs_from_an_empty_one() -> None:
    service = make_service(replicas=1, version=None)
    service.spec.task.resources.SetInParent()
    assert is_task_dirty(service, plain(), NODE)


def test_what_is_not_in_the_task_spec_does_not_count_but_a_forced_update_does() -> None:
    service = make_service(replicas=1, version=None)
    service.spec.replicated.replicas = 5
    service.spec.annotations.labels["x"] = "y"
    service.spec.update.parallelism = 3
    service.spec.networks.add(target="net")
    assert not is_task_dirty(service, plain(), NODE)
    service.spec.task.force_update += 1
    assert is_task_dirty(service, plain(), NODE)


def test_a_slot_is_dirty_with_several_tasks_or_one_dirty_one_and_clean_when_empty() -> None:
    same = make_service(replicas=1, version=None)
    other = make_service(replicas=1, version=None, image="other")
    assert not is_slot_dirty(other, [], [])
    assert not is_slot_dirty(same, [plain()], [NODE])
    assert is_slot_dirty(other, [plain()], [NODE])
    assert is_slot_dirty(same, [plain(), plain()], [NODE, NODE])
