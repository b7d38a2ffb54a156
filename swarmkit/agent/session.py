"""One session with one manager: its streams, its heartbeats, and its end.

Source: contract/dispatcher-agent.md, 3.5 and 6.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

from swarmkit.agent.assignments import Chain, from_tasks
from swarmkit.agent.manager import NOT_FOUND, UNIMPLEMENTED, Manager, ManagerError
from swarmkit.agent.reporter import SendError, Update
from swarmkit.aio import cancel_and_wait
from swarmkit.api import messages as api
from swarmkit.clock import Clock
from swarmkit.log import get_logger

log = get_logger(__name__)

#: Seconds within which a Session must be open and its first message received, and a heartbeat answered.
DISPATCHER_TIMEOUT = 5.0
#: Seconds within which a request with statuses must be answered. The original waits for ever.
REPORT_TIMEOUT = 30.0
#: Seconds within which the answer to a log subscription must be sent.
PUBLISH_TIMEOUT = 5.0
#: Heartbeat period in seconds for a manager that names none: the original would spin.
DEFAULT_HEARTBEAT_PERIOD = 5.0

_T = TypeVar("_T")


@dataclass(frozen=True)
class SessionHandlers:
    """What a session tells the agent; awaited in the session's own tasks.

    Attributes:
        registered: the manager took this node in.
        message: a session message arrived, the first one included.
        assignments: an assignments message arrived, in order and without gap.
    """

    registered: Callable[[], None]
    message: Callable[[api.SessionMessage], Awaitable[None]]
    assignments: Callable[[api.AssignmentsMessage], Awaitable[None]]


def _look_at(part: "asyncio.Task[None]") -> None:
    """See a task's error: streams that end together fail together, and one error is raised for all."""
    if not part.cancelled():
        part.exception()


