"""Runs one task as one container, addressed by name; the agent calls one operation at a time.

Source: contract/executor.md, 11. What blocks is in ``engine.py``; what an answer means is in ``errors.py``.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from swarmkit.agent.exec import AlreadyDoneError, TaskExitError, TemporaryError
from swarmkit.api import messages as api
from swarmkit.api.naming import task_name
from swarmkit.clock import Clock
from swarmkit.executors.docker import container
from swarmkit.executors.docker.engine import Engine
from swarmkit.executors.docker.errors import EngineError, Kind
from swarmkit.executors.docker.events import EventStream
from swarmkit.executors.docker.mounts import volumes_to_create
from swarmkit.executors.docker.pulls import Pulls
from swarmkit.log import get_logger

T = TypeVar("T")
Json = dict[str, Any]

#: Pause between looks at a container whose removal is under way, and how often we look.
REMOVAL_PAUSE = 0.2
REMOVAL_LOOKS = 50
#: A removal is tried again while the engine is away: nobody else would. Pause in seconds, number of tries.
REMOVE_PAUSE = 5.0
REMOVE_TRIES = 60
#: Grace of a container stopped for being unhealthy, in seconds.
UNHEALTHY_GRACE_SECONDS = 10

log = get_logger(__name__)


class ControllerClosedError(Exception):
    """The controller was closed; nothing can be asked of it any more."""

    def __init__(self) -> None:
        super().__init__("exec: controller closed")


class DestroyedError(Exception):
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
        if error.kind in (Kind.UNREACHABLE, Kind.TIMED_OUT):
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
        self._closed = False
        self._log = log.bind(task_id=task.id, container=self._name)

    def _open(self) -> None:
        if self._closed:
            raise ControllerClosedError

    async def update(self, task: api.Task) -> None:
        """Take note of the task; a container is never changed, tasks are replaced instead."""
        self._open()

    async def prepare(self) -> None:
        """Create volumes, pull, create the container."""
        self._open()
        for request in volumes_to_create(list(self._spec.mounts)):
            await answered(self._engine.create_volume(request))
        await self._pulls.pull(self._spec.image, self._spec.pull_options.registry_auth)
        version = await answered(self._engine.api_version())
        request = container.create_request(self._task, self._spec, version)
        try:
            await answered(self._engine.create(self._name, request))
        except EngineError as error:
            if error.kind is not Kind.NAME_IN_USE:
                raise
            found = await answered(self._engine.inspect(self._name))
            if found["Config"]["Labels"].get(container.TASK_ID_LABEL) != self._task.id:
                raise EngineError(
                    Kind.FATAL, f"a container named {self._name} exists and belongs to somebody else"
                ) from error
            raise AlreadyDoneError(str(error)) from error

    async def start(self) -> None:
        """Start the container and wait until it is healthy, if it is checked for health."""
        self._open()
        inspected = await answered(self._engine.inspect(self._name))
        if inspected["State"]["Status"] == "created":
            try:
                await answered(self._engine.start(self._name))
            except EngineError as error:
                raise await self._start_error(error) from error
            if not container.has_health_check(inspected):
                return
        elif not container.has_health_check(inspected):
            raise AlreadyDoneError("already started")
        await self._until(self._started)

    async def _start_error(self, error: EngineError) -> TaskExitError:
        """Return the failure of a start with the exit code the engine left in the container."""
        status = await self.container_status()
        text = f"starting container failed: {error}"
        return TaskExitError(text, status.exit_code if status else 0, status)

    async def _started(self, inspected: Json) -> bool:
        if inspected["State"]["Status"] in ("exited", "dead"):
            exit_result(inspected)
            return True
        if container.health(inspected) == "unhealthy":
            raise await self._stop_unhealthy()
        return container.health(inspected) in ("healthy", "")

    async def _stop_unhealthy(self) -> UnhealthyError:
        await answered(self._engine.stop(self._name, UNHEALTHY_GRACE_SECONDS))
        return UnhealthyError(await answered(self._engine.inspect(self._name)))

    async def wait(self) -> None:
        """Return when the container ended with exit code 0.

        Raises:
            TaskExitError: it ended otherwise, or is unhealthy.
            DestroyedError: it was removed.
        """
        self._open()
        await self._until(self._ended)

    async def _ended(self, inspected: Json) -> bool:
        if inspected["State"]["Status"] in ("exited", "dead"):
            exit_result(inspected)
            return True
        # Old events may be replayed: only what the container says now counts.
        if container.health(inspected) == "unhealthy":
            raise await self._stop_unhealthy()
        return False

    async def _until(self, done: Callable[[Json], Awaitable[bool]]) -> None:
        """Look at the container, now and whenever something happened to it, until ``done`` says so."""
        with self._events.watch(self._name) as watch:
            while True:
                try:
                    inspected = await answered(self._engine.inspect(self._name))
                except EngineError as error:
                    if error.kind is Kind.NO_CONTAINER:
                        raise DestroyedError from error
                    raise
                if await done(inspected):
                    return
                await watch.wait()

    async def shutdown(self) -> None:
        """Stop the container within its grace period; missing or ended is fine."""
        self._open()
        await self._stop()

    async def _stop(self) -> None:
        try:
            await answered(self._engine.stop(self._name, container.grace_seconds(self._spec)))
        except EngineError as error:
            if error.kind not in (Kind.NO_CONTAINER, Kind.NOT_RUNNING):
                raise

    async def remove(self) -> None:
        """Stop and remove the container; tried again while the engine is away, since nobody else would."""
        self._open()
        for last in [False] * (REMOVE_TRIES - 1) + [True]:
            try:
                await self._stop()
                await self._remove_once()
                return
            except TemporaryError as error:
                if last:
                    raise
                self._log.warning("removing a container waits for the engine", error=str(error))
                await self._clock.sleep(REMOVE_PAUSE)

    async def _remove_once(self) -> None:
        try:
            await answered(self._engine.remove(self._name))
        except EngineError as error:
            if error.kind is Kind.NO_CONTAINER:
                return
            if error.kind is not Kind.REMOVAL_RUNS:
                raise
            await self._until_removed()

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
        """Close the controller; the container is left as it is.

        Raises:
            ControllerClosedError: it was closed before.
        """
        self._open()
        self._closed = True

    async def container_status(self) -> api.ContainerStatus | None:
        """Return id, pid and exit code; None if there is no container or the engine is away."""
        inspected = await self._inspect_or_none()
        return None if inspected is None else container.container_status(inspected)

    async def port_status(self) -> api.PortStatus | None:
        """Return the host ports in effect; None if there are none, or the engine is away."""
        if not container.host_ports(self._task)[0]:
            return None
        inspected = await self._inspect_or_none()
        return None if inspected is None else container.port_status(inspected)

    async def _inspect_or_none(self) -> Json | None:
        self._open()
        try:
            return await self._engine.inspect(self._name)
        except EngineError as error:
            if error.kind is not Kind.NO_CONTAINER:
                self._log.debug("container status is not known", error=str(error))
            return None
