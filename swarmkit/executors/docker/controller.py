"""Runs one task as one container, addressed by name; the agent calls one operation at a time.

Source: contract/executor.md, 11. What blocks is in ``engine.py``; what an answer means is in ``errors.py``.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from swarmkit.agent.exec import AlreadyDoneError, ExecutorError, TaskExitError, TemporaryError
from swarmkit.aio import TaskOwner
from swarmkit.api import messages as api
from swarmkit.api.naming import task_name
from swarmkit.clock import Clock
from swarmkit.executors.docker import container
from swarmkit.executors.docker.engine import Engine
from swarmkit.executors.docker.errors import AWAY, EngineError, Kind
from swarmkit.executors.docker.events import EventStream
from swarmkit.executors.docker.mounts import directories_to_make, volumes_to_create
from swarmkit.executors.docker.pulls import Pulls
from swarmkit.log import get_logger

T = TypeVar("T")
Json = dict[str, Any]

#: A watched container is looked at this often, in seconds, though nothing was heard of it: an engine drops
#: events when it is hurried.
LOOK_PAUSE = 60.0
#: Longest pause between looks while the engine is away, in seconds; its event stream's return ends it.
AWAY_PAUSE = 10.0
#: An outage shorter than this is not told in a task's status, in seconds (contract/executor.md, 15).
AWAY_GRACE = 60.0
#: What was seen so short a time ago is not asked for again, in seconds: a step is followed by its status.
SAME_LOOK = 0.05
#: Pause between looks at a container whose removal is under way, and how often we look.
REMOVAL_PAUSE = 0.2
REMOVAL_LOOKS = 50
#: Grace of a container stopped for being unhealthy, in seconds.
UNHEALTHY_GRACE_SECONDS = 10

log = get_logger(__name__)


class ControllerClosedError(ExecutorError):
    """The controller was closed; nothing can be asked of it any more."""

    def __init__(self) -> None:
        super().__init__("exec: controller closed")


class DestroyedError(ExecutorError):
    """The container was removed behind our back."""

    def __init__(self) -> None:
        super().__init__("dockerexec: container destroyed")


class UnhealthyError(TaskExitError):
    """The container's health check failed; it has been stopped."""

    def __init__(self, inspected: Json) -> None:
        status = container.container_status(inspected)
        super().__init__("dockerexec: unhealthy container", status.exit_code, status)


async def answered(call: Awaitable[T]) -> T:
    """Await an engine call; silence of the engine becomes a ``TemporaryError``."""
    try:
        return await call
    except EngineError as error:
        if error.kind in AWAY:
            raise TemporaryError(str(error)) from error
        raise


def exit_result(inspected: Json) -> None:
    """Return for an exit code of 0.

    Raises:
        TaskExitError: for any other, with the engine's own words if it has any.
    """
    state = inspected["State"]
    code = int(state.get("ExitCode") or 0)
    if code:
        text = f"task: non-zero exit ({code})"
        if state.get("Error"):
            text += f": {state['Error']}"
        raise TaskExitError(text, code, container.container_status(inspected))


