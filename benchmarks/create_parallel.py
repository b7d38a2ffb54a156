"""CreateService over the control socket: 64 clients at once, every write synced to disk, one manager.

``python -m benchmarks.create_parallel [--json]``. Each client has a connection of its own, as programs do.
"""

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from benchmarks.daemon import control, one_manager, service
from benchmarks.report import Row, main, row
from swarmkit.api import messages as api

if TYPE_CHECKING:
    from swarmkit.api.control_pb2_grpc import ControlAsyncStub

CLIENTS = 64
CALLS = 50
REPEATS = 5


async def client(stub: "ControlAsyncStub", name: str) -> None:
    """Create services one after the other."""
    for n in range(CALLS):
        await stub.CreateService(api.CreateServiceRequest(spec=service(f"{name}-{n}")))


async def measure_async() -> list[float]:
    """Return calls a second, for each repeat."""
    found = []
    with one_manager() as made:
        async with contextlib.AsyncExitStack() as stack:
            stubs = [await stack.enter_async_context(control(made)) for _ in range(CLIENTS)]
            for repeat in range(REPEATS):
                started = time.perf_counter()
                await asyncio.gather(*[client(stub, f"s{repeat}-{n}") for n, stub in enumerate(stubs)])
                found.append(CLIENTS * CALLS / (time.perf_counter() - started))
    return found


def measure() -> list[Row]:
    """Return the row."""
    repeats = asyncio.run(measure_async())
    return [row("CreateService, 64 clients at once", repeats, "/s", original="1,551/s", at_least=1600)]


if __name__ == "__main__":
    main(measure, __doc__)
