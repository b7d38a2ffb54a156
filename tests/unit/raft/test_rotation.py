"""contract/raft-store-manager.md, 15 and 25 (Snapshots and keys); contract/security.md, 13: data keys."""

import asyncio
import random
from dataclasses import replace

import pytest

from swarmkit.ca.cipher import RecordCipher
from swarmkit.ca.errors import StateDirError
from swarmkit.ca.keyfile import KeyHeaders
from swarmkit.raft import SnapshotPolicy, WriteFailedError, WrongKeyError
from swarmkit.raft.driver import Lanes
from swarmkit.raft.rotation import begun, cipher_for, finished
from swarmkit.raft.storage import open_storage
from tests.fakes.keys import FakeKeys
from tests.fakes.lanes import InlineLane
from tests.fakes.raft import KEY, Bench, TestNode

OLD, NEW = b"o" * 32, b"n" * 32


class StoppedLane(InlineLane):
    """Snapshots cannot be written while it is closed off."""

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self.bench = bench
        self.broken = True

    async def run(self, call):  # type: ignore[no-untyped-def]
        self.bench.disk.sync_error = OSError(28, "No space left on device") if self.broken else None
        try:
            return call()
        finally:
            self.bench.disk.sync_error = None


async def without_snapshots(bench: Bench) -> tuple[TestNode, StoppedLane]:
    node = bench.node()
    lane = StoppedLane(bench)
    node._lanes = Lanes(node._lanes.log, lane)
    await node.start()
    await node.lead()
    return node, lane


def rotate(bench: Bench, node: TestNode) -> None:
    bench.keys.mark()
    node.rotate_data_key()


async def settled(bench: Bench, limit: float = 10) -> None:
    """Wait until no rotation is wanted or under way."""
    async with asyncio.timeout(limit):
        while bench.keys.stored.needs_rotation or bench.keys.stored.pending_data_key:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def opens(bench: Bench, *keys: bytes) -> bool:
    """Tell whether these keys open all that is on the disk."""
    names = bench.disk.paths("")
    try:
        storage = open_storage(bench.disk, bench.state_dir, RecordCipher(*keys), "node-1", 4096)
    except WrongKeyError:
        assert bench.disk.paths("") == names
        return False
    assert storage is not None
    storage.wal.close()
    return True


# -- Rules --------------------------------------------------------------------------------------------------


def test_a_rotation_begins_when_the_flag_is_set_and_no_key_is_pending() -> None:
    assert begun(KeyHeaders(OLD), NEW) == KeyHeaders(OLD)
    assert begun(KeyHeaders(OLD, needs_rotation=True), NEW) == KeyHeaders(OLD, NEW)
    under_way = KeyHeaders(OLD, b"p" * 32, needs_rotation=True)
    assert begun(under_way, NEW) == under_way


def test_at_its_end_the_pending_key_is_the_current_one_and_the_flag_stays() -> None:
    assert finished(KeyHeaders(OLD, NEW)) == KeyHeaders(NEW)
    assert finished(KeyHeaders(OLD, NEW, needs_rotation=True)) == KeyHeaders(NEW, needs_rotation=True)
    assert finished(KeyHeaders(OLD)) == KeyHeaders(OLD)


def test_the_pending_key_writes_and_both_read() -> None:
    cipher = cipher_for(KeyHeaders(OLD, NEW))
    assert RecordCipher(NEW).open(cipher.seal(b"data")) == b"data"
    assert cipher.open(RecordCipher(OLD).seal(b"data")) == b"data"
    assert RecordCipher(OLD).open(cipher_for(KeyHeaders(OLD)).seal(b"data")) == b"data"


# -- One rotation -------------------------------------------------------------------------------------------


async def test_the_first_start_makes_a_data_key_and_later_ones_keep_it(bench: Bench) -> None:
    bench.keys = FakeKeys()
    await bench.started()
    key = bench.keys.stored.data_key
    assert key is not None
    assert len(key) == 32

    await bench.restarted()
    assert bench.keys.stored == KeyHeaders(key)


async def test_an_idle_node_rotates_at_once_and_the_old_key_opens_nothing_any_more(bench: Bench) -> None:
    node = await bench.started()
    await node.write(b"a", b"b", b"c")
    rotate(bench, node)
    await settled(bench)

    first, second = bench.keys.writes[-2:]
    assert first.pending_data_key == second.data_key != KEY
    assert (first.data_key, first.needs_rotation) == (KEY, False)
    assert second == KeyHeaders(second.data_key)
    assert second.data_key is not None
    assert opens(bench, second.data_key)
    assert not opens(bench, KEY)
    assert len(bench.disk.paths(".snap")) == 1

    again = await bench.restarted()
    assert again.machine.values == [b"a", b"b", b"c"]
    await again.write(b"d")
    last = await bench.restarted()
    assert last.machine.values == [b"a", b"b", b"c", b"d"]


