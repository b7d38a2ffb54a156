"""The process executor: describes the machine and makes controllers of local processes."""

import os
import platform
import re
import socket
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from swarmkit.agent.exec import Controller, DependencyStore, ExecutorError
from swarmkit.api import messages as api
from swarmkit.api.expansion import expand_container
from swarmkit.api.template import Context
from swarmkit.clock import Clock
from swarmkit.executors.process.controller import ProcessController
from swarmkit.executors.process.process import LocalProcess
from swarmkit.executors.process.spec import DEFAULT_GRACE, UnsupportedError, read_signal, read_spec
from swarmkit.log import get_logger

log = get_logger(__name__)

#: Threads that start supervisors and delete directories; each use takes some ten milliseconds.
THREADS = 4

_TASK_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class ProcessExecutor:
    """Runs tasks as local processes, each below ``directory`` in one of its task's id.

    Processes outlive the daemon that started them; a service manager that kills whatever a stopped daemon
    leaves behind has to be told not to (systemd: ``KillMode=process``).

    Args:
        directory: made 0700 if missing; belongs to this node alone.
        generic: generic resources of the node, for its description.
    """

    def __init__(self, directory: Path, clock: Clock, generic: Sequence[api.GenericResource] = ()) -> None:
        self._directory = directory
        self._clock = clock
        self._generic = generic
        self._threads: ThreadPoolExecutor | None = None

    async def start(self) -> None:
        """Make the directory.

        Raises:
            UnsupportedError: this system cannot watch processes (before Linux 5.3).
            OSError: the directory cannot be made.
        """
        if not hasattr(os, "pidfd_open"):
            raise UnsupportedError("the process executor needs Linux 5.3 or newer")
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="process-executor")
        log.info("running tasks as local processes, without isolation", directory=self._directory)

    async def close(self) -> None:
        """End the threads; processes go on."""
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=False)

    async def describe(self) -> api.NodeDescription:
        """Describe the machine; there is no engine section, so plugin checks do not apply to this node."""
        resources = api.Resources(
            nano_cpus=len(os.sched_getaffinity(0)) * 10**9,
            memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            generic=self._generic,
        )
        return api.NodeDescription(
            hostname=socket.gethostname(),
            platform=api.Platform(architecture=platform.machine(), os=platform.system().lower()),
            resources=resources,
        )

    async def configure(self, node: api.Node) -> None:
        """Nothing to do: processes use the machine's network as it is."""

    async def set_network_keys(self, keys: Sequence[api.EncryptionKey]) -> None:
        """Nothing to do: there are no overlay networks here."""

    async def controller(self, task: api.Task, dependencies: DependencyStore) -> Controller:
        """Return the controller for a task, whether or not its process exists already.

        Raises:
            UnsupportedError: the task cannot run as a local process.
            TemplateError: a template in its environment cannot be expanded.
        """
        if not _TASK_ID.fullmatch(task.id):
            raise UnsupportedError(f"invalid task id {task.id!r}")
        expanded = task
        if task.spec.WhichOneof("runtime") == "container":
            context = Context.of_task(task, await self.describe())
            expanded = api.Task()
            expanded.CopyFrom(task)
            expanded.spec.container.CopyFrom(expand_container(task.spec.container, context))
        return ProcessController(task, read_spec(expanded), self._process(task.id))

    async def sweep(self, task_ids: Collection[str]) -> None:
        """End and delete the processes of tasks not in ``task_ids``.

        Raises:
            TemporaryError: one of them does not end.
        """
        for entry in sorted(self._directory.iterdir()):
            if entry.is_dir() and entry.name not in task_ids:
                log.warning("removing a process that belongs to no task", task_id=entry.name)
                await self._process(entry.name).remove(read_signal(""), DEFAULT_GRACE)

    def _process(self, task_id: str) -> LocalProcess:
        if self._threads is None:
            raise ExecutorError("the process executor is not started")
        return LocalProcess(self._directory / task_id, self._threads, self._clock)
