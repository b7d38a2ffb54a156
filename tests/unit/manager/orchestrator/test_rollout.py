"""The course of an update: contract/orchestration.md, 9.2 to 9.4 and 17 (Updater)."""

import pytest

from swarmkit.api import messages as api
from swarmkit.manager.orchestrator.rollout import Rollout, Verdict, change_of_slot
from swarmkit.manager.orchestrator.slots import SlotKey
from tests.unit.manager.orchestrator.support import State, make_service, make_task

KEYS = [SlotKey("svc", number) for number in range(1, 11)]
Action = api.UpdateConfig


def config(
    parallelism: int = 1,
    *,
    delay: float = 0,
    monitor: float = 5,
    ratio: float = 0,
    action: "api.UpdateConfig.FailureAction.ValueType" = Action.PAUSE,
) -> api.UpdateConfig:
    result = api.UpdateConfig(parallelism=parallelism, max_failure_ratio=ratio, failure_action=action)
    result.delay.FromMicroseconds(round(delay * 1e6))
    result.monitor.FromMicroseconds(round(monitor * 1e6))
    return result


def seen(id: str, state: api.TaskState.ValueType) -> api.Task:
    task = api.Task(id=id)
    task.status.state = state
    return task


def begin(rollout: Rollout, now: float = 0, most: int = 100) -> list[str]:
    """Begin the slots that are offered, each with a new task named after its slot."""
    keys = rollout.take(now, most)
    for key in keys:
        rollout.slot_starting(key, f"t{key.slot}")
    rollout.check_invariants()
    return [f"t{key.slot}" for key in keys]


def fail(rollout: Rollout, *slots: int, now: float = 0) -> None:
    for slot in slots:
        rollout.observe(seen(f"t{slot}", State.FAILED), now)


def test_no_more_slots_than_lanes_are_under_way_and_the_next_follows_a_start() -> None:
    rollout = Rollout(KEYS[:5], config(2), rolling_back=False)
    assert begin(rollout) == ["t1", "t2"]
    assert begin(rollout) == []
    assert rollout.observe(seen("t2", State.RUNNING), 1) == KEYS[1]
    assert rollout.observe(seen("t2", State.RUNNING), 1) is None
    assert begin(rollout, 1) == ["t3"]


def test_parallelism_zero_offers_all_slots_at_once() -> None:
    assert len(begin(Rollout(KEYS, config(0), rolling_back=False))) == 10


def test_a_lane_sleeps_after_each_slot_also_after_the_last() -> None:
    rollout = Rollout(KEYS[:2], config(1, delay=3), rolling_back=False)
    begin(rollout)
    rollout.observe(seen("t1", State.RUNNING), 10)
    assert begin(rollout, 12.9) == []
    assert rollout.deadline() == 13
    assert begin(rollout, 13) == ["t2"]
    rollout.observe(seen("t2", State.RUNNING), 20)
    assert not rollout.lanes_done(22.9)
    assert rollout.lanes_done(23)


def test_states_before_running_are_no_start() -> None:
    rollout = Rollout(KEYS[:2], config(1), rolling_back=False)
    begin(rollout)
    assert rollout.observe(seen("t1", State.STARTING), 1) is None
    assert begin(rollout, 1) == []


def test_a_slot_without_a_new_task_frees_its_lane() -> None:
    rollout = Rollout(KEYS[:2], config(1), rolling_back=False)
    assert rollout.take(0, 100) == [KEYS[0]]
    rollout.slot_done(0)
    assert rollout.take(0, 100) == [KEYS[1]]
    rollout.slot_done(0)
    assert rollout.lanes_done(0)


def test_the_deletion_of_a_new_task_that_did_not_start_frees_its_lane() -> None:
    rollout = Rollout(KEYS[:1], config(1), rolling_back=False)
    begin(rollout)
    rollout.forget("t1", 1)
    rollout.forget("t1", 1)
    assert rollout.lanes_done(1)
    rollout.check_invariants()


def test_the_successor_of_a_new_task_is_waited_for_and_counts_in_its_place() -> None:
    rollout = Rollout(KEYS[:2], config(1), rolling_back=False)
    begin(rollout)
    assert rollout.awaited("t1") == KEYS[0]
    rollout.replaced("t1", "r1")
    rollout.check_invariants()
    assert rollout.awaited("t1") is None
    assert rollout.observe(seen("t1", State.SHUTDOWN), 1) is None
    assert begin(rollout, 1) == []
    assert rollout.observe(seen("r1", State.RUNNING), 2) == KEYS[0]
    assert rollout.awaited("r1") is None
    assert begin(rollout, 2) == ["t2"]
    rollout.observe(seen("r1", State.FAILED), 3)
    assert rollout.verdict is Verdict.PAUSE


def test_a_task_that_ended_before_it_ran_is_no_start_for_its_old_tasks() -> None:
    rollout = Rollout(KEYS[:2], config(1, action=Action.CONTINUE), rolling_back=False)
    begin(rollout)
    assert rollout.observe(seen("t1", State.REJECTED), 1) is None
    assert begin(rollout, 1) == ["t2"]