class Session:
    """A session from its first request to its first error.

    Args:
        description: sent with the request; the agent ends the session when it is out of date.
        session_id: id of the previous session, empty for none: a manager that still knows it resumes it.
    """

    def __init__(
        self,
        manager: Manager,
        description: api.NodeDescription,
        session_id: str,
        handlers: SessionHandlers,
        clock: Clock,
    ) -> None:
        self.description = description
        self.session_id = session_id
        self.registered = False
        self._manager = manager
        self._handlers = handlers
        self._clock = clock
        self._introduced = asyncio.Event()  # the first message was handled
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._calls: set[asyncio.Task[Any]] = set()
        self._log_calls: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Open the session and keep it until ``end``, which returns, or its first error, which is raised.

        Raises:
            ManagerError: any stream or heartbeat failed, or ended.
        """
        stream = self._manager.session(
            api.SessionRequest(description=self.description, session_id=self.session_id)
        )
        try:
            async with aclosing(stream):
                first = await self._within(DISPATCHER_TIMEOUT, anext(stream, None), "open the session")
                if first is None or not first.session_id:
                    raise ManagerError("OK", "the manager opened no session")
                self.session_id = first.session_id
                self.registered = True
                self._handlers.registered()
                await self._serve(first, stream)
        finally:
            self.registered = False
            if not self._failure.cancel() and not self._failure.cancelled():
                self._failure.exception()  # taken note of: another error came first
            for call in (*self._calls, *self._log_calls):
                await cancel_and_wait(call)

    def end(self) -> None:
        """End the session in order: ``run`` returns."""
        if not self._failure.done():
            self._failure.set_result(None)

    async def report(self, updates: Sequence[Update]) -> None:
        """Send statuses; a failure, but for NOT_FOUND, ends the session.

        Raises:
            SendError: not delivered, or unknown; to be sent again in another session.
        """
        request = api.UpdateTaskStatusRequest(session_id=self.session_id)
        for task_id, status in updates:
            request.updates.add(task_id=task_id, status=status)
        call = asyncio.get_running_loop().create_task(
            self._within(REPORT_TIMEOUT, self._manager.update_task_status(request), "take task statuses")
        )
        self._calls.add(call)
        try:
            await asyncio.wait([call])
            if call.cancelled():
                raise SendError("the session ended")
            call.result()
        except ManagerError as error:
            if error.code == NOT_FOUND:
                log.info("the manager does not know this node; dropping statuses", count=len(updates))
                return
            if not self._failure.done():
                self._failure.set_exception(error)
            raise SendError(str(error)) from error
        finally:
            self._calls.discard(call)
            await cancel_and_wait(call)

    async def _serve(
        self, first: api.SessionMessage, stream: AsyncGenerator[api.SessionMessage, None]
    ) -> None:
        loop = asyncio.get_running_loop()
        parts = [
            loop.create_task(self._heartbeats()),
            loop.create_task(self._messages(first, stream)),
            loop.create_task(self._assignments()),
            loop.create_task(self._subscriptions()),
        ]
        for part in parts:
            part.add_done_callback(_look_at)
        try:
            await asyncio.wait([*parts, self._failure], return_when=asyncio.FIRST_COMPLETED)
        finally:
            # All at once: whoever cancels this a second time leaves none of them running.
            for part in parts:
                part.cancel()
            await asyncio.wait(parts)
        for part in parts:
            if not part.cancelled():
                part.result()  # raises: no part ends without an error
        self._failure.result()

    async def _heartbeats(self) -> None:
        request = api.HeartbeatRequest(session_id=self.session_id)
        while True:
            response = await self._within(
                DISPATCHER_TIMEOUT, self._manager.heartbeat(request), "answer a heartbeat"
            )
            period = response.period.ToTimedelta().total_seconds()
            await self._clock.sleep(period if period > 0 else DEFAULT_HEARTBEAT_PERIOD)

    async def _messages(
        self, first: api.SessionMessage, stream: AsyncGenerator[api.SessionMessage, None]
    ) -> None:
        await self._handlers.message(first)
        self._introduced.set()
        async for message in stream:
            await self._handlers.message(message)
        raise ManagerError("OK", "the manager ended the session stream")

    async def _assignments(self) -> None:
        """Receive assignments; a gap opens the stream anew, a gap right at its beginning ends the session.

        The executor knows its node before it gets tasks.
        """
        await self._introduced.wait()
        reopened = False
        while True:
            received = await self._assignments_until_gap()
            if received is None:
                await self._all_tasks()
            if reopened and received == 0:
                raise ManagerError("OK", "the manager's assignments do not begin with a complete set")
            reopened = True
            log.warning("an assignments message was missed, asking for the complete set")

    async def _assignments_until_gap(self) -> int | None:
        """Return the number of messages before a gap; None if the manager has no Assignments stream."""
        chain = Chain()
        received = 0
        stream = self._manager.assignments(api.AssignmentsRequest(session_id=self.session_id))
        async with aclosing(stream):
            try:
                async for message in stream:
                    if not chain.accepts(message):
                        return received
                    received += 1
                    await self._handlers.assignments(message)
            except ManagerError as error:
                if error.code == UNIMPLEMENTED and not received:
                    return None
                raise
        raise ManagerError("OK", "the manager ended the assignments stream")

    async def _all_tasks(self) -> None:
        log.info("the manager has no assignments stream, using the older tasks stream")
        stream = self._manager.tasks(api.TasksRequest(session_id=self.session_id))
        async with aclosing(stream):
            async for message in stream:
                await self._handlers.assignments(from_tasks(message))
        raise ManagerError("OK", "the manager ended the tasks stream")

    async def _subscriptions(self) -> None:
        """Listen for log subscriptions, and answer each: no logs from here.

        A reader without follow waits until every node finished, so each subscription is finished at once.
        """
        stream = self._manager.subscriptions()
        async with aclosing(stream):
            try:
                async for subscription in stream:
                    if not subscription.close:
                        self._finish_subscription(subscription.id)
            except ManagerError as error:
                if error.code != UNIMPLEMENTED:
                    raise
                log.warning("the manager has no log broker: service logs are not available")
                await asyncio.get_running_loop().create_future()
        raise ManagerError("OK", "the manager ended the stream of log subscriptions")

    def _finish_subscription(self, subscription_id: str) -> None:
        log.info("this node's executor sends no service logs", subscription_id=subscription_id)
        task = asyncio.get_running_loop().create_task(self._publish_end(subscription_id))
        self._log_calls.add(task)
        task.add_done_callback(self._log_calls.discard)

    async def _publish_end(self, subscription_id: str) -> None:
        end = api.PublishLogsMessage(subscription_id=subscription_id, close=True)
        try:
            await self._within(PUBLISH_TIMEOUT, self._manager.publish_logs([end]), "take logs")
        except ManagerError as error:
            # Managers of the original answer the end of a stream with an error instead of a response.
            log.debug("ending a log subscription", subscription_id=subscription_id, error=error)

    async def _within(self, seconds: float, work: Awaitable[_T], what: str) -> _T:
        try:
            async with asyncio.timeout(seconds):
                return await work
        except TimeoutError as error:
            raise ManagerError(
                "DEADLINE_EXCEEDED", f"the manager did not {what} within {seconds:g} s"
            ) from error
