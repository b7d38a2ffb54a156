"""A service on one Docker engine from 10 to 50 replicas, until all are RUNNING.

``python -m benchmarks.scale_up [--json]``
"""

import asyncio
import time

from benchmarks.daemon import control, one_manager, service, until
from benchmarks.report import Row, main, row
from swarmkit.api import messages as api
from tests.engine import Engine

REPEATS = 3
SMALL, LARGE = 10, 50


async def measure_async(url: str) -> list[float]:
    """Return seconds, for each repeat."""
    found = []
    with one_manager("docker", url) as made:
        async with control(made) as stub:
            for n in range(REPEATS):
                spec = service(f"scale-{n}", replicas=SMALL)
                # The task ignores SIGTERM: no grace, so that cleaning up does not take minutes.
                spec.task.container.stop_grace_period.SetInParent()
                created = (await stub.CreateService(api.CreateServiceRequest(spec=spec))).service
                await until(stub, created.id, SMALL)
                stored = (await stub.GetService(api.GetServiceRequest(service_id=created.id))).service
                stored.spec.replicated.replicas = LARGE
                started = time.perf_counter()
                await stub.UpdateService(
                    api.UpdateServiceRequest(
                        service_id=stored.id, service_version=stored.meta.version, spec=stored.spec
                    )
                )
                await until(stub, created.id, LARGE)
                found.append(time.perf_counter() - started)
                await stub.RemoveService(api.RemoveServiceRequest(service_id=created.id))
                await until(stub, created.id, 0, records=0)
    return found


def measure() -> list[Row]:
    """Return the row."""
    engine = Engine.find_or_start()
    try:
        repeats = asyncio.run(measure_async(engine.url))
    finally:
        engine.stop()
    what = f"{SMALL} -> {LARGE} replicas on one Docker engine"
    return [row(what, repeats, "s", original="11.9 s", at_most=11.9)]


if __name__ == "__main__":
    main(measure, __doc__)