async def test_without_the_flag_nothing_is_rotated(bench: Bench) -> None:
    node = await bench.started()
    node.rotate_data_key()
    await node.write(b"a")
    await asyncio.sleep(1)
    assert bench.keys.stored == KeyHeaders(KEY)
    assert bench.disk.paths(".snap") == []


async def test_a_flag_that_is_set_at_the_start_begins_a_rotation(bench: Bench) -> None:
    await bench.started()
    bench.keys.mark()
    await bench.restarted()
    await settled(bench)
    assert bench.keys.stored.data_key != KEY


async def test_the_pending_key_is_stored_before_anything_is_written_under_it(bench: Bench) -> None:
    node = await bench.started()
    segments = bench.disk.paths(".wal")
    bench.keys.mark()
    bench.keys.broken = True
    node.rotate_data_key()
    await node.write(b"a")
    await asyncio.sleep(1)
    assert bench.disk.paths(".wal") == segments
    assert opens(bench, KEY)
    assert bench.keys.stored == KeyHeaders(KEY, needs_rotation=True)  # the old key stays in use, the flag too

    bench.keys.broken = False
    await asyncio.sleep(1)
    assert bench.keys.stored.data_key == KEY  # tried again on a later entry
    await node.write(b"b")
    await settled(bench)
    assert bench.keys.stored.data_key != KEY


async def test_snapshots_that_the_policy_keeps_go_with_their_key(bench: Bench) -> None:
    def policy() -> SnapshotPolicy:
        return SnapshotPolicy(interval=20, keep_entries=5, keep_old=2)

    node = await bench.started(policy=policy)
    for i in range(100):
        await node.propose(b"%d" % i)
    assert len(bench.disk.paths(".snap")) == 3
    rotate(bench, node)
    await settled(bench)
    assert len(bench.disk.paths(".snap")) == 1

    for i in range(100):
        await node.propose(b"later %d" % i)
    again = await bench.restarted(policy=policy)
    assert len(again.machine.values) == 200


async def test_a_snapshot_at_the_last_entry_makes_the_rotation_wait_for_one_more(bench: Bench) -> None:
    node = await bench.started(policy=lambda: SnapshotPolicy(interval=10, keep_entries=5))
    while node.status().snapshot_index < node.status().last_index:
        await node.write(b"a")
        await asyncio.sleep(0.1)
    rotate(bench, node)
    await asyncio.sleep(1)
    assert bench.keys.stored.pending_data_key is not None

    await node.write(b"b")
    await settled(bench)
    assert opens(bench, bench.keys.stored.data_key or b"")


async def test_a_rotation_waits_for_the_snapshot_that_is_being_written(bench: Bench) -> None:
    node = bench.node(policy=lambda: SnapshotPolicy(interval=10, keep_entries=0))
    node._lanes = Lanes(node._lanes.log, InlineLane(5.0))
    await node.start()
    await node.lead()
    await node.write(*(b"%d" % i for i in range(12)))
    rotate(bench, node)
    await asyncio.sleep(4)
    assert bench.keys.stored == KeyHeaders(KEY, needs_rotation=True)
    assert bench.disk.paths(".snap") == []

    await node.write(b"a")
    await settled(bench, limit=60)
    assert node.machine.calls.count("snapshot") == 2  # the one that ran, and the rotation's


async def test_rotations_asked_for_meanwhile_make_exactly_one_more(bench: Bench) -> None:
    node, lane = await without_snapshots(bench)
    rotate(bench, node)
    await node.write(b"a")
    for _ in range(5):
        rotate(bench, node)
        await node.write(b"b")
    pending = bench.keys.stored.pending_data_key
    assert bench.keys.stored == KeyHeaders(KEY, pending, needs_rotation=True)

    lane.broken = False
    for _ in range(4):
        await node.write(b"c")
        await asyncio.sleep(0.1)
    keys = [headers.data_key for headers in bench.keys.writes]
    assert keys[-1] != pending
    assert bench.keys.stored == KeyHeaders(keys[-1])
    assert len(set(keys)) == 3  # the first, the one of the first rotation, the one of all others


async def test_without_a_snapshot_the_rotation_stays_pending_and_both_keys_are_needed(bench: Bench) -> None:
    node, _ = await without_snapshots(bench)
    await node.write(b"before")
    rotate(bench, node)
    await node.write(b"meanwhile")
    await node.write(*(b"%d" % i for i in range(20)))
    await asyncio.sleep(1)

    pending = bench.keys.stored.pending_data_key
    assert pending is not None
    assert opens(bench, pending, KEY)
    assert not opens(bench, KEY)
    assert not opens(bench, pending)
    assert not node.fatal


async def test_a_rotation_that_a_restart_interrupted_is_finished_afterwards(bench: Bench) -> None:
    node, _ = await without_snapshots(bench)
    rotate(bench, node)
    await node.write(*(b"%d" % i for i in range(20)))
    pending = bench.keys.stored.pending_data_key
    assert pending is not None

    again = await bench.restarted()
    await settled(bench)
    assert again.machine.values == node.machine.values
    assert bench.keys.stored == KeyHeaders(pending)
    assert opens(bench, pending)


