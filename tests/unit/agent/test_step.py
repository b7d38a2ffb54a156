"""Rules of one step of a task (contract/dispatcher-agent.md, 9)."""

import asyncio
import datetime
import itertools

import pytest

from swarmkit.agent import step as rules
from swarmkit.agent.exec import (
    AlreadyDoneError,
    DependencyNotReadyError,
    ExecutorError,
    TaskExitError,
    TemporaryError,
)
from swarmkit.agent.step import Next, Operation, Step
from swarmkit.api import messages as api

State = api.TaskState
STATES = sorted(State.values())
NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)


def status(state: api.TaskState.ValueType, message: str = "before", err: str = "") -> api.TaskStatus:
    return api.TaskStatus(state=state, message=message, err=err)


@pytest.mark.parametrize(
    ("state", "desired", "expected"),
    [
        (State.ASSIGNED, State.RUNNING, Step(None, State.ACCEPTED, "accepted")),
        (State.NEW, State.RUNNING, Step(None, State.ACCEPTED, "accepted")),
        (State.PENDING, State.RUNNING, Step(None, State.ACCEPTED, "accepted")),
        (State.ACCEPTED, State.RUNNING, Step(None, State.PREPARING, "preparing")),
        (State.PREPARING, State.RUNNING, Step(Operation.PREPARE, State.READY, "prepared")),
        (State.READY, State.RUNNING, Step(None, State.STARTING, "starting")),
        (State.STARTING, State.RUNNING, Step(Operation.START, State.RUNNING, "started")),
        (State.RUNNING, State.RUNNING, Step(Operation.WAIT, State.COMPLETE, "finished")),
        (State.RUNNING, State.COMPLETE, Step(Operation.WAIT, State.COMPLETE, "finished")),
        (State.READY, State.READY, None),
        (State.ACCEPTED, State.ACCEPTED, None),
        (State.PREPARING, State.PREPARING, Step(Operation.PREPARE, State.READY, "prepared")),
        (State.STARTING, State.READY, None),
        (State.RUNNING, State.READY, None),
        (State.COMPLETE, State.COMPLETE, None),
        (State.FAILED, State.RUNNING, None),
    ],
)
def test_a_step_follows_the_table(
    state: api.TaskState.ValueType, desired: api.TaskState.ValueType, expected: Step | None
) -> None:
    assert rules.next_step(state, desired) == expected


@pytest.mark.parametrize("desired", [s for s in STATES if s >= State.SHUTDOWN])
@pytest.mark.parametrize("state", STATES)
def test_an_ordered_end_shuts_down_what_lives_and_nothing_else(
    state: api.TaskState.ValueType, desired: api.TaskState.ValueType
) -> None:
    step = rules.next_step(state, desired)
    if state >= State.COMPLETE:
        assert step is None
    else:
        assert step == Step(Operation.SHUTDOWN, State.SHUTDOWN, "shutdown")


@pytest.mark.parametrize(("state", "desired"), list(itertools.product(STATES, STATES)))
def test_no_step_goes_backwards_or_beyond_shutdown(
    state: api.TaskState.ValueType, desired: api.TaskState.ValueType
) -> None:
    step = rules.next_step(state, desired)
    if step is not None:
        assert state < step.state <= State.SHUTDOWN


def test_success_takes_the_state_and_clears_the_error() -> None:
    step = Step(Operation.START, State.RUNNING, "started")
    new, following = rules.settle(status(State.STARTING, err="engine unreachable"), step, None)
    assert (new.state, new.message, new.err, following) == (State.RUNNING, "started", "", Next.AGAIN)


@pytest.mark.parametrize(
    ("state", "operation", "reached"),
    [(State.PREPARING, Operation.PREPARE, State.READY), (State.STARTING, Operation.START, State.RUNNING)],
)
def test_already_done_counts_as_success(
    state: api.TaskState.ValueType, operation: Operation, reached: api.TaskState.ValueType
) -> None:
    step = rules.next_step(state, State.RUNNING)
    assert step is not None
    assert step.operation is operation
    new, following = rules.settle(status(state), step, AlreadyDoneError("already there"))
    assert (new.state, new.err, following) == (reached, "", Next.AGAIN)


def test_nothing_to_do_changes_nothing() -> None:
    before = status(State.COMPLETE, "finished", "kept")
    assert rules.settle(before, None, None) == (before, Next.IDLE)


@pytest.mark.parametrize("error", [asyncio.CancelledError(), TimeoutError()])
def test_an_interrupted_operation_is_retried_and_leaves_the_status(error: BaseException) -> None:
    before = status(State.RUNNING, "started")
    step = Step(Operation.WAIT, State.COMPLETE, "finished")
    assert rules.settle(before, step, error) == (before, Next.RETRY)


