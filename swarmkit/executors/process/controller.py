"""The controller of one task that runs as a local process."""

import os

from swarmkit.agent.exec import AlreadyDoneError, ExecutorError, TaskExitError
from swarmkit.api import messages as api
from swarmkit.executors.process.process import Launch, LaunchError, LocalProcess
from swarmkit.executors.process.spec import ProcessSpec
from swarmkit.executors.process.users import User, find_user
from swarmkit.log import get_logger

log = get_logger(__name__)


class ProcessController:
    """See ``swarmkit.agent.exec.Controller``.

    Args:
        task: what to run; shown in the log.
        spec: the same, as a process.
        process: the process, which may exist already.
    """

    def __init__(self, task: api.Task, spec: ProcessSpec, process: LocalProcess) -> None:
        self._spec = spec
        self._process = process
        self._image = task.spec.container.image
        self._log = log.bind(task_id=task.id, service_id=task.service_id)

    async def update(self, task: api.Task) -> None:
        """Nothing to do: a process takes no changes."""

    async def prepare(self) -> None:
        """Check the user and make the directory.

        Raises:
            AlreadyDoneError: it is there.
            UnsupportedError: the user cannot be had.
        """
        await self._find_user()
        if self._process.prepared:
            raise AlreadyDoneError("already prepared")
        self._process.prepare()

    async def start(self) -> None:
        """Start the process and return when it runs.

        Raises:
            AlreadyDoneError: it was started before.
            TaskExitError: the command cannot be run.
            TemporaryError: there are no means to start it now.
        """
        work = self._process.prepare()
        user = await self._find_user()
        if user is not None:
            os.chown(work, user[0], user[1])
        launch = Launch(self._spec.argv, self._spec.env, self._spec.directory or str(work), user)
        try:
            started = await self._process.start(launch)
        except LaunchError as error:
            raise TaskExitError(f"starting process failed: {error}", error.code) from error
        if not started:
            raise AlreadyDoneError("already started")
        record = self._process.record()
        if not self._spec.argv:
            self._log.info(
                "the task has no command and its image cannot run without an engine: it idles until stopped",
                image=self._image,
            )
        self._log.info(
            "process started",
            image=self._image,
            pid=record.process.pid if record else "",
            output=self._process.directory,
        )

    async def _find_user(self) -> User | None:
        return await self._process.call(lambda: find_user(self._spec.user, self._spec.groups))

    async def wait(self) -> None:
        """Return when the process ended with 0.

        Raises:
            TaskExitError: it ended with another code.
            ExecutorError: it is gone and nobody saw how it ended.
        """
        code = await self._process.ended()
        if code is None:
            raise ExecutorError("the process is gone and its exit status is unknown")
        if code != 0:
            raise TaskExitError(f"task: non-zero exit ({code})", code)

    async def shutdown(self) -> None:
        """Stop the process: its stop signal, after the grace period the kill; none left is fine.

        Raises:
            TemporaryError: it does not end.
        """
        await self._process.stop(self._spec.stop_signal, self._spec.grace)

    async def remove(self) -> None:
        """Stop the process and delete its directory.

        Raises:
            TemporaryError: it does not end.
        """
        await self._process.remove(self._spec.stop_signal, self._spec.grace)

    async def close(self) -> None:
        """Wait for a start that was cancelled half-way; the process is left as it is."""
        await self._process.settled()

    async def container_status(self) -> api.ContainerStatus | None:
        """Return the identity of the process, its pid while it runs, its exit code afterwards."""
        record = self._process.record()
        if record is None:
            return None
        code = self._process.exit_code()
        if code is None:
            return api.ContainerStatus(container_id=record.name, pid=record.process.pid)
        return api.ContainerStatus(container_id=record.name, exit_code=code)

    async def port_status(self) -> api.PortStatus | None:
        """None: a process listens where it likes, nothing is mapped."""
        return None
