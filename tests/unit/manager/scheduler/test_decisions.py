import functools

from swarmkit.api import messages as api
from swarmkit.manager.scheduler.decisions import Assignment, Explanation, Outcome, Retirement, write
from swarmkit.store import Store
from tests.fakes.loop import VirtualClock
from tests.unit.manager.scheduler.build import MOMENT, changed, node, task

ASSIGNED = api.TaskStatus(state=api.TaskState.ASSIGNED, message="assigned")


async def stored(clock: VirtualClock) -> tuple[Store, api.Task, api.Node]:
    store = Store(clock)
    one = await store.update(lambda tx: tx.create(changed(task("t"), err="before")))
    on = await store.update(lambda tx: tx.create(node("n")))
    return store, one, on


async def test_a_decision_about_what_is_stored_is_written(clock: VirtualClock) -> None:
    store, one, on = await stored(clock)
    outcome, _ = await store.update(functools.partial(write, Assignment(one, on, (), ASSIGNED)))
    assert outcome is Outcome.WRITTEN
    now = store.view().get(api.Task, "t")
    assert now is not None
    assert now.node_id == "n"
    assert (now.status.state, now.status.err) == (api.TaskState.ASSIGNED, "")


async def test_nothing_is_written_about_a_task_that_is_gone(clock: VirtualClock) -> None:
    store, one, _ = await stored(clock)
    await store.update(lambda tx: tx.delete(api.Task, "t"))
    assert await store.update(functools.partial(write, Retirement(one, MOMENT))) == (Outcome.GONE, None)


async def test_what_says_the_same_already_is_not_written_again(clock: VirtualClock) -> None:
    store, one, _ = await stored(clock)
    version = store.version
    outcome, _ = await store.update(functools.partial(write, Explanation(one, "before", MOMENT)))
    assert outcome is Outcome.UNCHANGED
    assert store.version == version


async def test_a_task_changed_by_others_is_a_conflict_and_comes_back(clock: VirtualClock) -> None:
    store, one, on = await stored(clock)
    newer = await store.update(lambda tx: tx.update(changed(one, desired_state=api.TaskState.SHUTDOWN)))
    for decision in (Assignment(one, on, (), ASSIGNED), Explanation(one, "why", MOMENT)):
        assert await store.update(functools.partial(write, decision)) == (Outcome.CONFLICT, newer)


async def test_a_node_changed_or_deleted_meanwhile_is_a_conflict(clock: VirtualClock) -> None:
    store, one, on = await stored(clock)
    decision = Assignment(one, on, (), ASSIGNED)
    drained = api.Node()
    drained.CopyFrom(on)
    drained.spec.availability = api.NodeSpec.DRAIN
    await store.update(lambda tx: tx.update(drained))
    assert await store.update(functools.partial(write, decision)) == (Outcome.CONFLICT, one)
    await store.update(lambda tx: tx.delete(api.Node, "n"))
    assert await store.update(functools.partial(write, decision)) == (Outcome.CONFLICT, one)


async def test_an_explanation_keeps_the_message(clock: VirtualClock) -> None:
    one = task("t")
    one.status.message = "pending task scheduling"
    Explanation(one, "why", MOMENT).apply(one)
    assert (one.status.message, one.status.err) == ("pending task scheduling", "why")
    Retirement(one, MOMENT).apply(one)
    assert (one.status.message, one.status.err) == ("pending task scheduling", "")