class DockerController:
    """One task's container."""

    def __init__(
        self,
        task: api.Task,
        spec: api.ContainerSpec,
        engine: Engine,
        events: EventStream,
        pulls: Pulls,
        clock: Clock,
    ) -> None:
        """Take a task and its container spec with the templates expanded; nothing is asked of the engine."""
        self._task = task
        self._spec = spec
        self._engine = engine
        self._events = events
        self._pulls = pulls
        self._clock = clock
        self._name = task_name(task)
        self._owner = TaskOwner(f"container {self._name}")
        self._change: asyncio.Task[EngineError | None] | None = None
        self._created_here = False
        self._was_unhealthy = False
        self._seen: tuple[float, Json] | None = None
        self._closed = False
        self._log = log.bind(task_id=task.id, container=self._name)

    def _open(self) -> None:
        if self._closed:
            raise ControllerClosedError

    async def update(self, task: api.Task) -> None:
        """Take note of the task; a container is never changed, tasks are replaced instead."""
        self._open()

    async def prepare(self) -> None:
        """Create volumes, pull, create the container.

        Raises:
            AlreadyDoneError: it exists and is this task's.
            MountError: a mount that cannot be made here.
            EngineError: the engine refused.
            TemporaryError: the engine did not answer.
        """
        self._open()
        version = await answered(self._engine.api_version())
        request = container.create_request(self._task, self._spec, version)
        mounts = list(self._spec.mounts)
        for path in directories_to_make(mounts, version):
            await answered(self._engine.make_directory(path))
        for volume in volumes_to_create(mounts):
            await answered(self._engine.create_volume(volume))
        await answered(
            self._pulls.pull(self._spec.image, self._spec.pull_options.registry_auth, self._task.id)
        )
        try:
            await self._alone(lambda: self._engine.create(self._name, request))
        except EngineError as error:
            if error.kind is not Kind.NAME_IN_USE:
                raise
            await self._check_existing()
            raise AlreadyDoneError("already prepared") from error
        self._created_here = True

    async def _check_existing(self) -> None:
        try:
            found = await answered(self._engine.inspect(self._name))
        except EngineError as error:
            if error.kind is not Kind.NO_CONTAINER:
                raise
            raise TemporaryError(f"a container named {self._name} is being removed") from error
        if (found["Config"].get("Labels") or {}).get(container.TASK_ID_LABEL) != self._task.id:
            raise EngineError(
                Kind.FATAL, f"a container named {self._name} exists and belongs to somebody else"
            )

    async def _alone(self, call: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Make a call that changes the container, after the one before it, and to its end.

        A cancelled operation cannot take back what the engine was told. So the call goes on, and the next
        change waits for it: otherwise a container could be started after it was stopped, or created after it
        was removed, and nobody would know.
        """
        if self._change is not None:
            await asyncio.wait([self._change])
            self._open()
        change = self._change = self._owner.spawn(_outcome(call), "change")
        try:
            await asyncio.wait([change])
        finally:
            # What was seen before is no longer so.
            self._seen = None
        self._open()
        error = change.result()
        if error is not None and error.kind in AWAY:
            raise TemporaryError(str(error)) from error
        if error is not None:
            raise error

    async def start(self) -> None:
        """Start the container and wait until it is healthy, if it is checked for health.

        Raises:
            AlreadyDoneError: it was started before.
            TaskExitError: it cannot be started, or it ended or became unhealthy before it was healthy.
            TemporaryError: the engine did not answer.
        """
        self._open()
        # A container made a moment ago by this controller need not be asked whether it runs.
        if not self._created_here:
            inspected = await answered(self._engine.inspect(self._name))
            if inspected["State"]["Status"] != "created":
                if not container.has_health_check(inspected):
                    raise AlreadyDoneError("already started")
                await self._until(self._started)
                return
        self._created_here = False
        try:
            await self._alone(lambda: self._engine.start(self._name))
        except EngineError as error:
            raise await self._start_error(error) from error
        await self._until(self._started)

    async def _start_error(self, error: EngineError) -> TaskExitError:
        """Return the failure of a start with the exit code the engine left in the container."""
        status = await self.container_status()
        text = f"starting container failed: {error}"
        return TaskExitError(text, status.exit_code if status else 0, status)

    async def _started(self, inspected: Json) -> bool:
        if not container.has_health_check(inspected):
            return True
        return await self._ended(inspected) or container.health(inspected) in ("healthy", "")

    async def wait(self) -> None:
        """Return when the container ended with exit code 0.

        Raises:
            TaskExitError: it ended otherwise, or is unhealthy, or never ran.
            DestroyedError: it was removed.
            TemporaryError: the engine has not answered for a minute.
        """
        self._open()
        await self._until(self._ended)

    async def _ended(self, inspected: Json) -> bool:
        state = inspected["State"]["Status"]
        if state in ("exited", "dead"):
            # An engine calls whatever has ended unhealthy: only what we stopped for it was.
            if self._was_unhealthy:
                raise UnhealthyError(inspected)
            exit_result(inspected)
            return True
        if state == "created":
            status = container.container_status(inspected)
            raise TaskExitError("dockerexec: container is not started", status.exit_code, status)
        # Old events may be replayed: only what the container says now counts.
        self._was_unhealthy = container.health(inspected) == "unhealthy"
        if self._was_unhealthy:
            await self._stop(UNHEALTHY_GRACE_SECONDS)
            return await self._ended(await answered(self._look()))
        return False

    async def _until(self, done: Callable[[Json], Awaitable[bool]]) -> None:
        """Look at the container, now and whenever something happened to it, until ``done`` says so."""
        lost_at: float | None = None
        with self._events.watch(self._name) as watch:
            while True:
                self._open()
                pause = LOOK_PAUSE
                try:
                    if await done(await self._look()):
                        return
                    lost_at = None
                except EngineError as error:
                    if error.kind is Kind.NO_CONTAINER:
                        raise DestroyedError from error
                    if error.kind not in AWAY:
                        raise
                    now = self._clock.monotonic()
                    lost_at = now if lost_at is None else lost_at
                    if now - lost_at >= AWAY_GRACE:
                        raise TemporaryError(str(error)) from error
                    pause = AWAY_PAUSE
                await watch.wait(pause)

    async def _look(self) -> Json:
        inspected = await self._engine.inspect(self._name)
        self._seen = (self._clock.monotonic(), inspected)
        return inspected

    async def shutdown(self) -> None:
        """Stop the container within its grace period; missing or ended is fine."""
        self._open()
        self._pulls.release(self._task.id)
        await self._stop(container.grace_seconds(self._spec))

    async def _stop(self, grace_seconds: int) -> None:
        try:
            await self._alone(lambda: self._engine.stop(self._name, grace_seconds))
        except EngineError as error:
            if error.kind not in (Kind.NO_CONTAINER, Kind.NOT_RUNNING):
                raise

    async def terminate(self) -> None:
        """Kill the container, also while it is being stopped; missing or ended is fine."""
        self._open()
        self._pulls.release(self._task.id)
        self._seen = None
        try:
            await answered(self._engine.kill(self._name))
        except EngineError as error:
            if error.kind not in (Kind.NO_CONTAINER, Kind.NOT_RUNNING):
                raise

    async def remove(self) -> None:
        """Stop and remove the container, and the anonymous volumes made with it.

        Raises:
            TemporaryError: the engine did not answer; to be tried again, or the container stays.
        """
        self._open()
        self._pulls.release(self._task.id)
        try:
            await self._stop(container.grace_seconds(self._spec))
        except EngineError as error:
            self._log.warning("a container cannot be stopped, removing it by force", error=str(error))
        try:
            await self._alone(lambda: self._engine.remove(self._name))
        except EngineError as error:
            if error.kind is Kind.REMOVAL_RUNS:
                await self._until_removed()
            elif error.kind is not Kind.NO_CONTAINER:
                raise

    async def _until_removed(self) -> None:
        for _ in range(REMOVAL_LOOKS):
            try:
                await answered(self._engine.inspect(self._name))
            except EngineError as error:
                if error.kind is Kind.NO_CONTAINER:
                    return
                raise
            await self._clock.sleep(REMOVAL_PAUSE)
        raise TemporaryError(f"the removal of container {self._name} does not end")

    async def close(self) -> None:
        """Close the controller; the container is left as it is, and who waits for it is told.

        Raises:
            ControllerClosedError: it was closed before.
        """
        self._open()
        self._closed = True
        self._pulls.release(self._task.id)
        self._events.wake(self._name)
        await self._owner.close()

    async def container_status(self) -> api.ContainerStatus | None:
        """Return id, pid and exit code; None if there is no container or the engine is away."""
        inspected = await self._last_look()
        return None if inspected is None else container.container_status(inspected)

    async def port_status(self) -> api.PortStatus | None:
        """Return the host ports in effect; None if there are none, or the engine is away."""
        self._open()
        if not container.host_ports(self._task)[0]:
            return None
        inspected = await self._last_look()
        return None if inspected is None else container.port_status(inspected)

    async def _last_look(self) -> Json | None:
        self._open()
        if self._seen is not None and self._clock.monotonic() - self._seen[0] < SAME_LOOK:
            return self._seen[1]
        try:
            return await self._look()
        except EngineError as error:
            if error.kind is not Kind.NO_CONTAINER:
                self._log.debug("container status is not known", error=str(error))
            return None


async def _outcome(call: Callable[[], Coroutine[Any, Any, None]]) -> EngineError | None:
    try:
        await call()
    except EngineError as error:
        return error
    return None
