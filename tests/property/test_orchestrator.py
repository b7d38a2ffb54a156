"""Rules of the orchestrator's pure cores that hold for every input."""

from hypothesis import given
from hypothesis import strategies as st

from swarmkit.api import messages as api
from swarmkit.manager.orchestrator.release_queue import ReleaseQueue
from swarmkit.manager.orchestrator.replicated_plan import keep_order, plan_replicated
from swarmkit.manager.orchestrator.rollout import Rollout, Verdict
from swarmkit.manager.orchestrator.slots import Slot, SlotKey
from swarmkit.manager.orchestrator.steps import finish
from tests.unit.manager.orchestrator.support import State, make_service, make_task

SERVICE = make_service(replicas=1)
DESIRED = [State.READY, State.RUNNING, State.SHUTDOWN, State.REMOVE]
OBSERVED = [State.NEW, State.ASSIGNED, State.RUNNING, State.COMPLETE, State.FAILED]


@st.composite
def tasks(draw: st.DrawFn) -> list[api.Task]:
    rows = draw(
        st.lists(
            st.tuples(
                st.integers(1, 8),
                st.sampled_from(["", "n1", "n2"]),
                st.sampled_from(OBSERVED),
                st.sampled_from(DESIRED),
                st.one_of(st.none(), st.integers(-9, 9)),
            ),
            max_size=20,
        )
    )
    return [
        make_task(SERVICE, f"t{n}", slot=slot, node=node, state=state, desired=desired, at=at)
        for n, (slot, node, state, desired, at) in enumerate(rows)
    ]


@given(tasks(), st.integers(0, 10), st.booleans())
def test_a_plan_leads_to_the_wanted_number_of_slots_and_uses_each_once(
    found: list[api.Task], replicas: int, restart: bool
) -> None:
    service = make_service(replicas=replicas)
    plan = finish(plan_replicated(service, found, lambda service, task: restart))
    kept = [slot.key for slot in plan.update]
    assert len(kept) + len(plan.create) == replicas
    everything = [*kept, *plan.create, *plan.remove, *plan.forget]
    assert len(set(everything)) == len(everything)
    assert {task.slot for task in found} <= {key.slot for key in everything}
    assert not (plan.create and plan.remove)
    wanted_slots = {task.slot for task in found if task.desired_state <= State.RUNNING}
    assert not wanted_slots & {key.slot for key in plan.forget}


@given(tasks())
def test_the_order_in_which_slots_stay_is_a_permutation_with_uncertain_ones_last(
    found: list[api.Task],
) -> None:
    slots: dict[int, list[api.Task]] = {}
    for task in found:
        slots.setdefault(task.slot, []).append(task)
    given_slots = [Slot(SlotKey("svc", number), tuple(members)) for number, members in slots.items()]
    order = finish(keep_order(given_slots))
    assert sorted(order, key=lambda slot: slot.key) == sorted(given_slots, key=lambda slot: slot.key)
    certain = [len(slot.tasks) == 1 and bool(slot.tasks[0].node_id) for slot in order]
    assert certain == sorted(certain, reverse=True)


@given(st.lists(st.tuples(st.sampled_from("schenra"), st.integers(0, 5), st.integers(0, 80)), max_size=60))
def test_a_release_comes_once_not_before_its_delay_and_not_after_its_limit(
    events: list[tuple[str, int, int]],
) -> None:
    queue = ReleaseQueue()
    now = 0.0
    bounds: dict[str, tuple[float, float]] = {}
    for kind, number, amount in events:
        id, old = f"t{number}", f"old{number % 3}"
        if kind == "s":
            queue.schedule(
                id, now, delay_seconds=amount, limit_seconds=60, old_id=old, node_id=f"n{number % 2}"
            )
            bounds[id] = (now + amount, now + max(amount, 60))
        elif kind == "c":
            queue.cancel(id)
            bounds.pop(id, None)
        elif kind == "h" and id in queue:
            queue.restart_after(id)
        elif kind == "e":
            queue.task_ended(old, now)
        elif kind == "n":
            queue.node_lost(f"n{number % 2}", now)
        elif kind == "a":
            deadline = queue.deadline()
            now += amount if deadline is None else min(amount, max(0.0, deadline - now))
            for released in queue.advance(now):
                earliest, latest = bounds.pop(released)
                assert earliest <= now <= latest
        queue.check_invariants()
        assert set(bounds) == {id for id in (f"t{n}" for n in range(6)) if id in queue}
    while (deadline := queue.deadline()) is not None:
        now = max(now, deadline)
        for released in queue.advance(now):
            assert bounds.pop(released)[1] >= now
    assert not bounds


@given(st.integers(1, 12), st.integers(0, 5), st.integers(0, 3), st.data())
def test_an_update_offers_each_slot_once_within_its_lanes_and_ends(
    slots: int, parallelism: int, delay: int, data: st.DataObject
) -> None:
    config = api.UpdateConfig(
        parallelism=parallelism, max_failure_ratio=data.draw(st.sampled_from([0.0, 0.4, 1.0]))
    )
    config.delay.seconds = delay
    rollout = Rollout([SlotKey("svc", number) for number in range(slots)], config, rolling_back=False)
    offered: list[SlotKey] = []
    starting: list[str] = []
    now, failures = 0.0, 0
    while not rollout.lanes_done(now):
        for key in rollout.take(now, data.draw(st.integers(1, 4))):
            offered.append(key)
            if data.draw(st.booleans()):
                rollout.slot_starting(key, f"t{key.slot}")
                starting.append(f"t{key.slot}")
            else:
                rollout.slot_done(now)
        rollout.check_invariants()
        assert len(starting) <= (parallelism or slots)
        if data.draw(st.booleans()) and starting:
            task = api.Task(id=starting.pop())
            task.status.state = data.draw(st.sampled_from([State.RUNNING, State.FAILED]))
            failures += task.status.state == State.FAILED
            rollout.observe(task, now)
        now += 1
    assert len(set(offered)) == len(offered)
    tipped = failures / slots > config.max_failure_ratio
    assert (rollout.verdict is Verdict.PAUSE) is (failures > 0 and tipped)
    assert rollout.verdict is not None or len(offered) == slots
