"""A real ``swarmd`` to measure, and a client of its control socket."""

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from swarmkit.api import messages as api
from swarmkit.api.control_pb2_grpc import ControlStub
from swarmkit.net.channels import unix_channel
from tests.integration.harness import Swarm, swarm
from tests.integration.managers import Managers, managers

if TYPE_CHECKING:
    from swarmkit.api.control_pb2_grpc import ControlAsyncStub

#: Pause between two looks at the tasks, and the longest wait for them, in seconds.
POLL_SECONDS = 0.01
TIMEOUT_SECONDS = 120.0


@contextlib.contextmanager
def one_manager(executor: str = "simulated", engine: str | None = None, flags: str = "") -> Iterator[Swarm]:
    """A manager that is ready; everything of it is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="swk-bench-", dir="/tmp"))
    try:
        with swarm(folder, executor, engine) as made:
            made.found(flags=flags)
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def three_managers(executor: str = "simulated") -> Iterator[Managers]:
    """Three managers, the first of which leads; everything of them is gone afterwards."""
    with managers(3, executor) as made:
        yield made


@contextlib.asynccontextmanager
async def control(made: Swarm) -> "AsyncIterator[ControlAsyncStub]":
    """A stub on the manager's control socket."""
    async with unix_channel(made.socket) as channel:
        yield ControlStub(channel)


def service(name: str, replicas: int = 0, image: str = "busybox:test") -> api.ServiceSpec:
    """Return the spec of a service."""
    spec = api.ServiceSpec(annotations=api.Annotations(name=name))
    spec.task.container.image = image
    spec.replicated.replicas = replicas
    return spec


async def until(stub: "ControlAsyncStub", service_id: str, running: int, records: int | None = None) -> None:
    """Wait until exactly so many tasks run, and so many records are left."""
    filters = api.ListTasksRequest.Filters(service_ids=[service_id])
    deadline = time.perf_counter() + TIMEOUT_SECONDS
    while True:
        tasks = (await stub.ListTasks(api.ListTasksRequest(filters=filters))).tasks
        alive = sum(task.status.state == api.TaskState.RUNNING for task in tasks)
        if alive == running and (records is None or len(tasks) == records):
            return
        if time.perf_counter() > deadline:
            raise TimeoutError(f"{alive} of {running} tasks run")
        await asyncio.sleep(POLL_SECONDS)
