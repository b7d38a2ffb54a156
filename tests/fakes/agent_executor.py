"""An executor and controllers that do what a test tells them and remember what they were asked."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Sequence

from swarmkit.agent.exec import DependencyStore
from swarmkit.api import messages as api

#: What one call of an operation does: returns or raises at once, or awaits.
Script = Callable[[], Awaitable[None]]


def succeed() -> Script:
    async def call() -> None:
        await asyncio.sleep(0)

    return call


def fail(error: BaseException) -> Script:
    async def call() -> None:
        await asyncio.sleep(0)
        raise error

    return call


def block() -> Script:
    async def call() -> None:
        await asyncio.Event().wait()

    return call


def take(seconds: float) -> Script:
    async def call() -> None:
        await asyncio.sleep(seconds)

    return call


class FakeController:
    """Plays the scripts of an operation in order; the last one for ever. By default wait blocks."""

    def __init__(self, **scripts: Sequence[Script]) -> None:
        self.calls: list[str] = []
        self.updates: list[api.Task] = []
        self.status: api.ContainerStatus | None = None
        self.ports: api.PortStatus | None = None
        self.busy = 0
        self._scripts = {"wait": [block()], **{name: list(script) for name, script in scripts.items()}}

    async def _play(self, name: str) -> None:
        self.calls.append(name)
        assert self.busy == 0, f"{name} while another operation is in flight"
        self.busy += 1
        try:
            scripts = self._scripts.get(name)
            if scripts:
                await (scripts.pop(0) if len(scripts) > 1 else scripts[0])()
        finally:
            self.busy -= 1

    async def update(self, task: api.Task) -> None:
        self.updates.append(task)
        await self._play("update")

    async def prepare(self) -> None:
        await self._play("prepare")

    async def start(self) -> None:
        await self._play("start")

    async def wait(self) -> None:
        await self._play("wait")

    async def shutdown(self) -> None:
        await self._play("shutdown")

    async def remove(self) -> None:
        await self._play("remove")

    async def close(self) -> None:
        self.calls.append("close")

    async def container_status(self) -> api.ContainerStatus | None:
        return self.status

    async def port_status(self) -> api.PortStatus | None:
        return self.ports


class FakeExecutor:
    """Gives out one controller per task; ``make`` may raise to refuse a task."""

    def __init__(self, make: Callable[[api.Task], FakeController] = lambda task: FakeController()) -> None:
        self.make = make
        self.controllers: dict[str, FakeController] = {}
        self.dependencies: dict[str, DependencyStore] = {}
        self.description = api.NodeDescription(hostname="fake")
        self.describe_error: Exception | None = None
        self.configured: list[api.Node] = []
        self.keys: list[list[api.EncryptionKey]] = []
        self.swept: list[set[str]] = []
        self.sweep_error: Exception | None = None
        self.started = 0
        self.closed = 0

    async def start(self) -> None:
        self.started += 1

    async def close(self) -> None:
        self.closed += 1

    async def describe(self) -> api.NodeDescription:
        if self.describe_error is not None:
            raise self.describe_error
        copy = api.NodeDescription()
        copy.CopyFrom(self.description)
        return copy

    async def configure(self, node: api.Node) -> None:
        self.configured.append(node)

    async def controller(self, task: api.Task, dependencies: DependencyStore) -> FakeController:
        controller = self.make(task)
        self.controllers[task.id] = controller
        self.dependencies[task.id] = dependencies
        return controller

    async def set_network_keys(self, keys: Sequence[api.EncryptionKey]) -> None:
        self.keys.append(list(keys))

    async def sweep(self, task_ids: Collection[str]) -> None:
        if self.sweep_error is not None:
            raise self.sweep_error
        self.swept.append(set(task_ids))


def chaotic(source: random.Random, errors: Sequence[BaseException], chance: float) -> Script:
    """Take a random while, and with ``chance`` raise one of ``errors``."""

    async def call() -> None:
        await asyncio.sleep(source.random())
        if source.random() < chance:
            raise source.choice(errors)

    return call


async def until(condition: Callable[[], bool], timeout: float = 60.0) -> None:
    """Return as soon as the condition holds; fails after ``timeout`` seconds of the loop's time."""
    async with asyncio.timeout(timeout):
        while not condition():  # noqa: ASYNC110 - a condition over anything, not one event
            await asyncio.sleep(0.01)
