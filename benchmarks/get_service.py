"""GetService over the control socket: one client, one call after the other.

``python -m benchmarks.get_service [--json]``
"""

import asyncio
import time

from benchmarks.daemon import control, one_manager, service
from benchmarks.report import Row, main, row
from swarmkit.api import messages as api

CALLS = 1000
REPEATS = 5


async def measure_async() -> list[float]:
    """Return milliseconds a call, for each repeat."""
    found = []
    with one_manager() as made:
        async with control(made) as stub:
            created = (await stub.CreateService(api.CreateServiceRequest(spec=service("web")))).service
            for _ in range(REPEATS):
                started = time.perf_counter()
                for _ in range(CALLS):
                    await stub.GetService(api.GetServiceRequest(service_id=created.id))
                found.append((time.perf_counter() - started) / CALLS * 1000)
    return found


def measure() -> list[Row]:
    """Return the row."""
    repeats = asyncio.run(measure_async())
    return [row("GetService", repeats, "ms", original="0.48 ms", at_most=0.7)]


if __name__ == "__main__":
    main(measure, __doc__)
