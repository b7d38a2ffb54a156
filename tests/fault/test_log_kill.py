"""A real process with a raft node is killed with SIGKILL under load, over and over, on a real disk."""

import asyncio
import os
import random
import signal
import stat
import sys
from pathlib import Path

import pytest

from swarmkit.clock import SystemClock
from swarmkit.raft import LogDamagedError, RaftNode, SnapshotPolicy
from swarmkit.raft.storage import LOG_FOLDER, SNAPSHOT_FOLDER
from tests.fakes.keys import FakeKeys
from tests.fakes.machine import FakeMachine
from tests.scale import SCALE

KEY = bytes(range(32))
ROUNDS = 6
#: Writes that every life acknowledges before it is about to end.
LINES = 100


def make_node(state_dir: Path, machine: FakeMachine) -> RaftNode:
    return RaftNode(
        state_dir=state_dir,
        node_id="node-1",
        addr="",
        machine=machine,
        keys=FakeKeys(KEY),
        clock=SystemClock(),
        policy=lambda: SnapshotPolicy(interval=200, keep_entries=20),
    )


async def leading(node: RaftNode) -> None:
    announced = asyncio.Event()
    node.subscribe(lambda yes: announced.set() if yes else None)
    await node.start()
    await asyncio.wait_for(announced.wait(), 10)


async def write_until_killed(state_dir: Path, life: str) -> None:
    """Write from eight writers and print each value once it is acknowledged."""
    node = make_node(state_dir, FakeMachine())
    await leading(node)

    async def writer(name: int) -> None:
        number = 0
        while True:
            value = f"{life}.{name}.{number}"
            await node.propose(value.encode())
            os.write(1, f"{value}\n".encode())
            number += 1

    await asyncio.gather(*(writer(name) for name in range(8)))


async def one_life(state_dir: Path, life: int, rng: random.Random) -> list[str]:
    """Run a writing process for a moment, kill it, and return what it said was acknowledged."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.fault.test_log_kill",
        str(state_dir),
        str(life),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(60 * SCALE):
        first = b"".join([await process.stdout.readline() for _ in range(LINES)])
    reading = asyncio.create_task(process.stdout.read())
    await asyncio.sleep(rng.uniform(0.0, 0.3))
    process.send_signal(signal.SIGKILL)
    rest = await reading
    await process.wait()
    # The last line may have been cut by the kill; what was printed whole was acknowledged.
    return (first + rest).decode().rpartition("\n")[0].split("\n")


@pytest.mark.slow
async def test_nothing_acknowledged_is_lost_over_many_kills(tmp_path: Path) -> None:
    rng = random.Random(5)
    acknowledged: list[str] = []
    for life in range(ROUNDS):
        acknowledged += await one_life(tmp_path, life, rng)
    machine = FakeMachine()
    node = make_node(tmp_path, machine)
    await leading(node)
    await node.stop()

    values = [value.decode() for value in machine.values]
    assert len(acknowledged) >= LINES * ROUNDS
    assert set(acknowledged) <= set(values)
    assert len(set(values)) == len(values)
    for path in [tmp_path / "raft", tmp_path / LOG_FOLDER, tmp_path / SNAPSHOT_FOLDER]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    files = [*(tmp_path / LOG_FOLDER).iterdir(), *(tmp_path / SNAPSHOT_FOLDER).iterdir()]
    assert len(files) > 1
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


async def test_a_flipped_byte_in_the_middle_of_a_real_log_is_refused_by_name_and_offset(
    tmp_path: Path,
) -> None:
    node = make_node(tmp_path, FakeMachine())
    await leading(node)
    for number in range(20):
        await node.propose(b"%d" % number)
    await node.stop()
    path = next((tmp_path / LOG_FOLDER).iterdir())
    content = bytearray(path.read_bytes())
    content[len(content.rstrip(b"\0")) // 2] ^= 0x40
    path.write_bytes(content)

    with pytest.raises(LogDamagedError, match=rf"raft log is damaged .*{path.name} at byte \d+"):
        await make_node(tmp_path, FakeMachine()).start()
    assert path.read_bytes() == content


if __name__ == "__main__":
    asyncio.run(write_until_killed(Path(sys.argv[1]), sys.argv[2]))