@pytest.mark.parametrize(
    "state", [State.COMPLETE, State.SHUTDOWN, State.FAILED, State.REJECTED, State.ORPHANED]
)
def test_by_default_the_first_end_of_a_new_task_pauses(state: api.TaskState.ValueType) -> None:
    rollout = Rollout(KEYS, config(1), rolling_back=False)
    begin(rollout)
    rollout.observe(seen("t1", state), 0)
    assert rollout.verdict is Verdict.PAUSE
    assert begin(rollout) == []
    assert rollout.lanes_done(0)


def test_after_the_verdict_slots_under_way_are_waited_for() -> None:
    rollout = Rollout(KEYS, config(2, delay=1), rolling_back=False)
    begin(rollout)
    fail(rollout, 1)
    assert not rollout.lanes_done(1)
    rollout.observe(seen("t2", State.RUNNING), 1)
    assert not rollout.lanes_done(1.9)
    assert rollout.lanes_done(2)


def test_seven_of_ten_are_not_more_than_a_ratio_of_seven_tenths() -> None:
    rollout = Rollout(KEYS, config(0, ratio=0.7), rolling_back=False)
    begin(rollout)
    fail(rollout, *range(1, 8))
    assert rollout.verdict is None
    fail(rollout, 8)
    assert rollout.verdict is Verdict.PAUSE


def test_a_task_fails_once() -> None:
    rollout = Rollout(KEYS, config(0, ratio=0.1), rolling_back=False)
    begin(rollout)
    fail(rollout, 1, 1, 1)
    assert rollout.verdict is None


def test_tasks_that_this_update_did_not_make_do_not_count() -> None:
    rollout = Rollout(KEYS, config(1), rolling_back=False)
    begin(rollout)
    rollout.observe(seen("somebody", State.FAILED), 0)
    assert rollout.verdict is None


def test_a_task_that_started_longer_ago_than_monitor_does_not_count() -> None:
    rollout = Rollout(KEYS, config(0, monitor=5), rolling_back=False)
    begin(rollout)
    rollout.observe(seen("t1", State.RUNNING), 10)
    rollout.observe(seen("t2", State.RUNNING), 10)
    fail(rollout, 1, now=15.1)
    assert rollout.verdict is None
    fail(rollout, 2, now=15)
    assert rollout.verdict is Verdict.PAUSE


def test_a_delay_not_below_monitor_widens_the_watch_to_itself_and_a_second() -> None:
    assert Rollout(KEYS, config(delay=4, monitor=5), rolling_back=False).watch_seconds == 5
    assert Rollout(KEYS, config(delay=5, monitor=5), rolling_back=False).watch_seconds == 6


@pytest.mark.parametrize(
    ("action", "rolling_back", "verdict"),
    [
        (Action.CONTINUE, False, None),
        (Action.CONTINUE, True, None),
        (Action.PAUSE, False, Verdict.PAUSE),
        (Action.PAUSE, True, Verdict.PAUSE),
        (Action.ROLLBACK, False, Verdict.ROLL_BACK),
        (Action.ROLLBACK, True, Verdict.PAUSE),
    ],
)
def test_the_action_decides_and_a_rollback_is_not_rolled_back(
    action: "api.UpdateConfig.FailureAction.ValueType", rolling_back: bool, verdict: Verdict | None
) -> None:
    rollout = Rollout(KEYS, config(0, action=action), rolling_back=rolling_back)
    begin(rollout)
    fail(rollout, *range(1, 11))
    assert rollout.verdict is verdict


OLD = make_service(replicas=1)
NEW = make_service(replicas=1, version=1, image="new")


def decide(*tasks: api.Task) -> tuple[bool, str | None, list[str]] | None:
    change = change_of_slot(NEW, tasks, lambda task: None)
    if change is None:
        return None
    return change.create, change.keep.id if change.keep else None, [task.id for task in change.stop]


def test_a_slot_with_one_outdated_task_gets_a_new_one() -> None:
    assert decide(make_task(OLD, "old", slot=1)) == (True, None, ["old"])


def test_an_outdated_task_that_is_over_is_not_shut_down_again() -> None:
    over = make_task(OLD, "old", slot=1, state=State.COMPLETE, desired=State.SHUTDOWN)
    assert decide(over) == (True, None, [])


def test_a_slot_that_is_up_to_date_or_empty_is_left_alone() -> None:
    assert decide(make_task(NEW, "new", slot=1)) is None
    assert decide() is None


def test_a_released_clean_task_stays_and_all_others_go_clean_ones_too() -> None:
    assert decide(
        make_task(OLD, "old", slot=1),
        make_task(NEW, "ready", slot=1, state=State.READY, desired=State.READY),
        make_task(NEW, "failed", slot=1, state=State.FAILED),
        make_task(NEW, "runs", slot=1),
    ) == (False, "runs", ["old", "ready", "failed"])


def test_else_the_last_clean_task_that_waits_stays() -> None:
    waiting = [make_task(NEW, id, slot=1, state=State.READY, desired=State.READY) for id in ("a", "b")]
    assert decide(make_task(OLD, "old", slot=1), *waiting) == (False, "b", ["old", "a"])
