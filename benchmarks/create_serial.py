"""CreateService over the control socket: one client, one call after the other, one manager and three.

``python -m benchmarks.create_serial [--json]``
"""

import asyncio
import time

from benchmarks.daemon import control, one_manager, service, three_managers
from benchmarks.report import Row, main, row
from swarmkit.api import messages as api
from tests.integration.harness import Swarm

CALLS = 500
REPEATS = 5


async def measure_async(made: Swarm) -> list[float]:
    """Return milliseconds a call, for each repeat."""
    found = []
    async with control(made) as stub:
        for repeat in range(REPEATS):
            started = time.perf_counter()
            for n in range(CALLS):
                await stub.CreateService(api.CreateServiceRequest(spec=service(f"s{repeat}-{n}")))
            found.append((time.perf_counter() - started) / CALLS * 1000)
    return found


def measure() -> list[Row]:
    """Return the rows."""
    with one_manager() as made:
        one = asyncio.run(measure_async(made))
    with three_managers() as made:
        three = asyncio.run(measure_async(made))
    return [
        row("CreateService, one client in a row", one, "ms", original="1.2 ms", at_most=1.5),
        row("the same, 3 managers", three, "ms", original="4.4 ms", at_most=3.0),
    ]


if __name__ == "__main__":
    main(measure, __doc__)
