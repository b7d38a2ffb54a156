"""CreateService over the control socket: one client, one call after the other, one manager.

``python -m benchmarks.create_serial [--json]``
"""

import asyncio
import time

from benchmarks.daemon import control, one_manager, service
from benchmarks.report import Row, main, row
from swarmkit.api import messages as api

CALLS = 500
REPEATS = 5


async def measure_async() -> list[float]:
    """Return milliseconds a call, for each repeat."""
    found = []
    with one_manager() as made:
        async with control(made) as stub:
            for repeat in range(REPEATS):
                started = time.perf_counter()
                for n in range(CALLS):
                    await stub.CreateService(api.CreateServiceRequest(spec=service(f"s{repeat}-{n}")))
                found.append((time.perf_counter() - started) / CALLS * 1000)
    return found


def measure() -> list[Row]:
    """Return the row."""
    repeats = asyncio.run(measure_async())
    return [row("CreateService, one client in a row", repeats, "ms", original="1.2 ms", at_most=1.5)]


if __name__ == "__main__":
    main(measure, __doc__)
