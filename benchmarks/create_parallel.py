"""CreateService over the control socket, 64 clients at once, with one manager and with three.

``python -m benchmarks.create_parallel [--json]``. Every write is synced to disk. Each client has a connection
of its own, as programs do.
"""

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from benchmarks.daemon import control, one_manager, service, three_managers
from benchmarks.report import Row, main, row
from swarmkit.api import messages as api
from tests.integration.harness import Swarm

if TYPE_CHECKING:
    from swarmkit.api.control_pb2_grpc import ControlAsyncStub

CLIENTS = 64
CALLS = 50
REPEATS = 5


async def client(stub: "ControlAsyncStub", name: str, calls: int) -> None:
    """Create services one after the other."""
    for n in range(calls):
        await stub.CreateService(api.CreateServiceRequest(spec=service(f"{name}-{n}")))


async def measure_async(made: Swarm, calls: int = CALLS, repeats: int = REPEATS) -> list[float]:
    """Return calls a second, for each repeat."""
    found = []
    async with contextlib.AsyncExitStack() as stack:
        stubs = [await stack.enter_async_context(control(made)) for _ in range(CLIENTS)]
        for repeat in range(repeats):
            started = time.perf_counter()
            await asyncio.gather(*[client(stub, f"s{repeat}-{n}", calls) for n, stub in enumerate(stubs)])
            found.append(CLIENTS * calls / (time.perf_counter() - started))
    return found


def measure() -> list[Row]:
    """Return the rows."""
    with one_manager() as made:
        one = asyncio.run(measure_async(made))
    with three_managers() as made:
        three = asyncio.run(measure_async(made))
    return [
        row("CreateService, 64 clients at once", one, "/s", original="1,551/s", at_least=1600),
        row("the same, 3 managers", three, "/s", original="266/s", at_least=1200),
    ]


if __name__ == "__main__":
    main(measure, __doc__)
