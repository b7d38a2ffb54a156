"""Tasks on a real engine, driven as an agent drives them, without daemons."""

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import docker

from swarmkit.agent import step as rules
from swarmkit.agent.taskmanager import TaskManager
from swarmkit.api import messages as api
from swarmkit.clock import SystemClock
from swarmkit.executors.docker.controller import DockerController
from swarmkit.executors.docker.executor import DockerExecutor
from swarmkit.identity import new_id
from tests.engine import START_SECONDS, Engine, answers
from tests.scale import SCALE

Json = dict[str, Any]
State = api.TaskState

#: Ends with code 7 when told to stop; without a trap, a container's first process ignores SIGTERM.
OBEDIENT = "trap 'exit 7' TERM; sleep 100000 & wait"
STUBBORN = "trap '' TERM; sleep 100000"


def when_told(action: str) -> str:
    """Return the script of a container that runs ``action`` when ``tell`` tells it to, else is obedient."""
    return f"trap '{action}' USR1; trap 'exit 7' TERM; sleep 100000 & wait; wait"


class Driven:
    """A task under a task manager of the agent's."""

    def __init__(self, task: api.Task, status: api.TaskStatus, controller: DockerController) -> None:
        self.task = task
        self.controller = controller
        self.statuses: list[api.TaskStatus] = []
        self._changed = asyncio.Event()
        self.manager = TaskManager(task, status, controller, self._report, SystemClock())
        self.manager.start()

    async def _report(self, _: str, status: api.TaskStatus) -> None:
        self.statuses.append(status)
        self._changed.set()

    @property
    def status(self) -> api.TaskStatus:
        return self.statuses[-1] if self.statuses else self.manager.status

    @property
    def states(self) -> list[int]:
        """The states it went through, each once."""
        return [state for state, _ in itertools.groupby(status.state for status in self.statuses)]

    async def until(self, state: "State.ValueType", seconds: float = 15) -> api.TaskStatus:
        """Wait until the task has come to ``state``, and to no other that ends it."""
        try:
            async with asyncio.timeout(seconds * SCALE):
                while self.status.state < min(state, State.COMPLETE):
                    await self._change()
                while self.status.state < State.COMPLETE and state >= State.COMPLETE:
                    await self._change()
        except TimeoutError:
            raise AssertionError(f"not {rules.state_name(state)} in {seconds} s: {self.status}") from None
        assert self.status.state == state, self.status
        return self.status

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def order(self, desired: "State.ValueType") -> None:
        """Change the desired state, as a manager does."""
        task = api.Task()
        task.CopyFrom(self.manager.task)
        task.desired_state = desired
        self.manager.update(task)


class Node:
    """One run of a node's agent: an executor and the tasks it drives.

    A second one with the same ``node_id`` is the same node after a restart of its daemon.
    """

    def __init__(self, url: str, node_id: str, timeout: int) -> None:
        self.id = node_id
        self.url = url
        self.executor = DockerExecutor(url, SystemClock(), timeout)
        self.driven: list[Driven] = []
        self.calls = 0

    def count_calls(self) -> None:
        """Count every call of the engine from now on, in ``calls``."""
        engine = cast(Any, self.executor)._engine
        run = engine._in_thread

        async def counted(*words: Any) -> Any:
            self.calls += 1
            return await run(*words)

        engine._in_thread = counted

    def task(self, script: str = "", **spec: Any) -> api.Task:
        """Make a task that runs a shell script, or its image's own command."""
        made = api.Task(
            id=new_id(), slot=1, node_id=self.id, service_id=new_id(), desired_state=State.RUNNING
        )
        made.service_annotations.name = "it"
        command = {"command": ["/bin/sh", "-c", script]} if script else {}
        made.spec.container.CopyFrom(api.ContainerSpec(**{"image": "busybox:test", **command, **spec}))
        return made

    async def controller(self, task: api.Task) -> DockerController:
        made = await self.executor.controller(task, cast(Any, None))
        assert isinstance(made, DockerController)
        return made

    async def drive(self, task: api.Task, status: api.TaskStatus | None = None) -> Driven:
        """Drive a task from a stored status, or from the beginning."""
        made = Driven(task, status or api.TaskStatus(state=State.ASSIGNED), await self.controller(task))
        self.driven.append(made)
        await asyncio.sleep(0)  # as the agent's worker does between the tasks it takes
        return made

    async def run(self, script: str = OBEDIENT, **spec: Any) -> Driven:
        """Drive a task made from a script until it runs, and catches the signals it means to."""
        driven = await self.drive(self.task(script, **spec))
        await driven.until(State.RUNNING)
        if "trap" in script:
            await traps_set(driven)
        return driven

    async def stop(self) -> None:
        """End the run; containers are left as they are."""
        for driven in self.driven:
            await driven.manager.close()
        await self.executor.close()


