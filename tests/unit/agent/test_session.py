"""One session: registration, heartbeats, assignments, log subscriptions, its end.

contract/dispatcher-agent.md, 3.5 and 6; cases 42, 49 and 52.
"""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from swarmkit.agent.manager import ManagerError
from swarmkit.agent.reporter import SendError
from swarmkit.agent.session import Session, SessionHandlers
from swarmkit.aio import cancel_and_wait
from swarmkit.api import messages as api
from tests.fakes.agent_executor import until
from tests.fakes.agent_manager import FakeManager, complete, incremental, make_task
from tests.fakes.loop import VirtualClock

STATUS = api.TaskStatus(state=api.TaskState.RUNNING)


class Talk:
    """A session under way and what it told."""

    def __init__(self, manager: FakeManager, clock: VirtualClock, session_id: str) -> None:
        handlers = SessionHandlers(self.note_registered, self.note_message, self.note_assignments)
        description = api.NodeDescription(hostname="node-1")
        self.session = Session(manager, description, session_id, handlers, clock)
        self.registered = 0
        self.messages: list[api.SessionMessage] = []
        self.applied: list[api.AssignmentsMessage] = []
        self.slow = 0.0
        self.task = asyncio.ensure_future(self.session.run())

    def note_registered(self) -> None:
        self.registered += 1

    async def note_message(self, message: api.SessionMessage) -> None:
        self.messages.append(message)

    async def note_assignments(self, message: api.AssignmentsMessage) -> None:
        await asyncio.sleep(self.slow)
        self.applied.append(message)

    async def error(self) -> ManagerError:
        with pytest.raises(ManagerError) as caught:
            await asyncio.wait_for(self.task, 60)
        return caught.value


@asynccontextmanager
async def talking(manager: FakeManager, clock: VirtualClock, session_id: str = "") -> AsyncIterator[Talk]:
    talk = Talk(manager, clock, session_id)
    try:
        yield talk
    finally:
        await cancel_and_wait(talk.task)


async def test_the_request_carries_description_and_previous_id(clock: VirtualClock) -> None:
    manager = FakeManager("new")
    async with talking(manager, clock, "old") as talk:
        await until(lambda: talk.registered == 1)
        (request,) = manager.requests
        assert (request.session_id, request.description.hostname) == ("old", "node-1")
        assert talk.session.session_id == "new"
        assert talk.session.registered


async def test_a_silent_manager_ends_the_session_after_five_seconds(clock: VirtualClock) -> None:
    manager = FakeManager()
    manager.silent = True
    async with talking(manager, clock) as talk:
        error = await talk.error()
        assert error.code == "DEADLINE_EXCEEDED"
        assert clock.monotonic() == pytest.approx(5.0)
        assert talk.registered == 0


async def test_only_the_first_message_names_the_session(clock: VirtualClock) -> None:
    manager = FakeManager("first")
    async with talking(manager, clock) as talk:
        await until(lambda: talk.registered == 1)
        manager.sessions.put(api.SessionMessage(session_id="second"))
        await until(lambda: len(talk.messages) == 2)
        assert talk.session.session_id == "first"


async def test_a_session_without_id_is_refused(clock: VirtualClock) -> None:
    manager = FakeManager("")
    async with talking(manager, clock) as talk:
        assert "opened no session" in str(await talk.error())


async def test_the_first_heartbeat_is_sent_at_once_and_the_next_after_the_period(clock: VirtualClock) -> None:
    manager = FakeManager()
    manager.period = 3.0
    async with talking(manager, clock) as talk:
        await until(lambda: talk.registered == 1)
        await asyncio.sleep(10)
        assert [round(beat) for beat in manager.beats] == [0, 3, 6, 9]


async def test_a_manager_without_a_period_does_not_make_the_agent_spin(clock: VirtualClock) -> None:
    manager = FakeManager()
    manager.period = 0.0
    async with talking(manager, clock):
        await asyncio.sleep(11)
        assert len(manager.beats) == 3


async def test_heartbeats_go_on_while_assignments_are_applied(clock: VirtualClock) -> None:
    manager = FakeManager()
    async with talking(manager, clock) as talk:
        await until(lambda: bool(manager.assignment_streams))
        talk.slow = 60.0
        manager.assignment_streams[0].put(complete(make_task("a")))
        await asyncio.sleep(31)
        assert len(manager.beats) == 7


async def test_a_failed_heartbeat_ends_the_session(clock: VirtualClock) -> None:
    manager = FakeManager()
    manager.heartbeat_error = ManagerError("NOT_FOUND", "node not registered")
    async with talking(manager, clock) as talk:
        assert (await talk.error()).code == "NOT_FOUND"
        assert not talk.session.registered


async def test_the_end_of_any_stream_ends_the_session(clock: VirtualClock) -> None:
    for which in ("sessions", "assignments", "subscription_stream"):
        manager = FakeManager()
        async with talking(manager, clock) as talk:
            await until(lambda m=manager: bool(m.assignment_streams))  # type: ignore[misc]
            stream = manager.assignment_streams[0] if which == "assignments" else getattr(manager, which)
            stream.put(None)
            assert "ended" in str(await talk.error())


async def test_an_error_of_any_stream_is_the_sessions(clock: VirtualClock) -> None:
    for which in ("sessions", "assignments", "subscription_stream"):
        manager = FakeManager()
        async with talking(manager, clock) as talk:
            await until(lambda m=manager: bool(m.assignment_streams))  # type: ignore[misc]
            stream = manager.assignment_streams[0] if which == "assignments" else getattr(manager, which)
            stream.put(ManagerError("ABORTED", "dispatcher is stopped"))
            assert (await talk.error()).code == "ABORTED"
            assert manager.assignment_streams[0].closed


