"""A swarm with 50,000 objects: restart of a manager until it serves, and a new manager until it is REACHABLE.

``python -m benchmarks.large [--json]``
"""

import asyncio
import time

from benchmarks.create_parallel import CLIENTS, measure_async
from benchmarks.report import Row, main, row
from tests.integration.harness import eventually
from tests.integration.managers import REACHABLE, Managers, managers

OBJECTS = 50_000
REPEATS = 3


def restart(made: Managers) -> float:
    """Kill the only manager; return seconds from its start until it has answered."""
    made.daemons["node-1"].kill()
    started = time.perf_counter()
    made.restart("node-1")
    eventually(lambda: made.at("node-1").service("s0-0-0"), 60, "the manager answers", 0.02)
    return time.perf_counter() - started


def join(made: Managers, name: str) -> float:
    """Return seconds from a new manager's start until ``node ls`` shows it as REACHABLE."""
    made.token("manager")
    started = time.perf_counter()
    made.join_manager(name)

    def look() -> None:
        assert made.standing("node-1").get(name) is not None
        assert made.standing("node-1")[name].reachability == REACHABLE

    eventually(look, 60, f"{name} is reachable", 0.02)
    seconds = time.perf_counter() - started
    made.daemons[name].wait_ready()
    return seconds


def measure() -> list[Row]:
    """Return the rows."""
    with managers(1, "simulated") as made:
        asyncio.run(measure_async(made, OBJECTS // CLIENTS + 1, 1))
        restarts = [restart(made) for _ in range(REPEATS)]
        made.daemons["node-1"].wait_ready()
        joins = [join(made, f"node-{number}") for number in range(2, 2 + REPEATS)]
    return [
        row("restart of a manager with 50,000 objects until it serves", restarts, "s", at_most=5.0),
        row("a new manager joining 50,000 objects until REACHABLE", joins, "s", at_most=10.0),
    ]


if __name__ == "__main__":
    main(measure, __doc__)