async def test_keys_that_cannot_be_stored_in_the_end_are_tried_again_without_a_new_snapshot(
    bench: Bench,
) -> None:
    node, lane = await without_snapshots(bench)
    rotate(bench, node)
    await node.write(b"a")
    bench.keys.broken = True
    lane.broken = False
    await node.write(b"b", b"c")
    await asyncio.sleep(1)
    snapshots = node.machine.calls.count("snapshot")
    pending = bench.keys.stored.pending_data_key
    assert pending is not None
    assert opens(bench, pending)  # all is done but for the key file

    bench.keys.broken = False
    await node.write(b"d")
    await settled(bench)
    assert bench.keys.stored == KeyHeaders(pending)
    assert node.machine.calls.count("snapshot") == snapshots


async def test_if_the_pending_key_alone_opens_everything_only_the_key_file_is_written(bench: Bench) -> None:
    node = await bench.started()
    await node.write(b"a")
    await node.stop()
    bench.keys.stored = KeyHeaders(OLD, KEY)  # the crash came right before the last step

    again = await bench.started()
    await settled(bench)
    assert bench.keys.writes == [KeyHeaders(KEY)]
    assert again.machine.values == [b"a"]
    assert "snapshot" not in again.machine.calls


async def test_a_flag_and_a_pending_key_at_the_start_finish_one_rotation_and_begin_a_second(
    bench: Bench,
) -> None:
    node, _ = await without_snapshots(bench)
    rotate(bench, node)
    await node.write(b"a")
    await node.stop()
    bench.keys.mark()
    pending = bench.keys.stored.pending_data_key

    again = await bench.started()
    await again.write(b"b")
    await asyncio.sleep(0.1)
    await again.write(b"c")
    await settled(bench)
    stages = bench.keys.writes[-3:]
    assert stages[0] == KeyHeaders(pending, needs_rotation=True)
    assert stages[1] == KeyHeaders(pending, stages[2].data_key)
    assert stages[2] == KeyHeaders(stages[2].data_key)


async def test_keys_that_open_nothing_change_nothing(bench: Bench) -> None:
    node = await bench.started()
    await node.write(b"a")
    await node.stop()
    before = {path: bench.disk.read(path) for path in bench.disk.paths("")}

    for stored in (KeyHeaders(OLD), KeyHeaders(OLD, NEW)):
        keys = FakeKeys()
        keys.stored = stored
        with pytest.raises(WrongKeyError):
            await bench.node(keys=keys).start()
        assert keys.stored == stored
        assert {path: bench.disk.read(path) for path in bench.disk.paths("")} == before


async def test_a_log_that_cannot_go_on_under_the_new_key_stops_the_node(bench: Bench) -> None:
    node = await bench.started()
    await node.write(b"a")
    bench.disk.sync_error = OSError(5, "Input/output error")
    rotate(bench, node)
    await asyncio.sleep(0.1)
    assert [type(error) for error in node.fatal] == [WriteFailedError]

    bench.disk.sync_error = None
    again = await bench.started()
    await settled(bench)
    assert again.machine.values == [b"a"]


async def test_erasing_the_state_forgets_the_data_keys(bench: Bench) -> None:
    node = await bench.started()
    await node.stop(erase=True)
    assert bench.disk.paths("") == []
    assert bench.keys.stored == KeyHeaders()


async def test_without_a_key_that_can_be_stored_nothing_is_founded(bench: Bench) -> None:
    bench.keys = FakeKeys()
    bench.keys.broken = True
    with pytest.raises(StateDirError):
        await bench.node().start()
    assert bench.disk.paths("") == []


async def test_thirty_rotations_with_restarts_under_load_lose_nothing(bench: Bench) -> None:
    def policy() -> SnapshotPolicy:
        return SnapshotPolicy(interval=23, keep_entries=7, keep_old=1)

    rng = random.Random(30)
    node = await bench.started(policy=policy, latency=0.001)
    written: list[bytes] = []
    seen = {bench.keys.stored.data_key}

    async def load() -> None:
        for _ in range(rng.randrange(5, 40)):
            values = [b"%d" % (len(written) + i) for i in range(rng.randrange(1, 5))]
            written.extend(values)
            await node.write(*values)

    for _ in range(30):
        rotate(bench, node)
        await load()
        if rng.random() < 0.5:
            node = await bench.restarted(policy=policy, latency=0.001)
            assert node.machine.values == written
        await load()
        await settled(bench)
        seen.add(bench.keys.stored.data_key)
    assert len(seen) == 31
    await bench.restarted(policy=policy)
    assert bench.nodes[-1].machine.values == written
    assert opens(bench, bench.keys.stored.data_key or b"")
    assert bench.keys.stored == replace(bench.keys.stored, pending_data_key=None, needs_rotation=False)
