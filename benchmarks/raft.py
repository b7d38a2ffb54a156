"""Writes through one raft node, every one synced: ``python -m benchmarks.raft [--json]``.

Prints the latency of a lone writer and the rate of 64, with 700-byte entries on the disk that holds the
temporary folder, and what sealing one record costs.
"""

import argparse
import asyncio
import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from swarmkit.clock import SystemClock
from swarmkit.raft.cipher import RecordCipher
from swarmkit.raft.node import RaftNode

ENTRY_BYTES = 700
LONE_WRITES = 1_000
WRITERS = 64
WRITES_EACH = 400


class _Machine:
    """Applies for nothing: what is measured is replication alone."""

    def apply(self, index: int, data: bytes) -> None:
        """Do nothing."""

    def leadership_lost(self) -> None:
        """Do nothing."""

    def snapshot(self) -> Callable[[], bytes]:
        """Pin nothing."""
        return bytes

    def restore(self, data: bytes) -> None:
        """Do nothing."""


def _seal_microseconds() -> float:
    cipher, data, rounds = RecordCipher(os.urandom(32)), os.urandom(ENTRY_BYTES), 20_000
    start = time.perf_counter()
    for _ in range(rounds):
        cipher.seal(data)
    return (time.perf_counter() - start) / rounds * 1e6


async def measure(folder: Path) -> dict[str, float]:
    """Return the figures by name."""
    node = RaftNode(
        state_dir=folder,
        node_id="benchmark",
        addr="",
        machine=_Machine(),
        cipher=RecordCipher(os.urandom(32)),
        clock=SystemClock(),
    )
    leading = asyncio.Event()
    node.subscribe(lambda yes: leading.set() if yes else None)
    await node.start()
    await leading.wait()
    data = os.urandom(ENTRY_BYTES)
    for _ in range(50):
        await node.propose(data)
    laps = []
    for _ in range(LONE_WRITES):
        start = time.perf_counter()
        await node.propose(data)
        laps.append((time.perf_counter() - start) * 1e3)

    async def writer() -> None:
        for _ in range(WRITES_EACH):
            await node.propose(data)

    start = time.perf_counter()
    await asyncio.gather(*(writer() for _ in range(WRITERS)))
    rate = WRITERS * WRITES_EACH / (time.perf_counter() - start)
    await node.stop()
    return {
        "lone_write_ms_median": statistics.median(laps),
        "lone_write_ms_p99": statistics.quantiles(laps, n=100)[98],
        "writes_per_second_64": rate,
        "seal_700_bytes_us": _seal_microseconds(),
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(measure(Path(folder)))
    if arguments.json:
        print(json.dumps(figures))
        return
    print(f"one write in a row, one manager   {figures['lone_write_ms_median']:8.2f} ms median")
    print(f"                                  {figures['lone_write_ms_p99']:8.2f} ms p99")
    print(f"64 writers                        {figures['writes_per_second_64']:8.0f} writes/s")
    print(f"sealing a record of 700 bytes     {figures['seal_700_bytes_us']:8.1f} us")


if __name__ == "__main__":
    main()