async def traps_set(driven: Driven, pid: int = 0) -> None:
    """Wait until a container's shell has come to its traps; its engine's host is this one."""
    process = Path(f"/proc/{pid or driven.status.container.pid}/status")
    traps = driven.task.spec.container.command[-1].count("trap ")

    async def caught() -> bool:
        return _handled_signals(process).bit_count() >= traps

    await eventually(caught)


async def tell(driven: Driven, pid: int = 0) -> None:
    """Have a container do what ``when_told`` says; ``pid`` is needed as long as its task is not RUNNING."""
    pid = pid or driven.status.container.pid
    await traps_set(driven, pid)
    os.kill(pid, signal.SIGUSR1)


def _handled_signals(process: Path) -> int:
    """Return the mask of the signals a process catches or ignores, but for the one shells always catch."""
    lines = (line.partition(":") for line in process.read_text().splitlines())
    masks = {name: int(value, 16) for name, _, value in lines if name in ("SigCgt", "SigIgn")}
    return sum(masks.values()) & ~(1 << signal.SIGCHLD - 1)


@contextlib.asynccontextmanager
async def node(url: str, node_id: str = "", timeout: int = 60) -> AsyncIterator[Node]:
    """Run a node's agent for the time of the block."""
    made = Node(url, node_id or new_id(), timeout)
    await made.executor.start()
    await made.executor.describe()
    await made.executor.configure(api.Node(id=made.id))
    try:
        yield made
    finally:
        await made.stop()


def client(url: str) -> docker.APIClient:
    """A client of the tests' own."""
    return docker.APIClient(url, version="1.41", timeout=60)


def remove_all(url: str, label: str = "com.docker.swarm.service.name=it") -> None:
    """Remove what tests have left."""
    with contextlib.closing(client(url)) as asked:
        for found in asked.containers(all=True, filters={"label": label}):
            asked.remove_container(found["Id"], force=True, v=True)


async def in_thread(function: Any, *words: Any) -> Any:
    """Call what blocks."""
    return await asyncio.get_running_loop().run_in_executor(None, function, *words)


async def look(engine: Engine, container: str) -> Json:
    """Inspect a container with a client of the tests' own."""

    def inspect() -> Json:
        with contextlib.closing(client(engine.url)) as asked:
            return dict(asked.inspect_container(container))

    return cast(Json, await in_thread(inspect))


async def eventually(check: Callable[[], Awaitable[bool]], seconds: float = 15) -> None:
    """Wait until ``check`` holds."""
    async with asyncio.timeout(seconds * SCALE):
        while not await check():  # noqa: ASYNC110 - the engine sets no event of the loop's
            await asyncio.sleep(0.05)


def restart(engine: Engine) -> None:
    """Start an engine of our own again, with the command it had."""
    assert engine.process is not None
    assert engine.folder is not None
    engine.process.wait(30)
    (engine.folder / "pid").unlink(missing_ok=True)
    with open(engine.folder / "log", "ab") as log:
        engine.process = subprocess.Popen(engine.process.args, stdout=log, stderr=log, start_new_session=True)
    for _ in range(int(START_SECONDS * 10)):
        if answers(engine.url):
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            engine.process.wait(0.1)
            break
    raise AssertionError((engine.folder / "log").read_text(errors="replace")[-2000:])


def engine_threads() -> list[threading.Thread]:
    """Return this process's threads that work for an engine."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("engine-")]
