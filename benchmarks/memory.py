"""Resident memory of an idle manager, a few seconds after its start.

``python -m benchmarks.memory [--json]``
"""

import time
from pathlib import Path

from benchmarks.daemon import one_manager
from benchmarks.report import Row, main, row

REPEATS = 3
SETTLE_SECONDS = 3.0


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no VmRSS for process {pid}")


def measure() -> list[Row]:
    """Return the row."""
    found = []
    for _ in range(REPEATS):
        with one_manager("docker", flags="--engine-addr unix:///nonexistent/docker.sock") as made:
            time.sleep(SETTLE_SECONDS)
            found.append(resident_mb(made.daemons["node-1"].pid))
    return [row("resident memory of an idle manager", found, "MB", original="40 MB", at_most=90)]


if __name__ == "__main__":
    main(measure, __doc__)
