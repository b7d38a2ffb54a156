"""Drives one task: takes the pure steps of ``step.py`` and has the controller carry them out.

Source: contract/dispatcher-agent.md, 9.
"""

import asyncio
from collections.abc import Awaitable, Callable

from swarmkit.agent import step as rules
from swarmkit.agent.exec import Controller, ExecutorError
from swarmkit.agent.step import Next, Operation, Step
from swarmkit.aio import TaskOwner, cancel_and_wait
from swarmkit.api import messages as api
from swarmkit.clock import Clock
from swarmkit.log import get_logger

log = get_logger(__name__)

#: Pause before an operation is tried again, in seconds; an update of the task ends it early.
RETRY_PAUSE = 1.0

#: Told of the status at the start and after every step, before the next step begins.
Report = Callable[[str, api.TaskStatus], Awaitable[None]]


class TaskManager:
    """Takes one task towards its desired state, one operation of its controller at a time.

    Args:
        task: the task as assigned; its status is not read.
        status: where the task stands.
        controller: carries the operations out; the manager does not close it.
        report: stores and sends a status.
        after: work to wait for before the first step (the removal of an earlier task of the same id).
    """

    def __init__(
        self,
        task: api.Task,
        status: api.TaskStatus,
        controller: Controller,
        report: Report,
        clock: Clock,
        after: "asyncio.Task[None] | None" = None,
    ) -> None:
        self.controller = controller
        self._task = _without_status(task)
        self._status = rules.copy_of(status)
        self._report = report
        self._clock = clock
        self._after = after
        self._updated = False
        self._wake = asyncio.Event()
        self._operation: asyncio.Task[BaseException | None] | None = None
        self._owner = TaskOwner(f"task {task.id}")
        self._closed = False
        self._log = log.bind(task_id=task.id, service_id=task.service_id)

    @property
    def task(self) -> api.Task:
        """The newest task accepted, its status and meta blanked."""
        return self._task

    @property
    def status(self) -> api.TaskStatus:
        """Where the task stands."""
        return self._status

    def start(self) -> None:
        """Begin; call once."""
        self._owner.spawn(self._run(), "steps")

    def update(self, task: api.Task) -> bool:
        """Take a changed task and cancel the operation in flight; return whether the change was accepted.

        Not accepted: the same task again, another task, a desired state below the current one, and anything
        once the manager is closed.
        """
        new = _without_status(task)
        if self._closed or new.id != self._task.id or new == self._task:
            return False
        if new.desired_state < self._task.desired_state:
            self._log.warning(
                "ignoring a desired state that goes back",
                desired=rules.state_name(self._task.desired_state),
                wanted=rules.state_name(new.desired_state),
            )
            return False
        self._task = new
        self._updated = True
        self._wake.set()
        if self._operation is not None:
            self._operation.cancel()
        return True

    async def close(self) -> None:
        """Cancel the operation in flight, wait until it returned, and stop; the workload is left as it is."""
        self._closed = True
        await self._owner.close()

    async def _run(self) -> None:
        await self._report(self._task.id, self._status)
        if self._after is not None:
            await asyncio.wait([self._after])
        while True:
            self._wake.clear()
            await self._tell_controller()
            following = await self._advance()
            await self._report(self._task.id, self._status)
            if following is Next.IDLE:
                await self._wake.wait()
            elif following is Next.RETRY:
                await self._pause()

    async def _tell_controller(self) -> None:
        while self._updated:
            self._updated = False
            try:
                await self.controller.update(self._task)
            except Exception as error:
                # The step that follows does what the task wants, whether the controller took note or not.
                self._log.warning("the controller did not take an update", error=error)

    async def _advance(self) -> Next:
        step = rules.next_step(self._status.state, self._task.desired_state)
        error = None if step is None or step.operation is None else await self._operate(step.operation)
        new, following = rules.settle(self._status, step, error)
        if step is not None and new.state >= api.TaskState.STARTING:
            new = await self._observe(new, error)
        new = rules.stamp(self._status, new, self._clock.now())
        self._log_change(step, new, error)
        self._status = new
        return following

    async def _operate(self, operation: Operation) -> BaseException | None:
        """Run one operation in a task of its own, which ``update`` may cancel; return how it ended."""
        self._operation = asyncio.get_running_loop().create_task(self._attempt(operation))
        try:
            await asyncio.wait([self._operation])
            return asyncio.CancelledError() if self._operation.cancelled() else self._operation.result()
        finally:
            await cancel_and_wait(self._operation)
            self._operation = None

    async def _attempt(self, operation: Operation) -> BaseException | None:
        calls = {
            Operation.PREPARE: self.controller.prepare,
            Operation.START: self.controller.start,
            Operation.WAIT: self.controller.wait,
            Operation.SHUTDOWN: self.controller.shutdown,
        }
        try:
            await calls[operation]()
        except Exception as error:
            if not isinstance(error, (ExecutorError, OSError)):
                self._log.exception("unexpected error from the controller", operation=operation.value)
            return error
        return None

    async def _observe(self, status: api.TaskStatus, error: BaseException | None) -> api.TaskStatus:
        container = status.container if status.HasField("container") else None
        ports = status.port_status if status.HasField("port_status") else None
        try:
            container = await self.controller.container_status()
            ports = await self.controller.port_status()
        except Exception as failure:
            self._log.warning("cannot read the state of the container", error=failure)
        return rules.observe(status, error, container, ports)

    def _log_change(self, step: Step | None, new: api.TaskStatus, error: BaseException | None) -> None:
        if new.state == self._status.state:
            if error is not None and new.err != self._status.err:
                self._log.warning("trying again", step=step.message if step else "", error=new.err)
            return
        names = {"old": rules.state_name(self._status.state), "new": rules.state_name(new.state)}
        if new.state >= api.TaskState.FAILED:
            self._log.warning("task failed", **names, error=new.err, exit_code=new.container.exit_code)
        elif new.state >= api.TaskState.RUNNING:
            self._log.info("task advanced", **names)
        else:
            self._log.debug("task advanced", **names)

    async def _pause(self) -> None:
        waker = asyncio.ensure_future(self._wake.wait())
        sleeper = asyncio.ensure_future(self._clock.sleep(RETRY_PAUSE))
        try:
            await asyncio.wait([waker, sleeper], return_when=asyncio.FIRST_COMPLETED)
        finally:
            waker.cancel()
            sleeper.cancel()


def _without_status(task: api.Task) -> api.Task:
    copy = api.Task()
    copy.CopyFrom(task)
    copy.ClearField("status")
    copy.ClearField("meta")
    return copy
