"""What a node does when its manager cannot go on."""

import random
from pathlib import Path

import pytest

from swarmkit.ca.enrollment import found_cluster
from swarmkit.ca.errors import StateDirError
from swarmkit.ca.statedir import CERTIFICATES
from swarmkit.manager.place import RaftIdFile
from swarmkit.node.config import NodeConfig
from swarmkit.node.node import Node, NodeError
from swarmkit.raft.errors import RaftError
from tests.fakes.loop import VirtualClock


class FailingSupervisor:
    def __init__(self, error: Exception) -> None:
        self._error = error

    async def run(self) -> None:
        raise self._error


@pytest.mark.parametrize(
    "error",
    [
        NodeError("the log is damaged"),
        RaftError("the disk is full"),
        StateDirError("the key file cannot be written"),
        OSError("no"),
    ],
)
async def test_what_an_operator_can_mend_ends_the_node_without_a_traceback(
    tmp_path: Path, clock: VirtualClock, error: Exception
) -> None:
    told: list[BaseException] = []
    node = Node(NodeConfig(state_dir=tmp_path), clock, random.Random(1), told.append)
    await node._supervise(FailingSupervisor(error))  # type: ignore[arg-type]
    assert told == [error]


async def test_a_defect_is_not_taken_for_that(tmp_path: Path, clock: VirtualClock) -> None:
    node = Node(NodeConfig(state_dir=tmp_path), clock, random.Random(1), lambda error: None)
    with pytest.raises(ZeroDivisionError):
        await node._supervise(FailingSupervisor(ZeroDivisionError()))  # type: ignore[arg-type]


async def test_a_worker_forgets_log_keys_and_raft_id_of_the_manager_it_was(
    tmp_path: Path, clock: VirtualClock
) -> None:
    node = Node(NodeConfig(state_dir=tmp_path), clock, random.Random(1), lambda error: None)
    state = node._state
    state.prepare()
    state.save(found_cluster(clock.now()).credentials)
    state.key_file.data_key()
    segment = tmp_path / "raft" / "wal-v3-encrypted" / "0000000000000001-0000000000000001.wal"
    segment.parent.mkdir(parents=True)
    segment.write_bytes(b"log")
    record = RaftIdFile(tmp_path / CERTIFICATES)
    record.write(7)
    await node._forget_log()
    assert not segment.exists()
    assert state.key_file.headers().data_key is None
    assert record.read() == 0
