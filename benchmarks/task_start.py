"""``CreateService`` of one replica of a local image until its task is RUNNING, on Docker.

``python -m benchmarks.task_start [--json]``. Beside it, in the same run, what the engine alone needs to
create and start a container of the same image.
"""

import asyncio
import contextlib
import time

import docker

from benchmarks.daemon import control, one_manager, service, until
from benchmarks.report import Row, main, row
from swarmkit.api import messages as api
from tests.engine import Engine

REPEATS = 10


def engine_alone(url: str) -> float:
    """Return seconds the engine needs to create and start one container."""
    with contextlib.closing(docker.DockerClient(base_url=url)) as client:
        started = time.perf_counter()
        container = client.containers.create("busybox:test")
        container.start()
        seconds = time.perf_counter() - started
        container.remove(force=True)
        return seconds


async def measure_async(url: str) -> tuple[list[float], list[float]]:
    """Return seconds until RUNNING, and of the engine alone, taken in turn."""
    swarm_seconds, engine_seconds = [], []
    with one_manager("docker", url) as made:
        async with control(made) as stub:
            for n in range(REPEATS):
                engine_seconds.append(await asyncio.to_thread(engine_alone, url))
                started = time.perf_counter()
                spec = service(f"start-{n}", replicas=1)
                # The task ignores SIGTERM: no grace, so that cleaning up does not take minutes.
                spec.task.container.stop_grace_period.SetInParent()
                created = (await stub.CreateService(api.CreateServiceRequest(spec=spec))).service
                await until(stub, created.id, running=1)
                swarm_seconds.append(time.perf_counter() - started)
                await stub.RemoveService(api.RemoveServiceRequest(service_id=created.id))
                await until(stub, created.id, running=0, records=0)
    return swarm_seconds, engine_seconds


def measure() -> list[Row]:
    """Return the rows."""
    engine = Engine.find_or_start()
    try:
        swarm_seconds, engine_seconds = asyncio.run(measure_async(engine.url))
    finally:
        engine.stop()
    return [
        row("service create until RUNNING on Docker", swarm_seconds, "s", original="0.51 s", at_most=0.5),
        row("(the engine's own create and start, same run)", engine_seconds, "s", original="0.38 s"),
    ]


if __name__ == "__main__":
    main(measure, __doc__)
