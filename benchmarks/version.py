"""``swarmctl version`` as a whole process.

``python -m benchmarks.version [--json]``
"""

import time

from benchmarks.report import Row, main, row
from tests.integration.harness import run

REPEATS = 15


def measure() -> list[Row]:
    """Return the row."""
    found = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        result = run("swarmctl version")
        found.append(time.perf_counter() - started)
        if result.code:
            raise RuntimeError(result.err)
    return [row("swarmctl version", found, "s", original="0.01 s", at_most=0.25)]


if __name__ == "__main__":
    main(measure, __doc__)
