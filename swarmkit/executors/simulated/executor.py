"""The simulated executor and its controllers. Time comes from the clock, chance from the seed."""

import asyncio
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from swarmkit.agent.exec import (
    AlreadyDoneError,
    Controller,
    DependencyStore,
    ExecutorError,
    TaskExitError,
)
from swarmkit.api import messages as api
from swarmkit.clock import Clock
from swarmkit.executors.simulated.policy import Behaviour, EnvironmentPolicy, Policy

#: What a simulated node offers if nothing else is asked for.
NANO_CPUS = 16 * 10**9
MEMORY_BYTES = 64 << 30

#: Exit code of a workload that was stopped (128 + SIGTERM).
STOPPED_CODE = 143


@dataclass
class Workload:
    """What the executor remembers of one task: what an engine would.

    Attributes:
        started: whether it was started.
        ends_at: monotonic time at which it ends by itself; None if it never does or is not started.
        exit_code: set when it has ended.
        ended: set when it has ended.
    """

    started: bool = False
    ends_at: float | None = None
    exit_code: int | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class SimulatedExecutor:
    """Keeps workloads in memory, by task id: they outlive an agent that is closed and made again over it.

    Args:
        hostname: name of the node.
        seed: together with a task's id determines what chance decides for it.
        policy: chooses behaviours; by default the tasks' environments do.
        resources: what the node offers.
    """

    def __init__(
        self,
        hostname: str,
        clock: Clock,
        seed: int = 0,
        policy: Policy | None = None,
        resources: api.Resources | None = None,
    ) -> None:
        self._hostname = hostname
        self._clock = clock
        self._seed = seed
        self._policy = policy or EnvironmentPolicy()
        self._resources = resources or api.Resources(nano_cpus=NANO_CPUS, memory_bytes=MEMORY_BYTES)
        self.workloads: dict[str, Workload] = {}

    async def start(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do: workloads stay."""

    async def describe(self) -> api.NodeDescription:
        """Describe the node; there is no engine."""
        return api.NodeDescription(
            hostname=self._hostname,
            platform=api.Platform(architecture="x86_64", os="linux"),
            resources=self._resources,
        )

    async def configure(self, node: api.Node) -> None:
        """Nothing to do."""

    async def set_network_keys(self, keys: Sequence[api.EncryptionKey]) -> None:
        """Nothing to do."""

    async def controller(self, task: api.Task, dependencies: DependencyStore) -> Controller:
        """Return the controller for a task.

        Raises:
            ExecutorError: it is no container task, or asks for a senseless behaviour.
        """
        if task.spec.WhichOneof("runtime") != "container":
            raise ExecutorError("exec: unsupported runtime")
        source = random.Random(f"{self._seed}/{task.id}")
        return SimulatedController(task.id, self._policy.behaviour(task, source), self.workloads, self._clock)

    async def sweep(self, task_ids: Collection[str]) -> None:
        """Forget the workloads of tasks not in ``task_ids``."""
        for task_id in self.workloads.keys() - set(task_ids):
            self.workloads.pop(task_id).ended.set()


class SimulatedController:
    """See ``swarmkit.agent.exec.Controller``."""

    def __init__(
        self, task_id: str, behaviour: Behaviour, workloads: dict[str, Workload], clock: Clock
    ) -> None:
        self._task_id = task_id
        self._behaviour = behaviour
        self._workloads = workloads
        self._clock = clock

    async def update(self, task: api.Task) -> None:
        """Nothing to do."""

    async def prepare(self) -> None:
        """Take the time it takes, then fail or make the workload.

        Raises:
            AlreadyDoneError: it is there.
            ExecutorError: the policy wants it to fail.
        """
        if self._task_id in self._workloads:
            raise AlreadyDoneError("already prepared")
        await self._clock.sleep(self._behaviour.prepare)
        if self._behaviour.fails_to_prepare:
            raise ExecutorError("simulated failure to prepare")
        self._workloads[self._task_id] = Workload()

    async def start(self) -> None:
        """Take the time it takes, then fail or run.

        Raises:
            AlreadyDoneError: it was started before.
            ExecutorError: the policy wants it to fail, or there is no such workload.
        """
        workload = self._workload()
        if workload.started:
            raise AlreadyDoneError("already started")
        await self._clock.sleep(self._behaviour.start)
        if self._behaviour.fails_to_start:
            raise ExecutorError("simulated failure to start")
        workload.started = True
        if self._behaviour.run is not None:
            workload.ends_at = self._clock.monotonic() + self._behaviour.run

    async def wait(self) -> None:
        """Return when the workload ended with 0.

        Raises:
            TaskExitError: it ended with another code.
            ExecutorError: there is no such workload (any more).
        """
        workload = self._workload()
        if workload.exit_code is None and workload.ends_at is not None:
            await self._until(workload, workload.ends_at)
        else:
            await workload.ended.wait()
        if workload.exit_code is None:
            raise ExecutorError("the simulated workload was removed")
        if workload.exit_code != 0:
            raise TaskExitError(f"task: non-zero exit ({workload.exit_code})", workload.exit_code)

    async def _until(self, workload: Workload, moment: float) -> None:
        """Let the workload end by itself at ``moment``, unless it is ended before."""
        try:
            async with asyncio.timeout_at(moment):
                await workload.ended.wait()
        except TimeoutError:
            workload.exit_code = self._behaviour.exit_code
            workload.ended.set()

    async def shutdown(self) -> None:
        """Take the time it takes, then end the workload; none is fine."""
        workload = self._workloads.get(self._task_id)
        if workload is None or workload.exit_code is not None:
            return
        if workload.started:
            await self._clock.sleep(self._behaviour.stop)
        if workload.exit_code is None:
            workload.exit_code = STOPPED_CODE
            workload.ended.set()

    async def remove(self) -> None:
        """End the workload and forget it."""
        await self.shutdown()
        self._workloads.pop(self._task_id, None)

    async def close(self) -> None:
        """Nothing to do."""

    async def container_status(self) -> api.ContainerStatus | None:
        """Return a made-up container id, and the exit code once there is one."""
        workload = self._workloads.get(self._task_id)
        if workload is None:
            return None
        return api.ContainerStatus(
            container_id=f"simulated-{self._task_id}",
            pid=1 if workload.started and workload.exit_code is None else 0,
            exit_code=workload.exit_code or 0,
        )

    async def port_status(self) -> api.PortStatus | None:
        """None: nothing is published."""
        return None

    def _workload(self) -> Workload:
        workload = self._workloads.get(self._task_id)
        if workload is None:
            raise ExecutorError(
                "there is no simulated workload of this task (it does not outlive the program)"
            )
        return workload
