"""Statuses reach the managers at least once and never go backwards (contract/dispatcher-agent.md, 7)."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from swarmkit.agent.reporter import BATCH_SIZE, Reporter, SendError, Update
from swarmkit.aio import cancel_and_wait
from swarmkit.api import messages as api
from tests.fakes.agent_executor import until

State = api.TaskState


def status(state: api.TaskState.ValueType, message: str = "") -> api.TaskStatus:
    return api.TaskStatus(state=state, message=message)


class Sink:
    """Where statuses arrive; ``errors`` are raised first, one per request."""

    def __init__(self) -> None:
        self.requests: list[list[tuple[str, api.TaskState.ValueType]]] = []
        self.errors: list[SendError] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, updates: Sequence[Update]) -> None:
        await self.gate.wait()
        await asyncio.sleep(0.1)
        if self.errors:
            raise self.errors.pop(0)
        self.requests.append([(task_id, status.state) for task_id, status in updates])


@asynccontextmanager
async def running(sink: Sink) -> AsyncIterator[Reporter]:
    reporter = Reporter(sink)
    task = asyncio.ensure_future(reporter.run())
    try:
        yield reporter
    finally:
        await cancel_and_wait(task)


async def test_one_pending_status_per_task_and_the_newest_wins() -> None:
    sink = Sink()
    sink.gate.clear()
    async with running(sink) as reporter:
        reporter.update("a", status(State.ACCEPTED))
        await asyncio.sleep(1)  # now in flight
        for state in (State.PREPARING, State.READY, State.STARTING):
            reporter.update("a", status(state))
        reporter.update("b", status(State.ACCEPTED))
        sink.gate.set()
        await until(lambda: len(sink.requests) == 2)
        assert sink.requests == [[("a", State.ACCEPTED)], [("a", State.STARTING), ("b", State.ACCEPTED)]]


async def test_a_lower_or_equal_status_does_not_replace_the_pending_one() -> None:
    sink = Sink()
    async with running(sink) as reporter:
        reporter.update("a", status(State.RUNNING))
        reporter.update("a", status(State.READY))
        reporter.update("a", status(State.RUNNING))
        await asyncio.sleep(5)
        assert sink.requests == [[("a", State.RUNNING)]]


async def test_a_failed_status_is_sent_again_unless_a_newer_one_came() -> None:
    sink = Sink()
    sink.errors = [SendError("lost")]
    async with running(sink) as reporter:
        reporter.update("a", status(State.READY))
        reporter.update("b", status(State.READY))
        await asyncio.sleep(0.05)  # in flight
        reporter.update("a", status(State.RUNNING))
        await until(lambda: len(sink.requests) == 2)
        assert sorted(update for request in sink.requests for update in request) == [
            ("a", State.RUNNING),
            ("b", State.READY),
        ]


async def test_after_a_failure_statuses_go_one_by_one_until_one_is_taken() -> None:
    sink = Sink()
    sink.errors = [SendError("one of them is bad"), SendError("still")]
    async with running(sink) as reporter:
        for number in range(5):
            reporter.update(f"task-{number}", status(State.READY))
        await until(lambda: sum(map(len, sink.requests)) == 5)
        assert [len(request) for request in sink.requests] == [1, 4]


async def test_a_request_is_bounded() -> None:
    sink = Sink()
    async with running(sink) as reporter:
        for number in range(BATCH_SIZE + 20):
            reporter.update(f"task-{number}", status(State.READY))
        await until(lambda: len(sink.requests) == 2)
        assert [len(request) for request in sink.requests] == [BATCH_SIZE, 20]


async def test_a_status_changed_after_it_was_queued_is_sent_as_it_was() -> None:
    sink = Sink()
    async with running(sink) as reporter:
        mine = status(State.READY)
        reporter.update("a", mine)
        mine.state = State.NEW
        await until(lambda: bool(sink.requests))
        assert sink.requests == [[("a", State.READY)]]


async def test_the_final_state_of_a_hundred_tasks_arrives_in_order_despite_random_failures() -> None:
    source = random.Random(7)
    last: dict[str, api.TaskState.ValueType] = {}

    async def send(updates: Sequence[Update]) -> None:
        await asyncio.sleep(source.random())
        if source.random() < 0.5:
            raise SendError("lost")
        for task_id, new in updates:
            assert new.state >= last.get(task_id, State.NEW)
            last[task_id] = new.state

    reporter = Reporter(send)
    task = asyncio.ensure_future(reporter.run())

    async def advance(task_id: str) -> None:
        for state in (State.ACCEPTED, State.PREPARING, State.READY, State.STARTING, State.RUNNING):
            reporter.update(task_id, status(state))
            await asyncio.sleep(10 * source.random())

    names = [f"task-{number}" for number in range(100)]
    await asyncio.gather(*(advance(name) for name in names))
    await until(lambda: all(last.get(name) == State.RUNNING for name in names), 600)
    await cancel_and_wait(task)
