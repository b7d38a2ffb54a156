"""``make bench``: every row of the table, one process after the other.

``python -m benchmarks [--json] [NAME ...]``
"""

import argparse
import dataclasses
import json
import subprocess
import sys

from benchmarks.report import Row, interpreter, table

NAMES = (
    "create_serial",
    "create_parallel",
    "get_service",
    "task_start",
    "scale_up",
    "memory",
    "version",
    "scheduler",
    "raft",
    "failover",
    "large",
)


def run(name: str) -> list[Row]:
    """Run one benchmark in a process of its own; one that fails is said and left out."""
    print(f"{name} ...", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", f"benchmarks.{name}", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        print(f"{name} failed: {last}", file=sys.stderr, flush=True)
        return []
    return [Row(**fields) for fields in json.loads(done.stdout)]


def main() -> None:
    """Run what was asked for and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], help="benchmarks to run, default all")
    arguments = parser.parse_args()
    rows = [row for name in arguments.names or NAMES for row in run(name)]
    if arguments.json:
        print(json.dumps([dataclasses.asdict(row) for row in rows]))
    else:
        print(f"{table(rows)}\n\n{interpreter()}")


if __name__ == "__main__":
    main()