async def test_an_ordered_end_is_no_error(clock: VirtualClock) -> None:
    manager = FakeManager()
    async with talking(manager, clock) as talk:
        await until(lambda: talk.registered == 1)
        talk.session.end()
        await asyncio.wait_for(talk.task, 1)


async def test_a_gap_is_not_applied_and_opens_exactly_one_new_stream(clock: VirtualClock) -> None:
    manager = FakeManager()
    async with talking(manager, clock) as talk:
        await until(lambda: bool(manager.assignment_streams))
        first = manager.assignment_streams[0]
        first.put(complete(make_task("a"), results_in="1"))
        first.put(incremental(make_task("b"), applies_to="1", results_in="2"))
        first.put(incremental(make_task("lost"), applies_to="3", results_in="4"))
        await until(lambda: len(manager.assignment_streams) == 2)
        assert first.closed
        second = manager.assignment_streams[1]
        second.put(complete(make_task("c"), results_in="1"))
        second.put(incremental(make_task("d"), applies_to="1", results_in="2"))
        await until(lambda: len(talk.applied) == 4)
        await asyncio.sleep(10)
        names = [message.changes[0].assignment.task.id for message in talk.applied]
        assert names == ["a", "b", "c", "d"]
        assert len(manager.assignment_streams) == 2
        assert not second.closed


async def test_a_new_stream_that_begins_with_a_gap_ends_the_session(clock: VirtualClock) -> None:
    manager = FakeManager()
    async with talking(manager, clock) as talk:
        await until(lambda: bool(manager.assignment_streams))
        manager.assignment_streams[0].put(incremental(make_task("a"), applies_to="9", results_in="10"))
        await until(lambda: len(manager.assignment_streams) == 2)
        manager.assignment_streams[1].put(incremental(make_task("a"), applies_to="9", results_in="10"))
        assert "complete set" in str(await talk.error())
        assert talk.applied == []


async def test_without_an_assignments_stream_the_tasks_stream_is_used(clock: VirtualClock) -> None:
    manager = FakeManager()
    manager.no_assignments = True
    async with talking(manager, clock) as talk:
        manager.task_stream.put(api.TasksMessage(tasks=[make_task("a")]))
        manager.task_stream.put(api.TasksMessage())
        await until(lambda: len(talk.applied) == 2)
        assert all(message.type == api.AssignmentsMessage.COMPLETE for message in talk.applied)
        manager.task_stream.put(None)
        assert "tasks stream" in str(await talk.error())


async def test_a_manager_without_log_broker_keeps_its_session(clock: VirtualClock) -> None:
    manager = FakeManager()
    manager.subscription_stream.put(ManagerError("UNIMPLEMENTED", "unknown service LogBroker"))
    async with talking(manager, clock) as talk:
        await asyncio.sleep(60)
        assert talk.session.registered


async def test_a_log_subscription_is_finished_at_once(clock: VirtualClock) -> None:
    manager = FakeManager()
    async with talking(manager, clock) as talk:
        manager.subscription_stream.put(api.SubscriptionMessage(id="s"))
        manager.subscription_stream.put(api.SubscriptionMessage(id="s", close=True))
        await asyncio.sleep(1)
        assert manager.published == [api.PublishLogsMessage(subscription_id="s", close=True)]
        assert talk.session.registered


async def test_a_status_answered_not_found_is_dropped_and_the_session_lives(clock: VirtualClock) -> None:
    manager = FakeManager()
    manager.status_errors = [ManagerError("NOT_FOUND", "node not registered")]
    async with talking(manager, clock) as talk:
        await until(lambda: talk.registered == 1)
        await talk.session.report([("a", STATUS)])
        assert manager.statuses == []
        await asyncio.sleep(10)
        assert talk.session.registered


async def test_any_other_error_of_a_status_ends_the_session(clock: VirtualClock) -> None:
    manager = FakeManager()
    manager.status_errors = [ManagerError("PERMISSION_DENIED", "task belongs to another node")]
    async with talking(manager, clock) as talk:
        await until(lambda: talk.registered == 1)
        with pytest.raises(SendError):
            await talk.session.report([("a", STATUS)])
        assert (await talk.error()).code == "PERMISSION_DENIED"


async def test_a_status_in_flight_when_the_session_ends_is_not_delivered(clock: VirtualClock) -> None:
    manager = FakeManager()
    async with talking(manager, clock) as talk:
        await until(lambda: talk.registered == 1)
        sending = asyncio.ensure_future(talk.session.report([("a", STATUS)]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        talk.session.end()
        with pytest.raises(SendError):
            await sending
        assert manager.statuses == []


async def test_a_manager_that_ends_all_streams_at_once_leaves_no_error_unseen(clock: VirtualClock) -> None:
    unseen: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
    manager = FakeManager()
    async with talking(manager, clock) as talk:
        await until(lambda: bool(manager.assignment_streams))
        manager.assignment_streams[0].put(None)
        manager.subscription_stream.put(None)
        manager.sessions.put(None)
        assert str(await talk.error()) == "the manager ended the session stream (OK)"
    del talk
    gc.collect()
    assert unseen == []


async def test_a_session_that_is_cancelled_twice_leaves_nothing_running(clock: VirtualClock) -> None:
    manager = FakeManager()
    async with talking(manager, clock) as talk:
        await until(lambda: bool(manager.assignment_streams))
        talk.task.cancel()
        await asyncio.sleep(0)
        talk.task.cancel()
        await asyncio.wait([talk.task])
        await asyncio.sleep(1)
        assert asyncio.all_tasks() == {asyncio.current_task()}
