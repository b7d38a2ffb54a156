"""Writes through one raft node, every one synced: ``python -m benchmarks.raft [--json]``.

Prints the latency of a lone writer and the rate of 64, with 700-byte entries on the disk that holds the
temporary folder, and what sealing one record costs.
"""

import asyncio
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.report import Row, main, row
from swarmkit.ca.cipher import RecordCipher
from swarmkit.clock import SystemClock
from swarmkit.raft.node import RaftNode
from tests.fakes.keys import FakeKeys

ENTRY_BYTES = 700
LONE_WRITES = 1_000
WRITERS = 64
WRITES_EACH = 400
REPEATS = 5


class _Machine:
    """Applies for nothing: what is measured is replication alone."""

    def apply(self, index: int, data: bytes) -> None:
        """Do nothing."""

    def leadership_lost(self) -> None:
        """Do nothing."""

    def snapshot(self) -> Callable[[], bytes]:
        """Pin nothing."""
        return bytes

    def prepare(self, data: bytes) -> Callable[[], None]:
        """Do nothing."""
        return lambda: None


def _seal_microseconds() -> float:
    cipher, data, rounds = RecordCipher(os.urandom(32)), os.urandom(ENTRY_BYTES), 20_000
    start = time.perf_counter()
    for _ in range(rounds):
        cipher.seal(data)
    return (time.perf_counter() - start) / rounds * 1e6


async def measure(folder: Path) -> list[Row]:
    """Return the rows, measured in ``folder``."""
    node = RaftNode(
        state_dir=folder,
        node_id="benchmark",
        addr="",
        machine=_Machine(),
        keys=FakeKeys(os.urandom(32)),
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

    rates = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        await asyncio.gather(*(writer() for _ in range(WRITERS)))
        rates.append(WRITERS * WRITES_EACH / (time.perf_counter() - start))
    await node.stop()
    chunk = LONE_WRITES // REPEATS
    medians = [statistics.median(laps[n * chunk : (n + 1) * chunk]) for n in range(REPEATS)]
    return [
        row("log alone: one write in a row, synced", medians, "ms", at_most=1),
        row("log alone: 64 writers, synced", rates, "/s", at_least=10_000),
        row("log alone: sealing a record of 700 bytes", [_seal_microseconds() for _ in range(REPEATS)], "us"),
    ]


def rows() -> list[Row]:
    """Return the rows."""
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(measure(Path(folder)))


if __name__ == "__main__":
    main(rows, __doc__)
