"""A state directory that was recorded with the first format is read by today's code and applied the same."""

import shutil
from pathlib import Path

import pytest
from google.protobuf import text_format

from swarmkit.api import messages as api
from swarmkit.ca.keyfile import KeyFile
from swarmkit.raft import RecordCipher
from swarmkit.raft.files import OsFiles
from swarmkit.raft.replica import Replica
from swarmkit.raft.storage import Storage, open_storage
from swarmkit.store.store import Store
from tests.fakes.keys import FakeKeys
from tests.fakes.loop import VirtualClock
from tests.fakes.machine import FakeMachine
from tests.fakes.raft import TestNode
from tests.fakes.raft_directory import COMMITTED, COVERED, DATA_KEY, LAST, OWN

RECORDED = Path(__file__).parents[2] / "data" / "raft-v1"


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """A copy: opening a directory may change it."""
    return shutil.copytree(RECORDED, tmp_path / "state")


def opened(state_dir: Path) -> Storage:
    storage = open_storage(OsFiles(), state_dir, RecordCipher(DATA_KEY), OWN.node_id, 4096)
    assert storage is not None
    storage.wal.close()
    return storage


def expected() -> api.StoreSnapshot:
    text = (RECORDED / "expected.txtpb").read_text()
    return text_format.Parse(text, api.StoreSnapshot())


def test_the_key_file_gives_the_data_key(state_dir: Path) -> None:
    headers = KeyFile(state_dir / "certificates").peek()
    assert headers is not None
    assert headers.data_key == DATA_KEY


def test_the_log_adds_up_to_the_same(state_dir: Path) -> None:
    storage = opened(state_dir)
    state = storage.state
    assert storage.wal.identity == OWN
    assert [entry.index for entry in state.entries] == list(range(1, LAST + 1))
    assert [entry.term for entry in state.entries] == [0] * 2 + [1] * 8 + [2] * 6
    assert (state.clamped_commit, state.term, state.vote) == (COMMITTED, 2, "b2")


@pytest.mark.parametrize("from_snapshot", [False, True], ids=["log", "snapshot and log"])
def test_it_is_applied_to_the_same_objects_and_members(state_dir: Path, from_snapshot: bool) -> None:
    storage = opened(state_dir)
    store = Store(VirtualClock())
    replica = Replica(store)
    start = 0
    if from_snapshot:
        assert storage.image is not None
        replica.restore(storage.image)
        start = storage.image.index
        assert start == COVERED
    for entry in storage.state.entries[start:COMMITTED]:
        replica.apply(entry.index, entry.data)
    store.check_invariants()
    assert api.StoreSnapshot.FromString(store.snapshot()()) == expected()
    (member,) = replica.membership.members
    assert (member.raft_id, member.node_id, member.addr) == (OWN.raft_id, OWN.node_id, "10.0.0.1:4444")
    assert replica.membership.removed == {0xB2, 0xC3}


@pytest.mark.real_time
async def test_a_node_starts_on_it_and_goes_on(state_dir: Path) -> None:
    machine = FakeMachine()
    machine.prepare = lambda data: lambda: None  # type: ignore[method-assign]  # it is a store's
    node = TestNode(
        machine,
        state_dir=state_dir,
        node_id=OWN.node_id,
        addr="10.0.0.1:4444",
        keys=FakeKeys(DATA_KEY),
        clock=VirtualClock(),
    )
    try:
        await node.start()
        await node.lead()
        await node.write(b"today")
        assert node.machine.entries[-1] == (LAST + 2, b"today")
    finally:
        await node.stop()