def test_a_temporary_error_shows_and_keeps_the_state() -> None:
    step = Step(Operation.PREPARE, State.READY, "prepared")
    new, following = rules.settle(status(State.PREPARING), step, DependencyNotReadyError("no secret yet"))
    assert (new.state, new.message, new.err) == (State.PREPARING, "before", "no secret yet")
    assert following is Next.RETRY


@pytest.mark.parametrize("state", [s for s in STATES if s < State.COMPLETE])
def test_a_fatal_error_rejects_before_starting_and_fails_from_there_on(
    state: api.TaskState.ValueType,
) -> None:
    step = Step(Operation.SHUTDOWN, State.SHUTDOWN, "shutdown")
    new, following = rules.settle(status(state), step, RuntimeError("broken"))
    assert new.state == (State.REJECTED if state < State.STARTING else State.FAILED)
    assert (new.message, new.err, following) == ("before", "broken", Next.AGAIN)


def test_a_temporary_error_is_recognised_through_five_wrappings() -> None:
    error: Exception = TemporaryError("engine unreachable")
    for depth in range(5):
        wrapped = RuntimeError(f"level {depth}")
        wrapped.__cause__ = error
        error = wrapped
    assert rules.is_temporary(error)


def test_an_error_that_only_happened_while_handling_a_temporary_one_is_not_temporary() -> None:
    error = RuntimeError("no such image")
    error.__context__ = TemporaryError("engine unreachable")
    assert not rules.is_temporary(error)


def test_a_cycle_of_causes_ends() -> None:
    first, second = RuntimeError("a"), RuntimeError("b")
    first.__cause__, second.__cause__ = second, first
    assert not rules.is_temporary(first)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (State.ASSIGNED, State.REJECTED),
        (State.READY, State.REJECTED),
        (State.STARTING, State.FAILED),
        (State.RUNNING, State.FAILED),
        (State.COMPLETE, State.COMPLETE),
        (State.SHUTDOWN, State.SHUTDOWN),
    ],
)
def test_a_controller_that_cannot_be_resolved_ends_the_task(
    before: api.TaskState.ValueType, after: api.TaskState.ValueType
) -> None:
    new = rules.resolve(status(before), ExecutorError("exec: unsupported runtime"))
    assert new.state == after
    assert (new.message, new.err) == ("resolving controller failed", "exec: unsupported runtime")
    assert not new.HasField("timestamp")


def test_a_resolved_controller_accepts_the_task_once() -> None:
    new = rules.resolve(status(State.ASSIGNED, err="old"), None)
    assert (new.state, new.message, new.err) == (State.ACCEPTED, "accepted", "")
    running = status(State.RUNNING, "started", "engine unreachable")
    assert rules.resolve(running, None) == running


def test_the_container_status_of_an_error_goes_first_and_its_exit_code_overrides() -> None:
    seen = api.ContainerStatus(container_id="seen", pid=7, exit_code=0)
    carried = api.ContainerStatus(container_id="carried", exit_code=3)
    failed = status(State.FAILED)
    new = rules.observe(failed, TaskExitError("non-zero exit (4)", 4, carried), seen, None)
    assert new.container == api.ContainerStatus(container_id="carried", exit_code=4)
    new = rules.observe(failed, TaskExitError("non-zero exit (4)", 4), seen, None)
    assert new.container == api.ContainerStatus(container_id="seen", pid=7, exit_code=4)


def test_without_a_container_the_previous_status_stays_or_an_empty_one_is_made() -> None:
    assert rules.observe(status(State.FAILED), None, None, None).HasField("container")
    before = status(State.RUNNING)
    before.container.container_id = "kept"
    assert rules.observe(before, None, None, None).container.container_id == "kept"


def test_port_status_follows_the_controller() -> None:
    ports = api.PortStatus(ports=[api.PortConfig(target_port=80, published_port=8080)])
    running = rules.observe(status(State.RUNNING), None, None, ports)
    assert running.port_status == ports
    assert not rules.observe(running, None, None, None).HasField("port_status")


def test_the_timestamp_moves_only_with_the_status() -> None:
    old = status(State.RUNNING)
    old.timestamp.FromDatetime(NOW)
    later = NOW + datetime.timedelta(seconds=9)
    assert rules.stamp(old, rules.copy_of(old), later) == old
    changed = rules.copy_of(old)
    changed.err = "engine unreachable"
    assert rules.stamp(old, changed, later).timestamp.ToDatetime(datetime.UTC) == later
    assert not rules.stamp(status(State.NEW), status(State.NEW), later).HasField("timestamp")


def test_an_error_text_is_one_line_of_bounded_length() -> None:
    assert rules.error_text(RuntimeError("a\n b\t c")) == "a b c"
    assert rules.error_text(RuntimeError("")) == "RuntimeError"
    assert len(rules.error_text(RuntimeError("x" * 5000))) == rules.MAX_ERROR_LENGTH


def test_a_state_from_the_future_has_a_name() -> None:
    assert rules.state_name(State.READY) == "READY"
    assert rules.state_name(850) == "850"  # type: ignore[arg-type]
