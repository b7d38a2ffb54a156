"""Whatever happens to a task, its states rise, and it ends where its desired state allows."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from swarmkit.agent import step as rules
from swarmkit.agent.exec import AlreadyDoneError, TaskExitError, TemporaryError
from swarmkit.agent.step import Next
from swarmkit.api import messages as api

State = api.TaskState

ERRORS = st.sampled_from(
    [
        None,
        None,
        None,
        AlreadyDoneError("already"),
        TemporaryError("engine unreachable"),
        asyncio.CancelledError(),
        TimeoutError(),
        TaskExitError("task: non-zero exit (1)", 1),
        RuntimeError("broken"),
    ]
)
DESIRED = st.sampled_from([State.ACCEPTED, State.READY, State.RUNNING, State.SHUTDOWN, State.REMOVE])


@given(st.sampled_from(sorted(State.values())), st.lists(st.tuples(DESIRED, ERRORS), min_size=1, max_size=40))
def test_states_rise_and_an_error_text_stands_exactly_where_something_failed(
    start: api.TaskState.ValueType, happenings: list[tuple[api.TaskState.ValueType, BaseException | None]]
) -> None:
    status = api.TaskStatus(state=start)
    desired = State.ACCEPTED
    for wanted, error in happenings:
        desired = max(desired, wanted)
        step = rules.next_step(status.state, desired)
        happened = None if step is None or step.operation is None else error
        new, following = rules.settle(status, step, happened)
        assert new.state >= status.state
        assert (following is Next.IDLE) == (step is None)
        if following is Next.RETRY:
            assert new.state == status.state
        if new.state in (State.FAILED, State.REJECTED) and new.state != status.state:
            assert new.err
        if step is not None and happened is None:
            assert not new.err
        status = new


@given(st.sampled_from(sorted(State.values())), DESIRED)
def test_with_nothing_failing_a_task_comes_to_rest(
    start: api.TaskState.ValueType, desired: api.TaskState.ValueType
) -> None:
    status = api.TaskStatus(state=start)
    for _ in range(len(State.values())):
        step = rules.next_step(status.state, desired)
        if step is None:
            break
        status, _ = rules.settle(status, step, None)
    assert rules.next_step(status.state, desired) is None
    if desired >= State.SHUTDOWN:
        assert status.state >= State.COMPLETE
    elif start <= desired:
        assert status.state >= desired


@given(st.text(max_size=3000))
def test_an_error_text_is_never_empty_never_long_and_one_line(text: str) -> None:
    result = rules.error_text(RuntimeError(text))
    assert 0 < len(result) <= rules.MAX_ERROR_LENGTH
    assert len(result.splitlines()) == 1
