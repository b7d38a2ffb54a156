"""Slots of a replicated service against its replica count: contract/orchestration.md, 6 and 17."""

from swarmkit.api import messages as api
from swarmkit.manager.orchestrator.replicated_plan import ReplicatedPlan, plan_replicated
from swarmkit.manager.orchestrator.slots import SlotKey
from swarmkit.manager.orchestrator.steps import finish
from tests.unit.manager.orchestrator.support import State, make_service, make_task


def plan(replicas: int, tasks: list[api.Task], most: int = 1000) -> ReplicatedPlan:
    return finish(plan_replicated(make_service(replicas=replicas), tasks, lambda service, task: True, most))


def numbers(keys: list[SlotKey]) -> list[int]:
    assert all(key.service_id == "svc" and not key.node_id for key in keys)
    return [key.slot for key in keys]


def kept(result: ReplicatedPlan) -> list[int]:
    return numbers([slot.key for slot in result.update])


def at(slot: int, node: str = "", state: api.TaskState.ValueType = State.RUNNING) -> api.Task:
    return make_task(make_service(replicas=1), f"t{slot}", slot=slot, node=node, state=state)


def dead(slot: int) -> api.Task:
    return make_task(
        make_service(replicas=1), f"dead{slot}", slot=slot, state=State.FAILED, desired=State.SHUTDOWN
    )


def test_missing_slots_are_numbered_from_one_skipping_running_ones() -> None:
    result = plan(5, [at(2), at(4)])
    assert numbers(result.create) == [1, 3, 5]
    assert sorted(kept(result)) == [2, 4]
    assert not result.remove
    assert not result.incomplete


def test_a_dead_slot_met_on_the_way_is_used_again_and_the_others_are_forgotten() -> None:
    result = plan(3, [at(1), dead(2), dead(9)])
    assert numbers(result.create) == [2, 3]
    assert numbers(result.forget) == [9]


def test_with_the_right_number_dead_slots_are_forgotten() -> None:
    result = plan(1, [at(1), dead(2), dead(3)])
    assert numbers(result.forget) == [2, 3]
    assert not result.create
    assert not result.remove


def test_tasks_to_be_removed_make_a_dead_slot() -> None:
    stopping = make_task(make_service(replicas=1), "t", slot=2, state=State.RUNNING, desired=State.REMOVE)
    assert numbers(plan(1, [at(1), stopping]).forget) == [2]


def test_surplus_goes_first_from_the_most_loaded_node() -> None:
    tasks = [at(1, "n1", State.STARTING), at(2, "n2"), at(3, "n2"), at(4, "n3"), at(5, "n3"), at(6, "n3")]
    result = plan(4, tasks)
    assert numbers(result.remove) == [5, 6]
    assert sorted(kept(result)) == [1, 2, 3, 4]
    result = plan(2, tasks[:4])
    assert sorted(numbers(result.remove)) == [1, 3]


def test_a_slot_without_a_node_goes_before_all_others() -> None:
    tasks = [at(1), *(at(slot, "n1") for slot in range(2, 8))]
    assert numbers(plan(6, tasks).remove) == [1]


def test_an_ambiguous_slot_goes_before_a_certain_one() -> None:
    twice = make_task(make_service(replicas=1), "second", slot=1, node="n2")
    assert numbers(plan(1, [at(1, "n1"), twice, at(2, "n1")]).remove) == [1]


def test_what_is_equal_otherwise_goes_from_the_highest_number() -> None:
    tasks = [at(slot, f"n{slot}") for slot in (3, 1, 2)]
    assert numbers(plan(1, tasks).remove) == [2, 3]


def test_all_slots_go_at_zero_replicas() -> None:
    assert sorted(numbers(plan(0, [at(1, "n1"), at(2)]).remove)) == [1, 2]


def test_one_pass_creates_a_bounded_number_and_says_that_more_are_missing() -> None:
    result = plan(2**62, [at(2)], most=3)
    assert numbers(result.create) == [1, 3, 4]
    assert result.incomplete
