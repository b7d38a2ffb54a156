"""contract/raft-store-manager.md, 22 and 25; contract/pysyncobj-hazards.md, 11: a group from one survivor."""

import random
from pathlib import Path

import pytest

from swarmkit.api import messages as api
from swarmkit.raft import ForeignStateError, RecordCipher, RecoveryError
from swarmkit.raft.entries import membership_command, read_command, store_command
from swarmkit.raft.log_pb2 import MembershipChange, SnapshotPayload
from swarmkit.raft.membership import Membership
from swarmkit.raft.records import Entry, Record
from swarmkit.raft.recovery import recover_storage
from swarmkit.raft.snapshots import Image, SnapshotStore
from swarmkit.raft.storage import SNAPSHOT_FOLDER, Storage, found_storage, join_storage, open_storage
from swarmkit.raft.wal import Identity
from tests.fakes.disk import FakeDisk, PowerCut
from tests.fakes.raft import KEY, Bench

STATE = Path("/state")
CIPHER = RecordCipher(KEY)
OWN = Identity(1, "node-1")
ADDR = "10.0.0.1:4242"
SEGMENT_BYTES = 4096

#: The last committed entry of a survivor that ``survivor`` leaves: founding, two members, a write.
COMMITTED = 5


def member(number: int) -> api.RaftMember:
    return api.RaftMember(raft_id=number, node_id=f"node-{number}", addr=f"10.0.0.{number}:4242")


def change(kind: "MembershipChange.Kind.ValueType", number: int, index: int, term: int = 1) -> Entry:
    command = membership_command(MembershipChange(kind=kind, member=member(number)))
    return Entry(command, index, term)


def write(index: int, term: int = 1) -> Entry:
    return Entry(store_command(b"write %d" % index), index, term)


def founded(disk: FakeDisk, batches: list[tuple[list[Record], int]]) -> None:
    storage = found_storage(disk, STATE, CIPHER, OWN, ADDR, SEGMENT_BYTES)
    for records, commit in batches:
        storage.wal.append(records, commit)
    storage.wal.close()


def survivor(snapshot: bool = False, tail: int = 3, removed: bool = False) -> tuple[FakeDisk, int]:
    """Return a disk of member 1 of 1, 2 and 3, and the index of its last committed entry."""
    disk = FakeDisk()
    committed: list[Record] = [
        change(MembershipChange.ADD, 2, 3),
        change(MembershipChange.ADD, 3, 4),
        write(COMMITTED),
    ]
    last = COMMITTED
    if removed:
        committed += [
            change(MembershipChange.ADD, 4, last + 1),
            change(MembershipChange.REMOVE, 4, last + 2),
        ]
        last += 2
    batches: list[tuple[list[Record], int]] = [(committed, last)]
    if tail:
        batches.append(([write(last + 1 + i, term=2) for i in range(tail)], last))
    founded(disk, batches)
    if snapshot:
        membership = api.ClusterSnapshot(
            members=[member(number) for number in (1, 2, 3)], removed=[4] if removed else []
        )
        payload = SnapshotPayload(version=0, membership=membership, store=b"").SerializeToString()
        previous, newest = committed[-2:]
        assert isinstance(previous, Entry)
        assert isinstance(newest, Entry)
        SnapshotStore(disk, STATE / SNAPSHOT_FOLDER, CIPHER).save(Image(previous, newest, payload), OWN)
    return disk, last + tail


def recover(disk: FakeDisk, addr: str = ADDR) -> Storage:
    return recover_storage(disk, STATE, CIPHER, OWN.node_id, addr, SEGMENT_BYTES)


def opened(disk: FakeDisk) -> Storage:
    storage = open_storage(disk, STATE, CIPHER, OWN.node_id, SEGMENT_BYTES)
    assert storage is not None
    return storage


def group(storage: Storage) -> Membership:
    """Return the group after the snapshot and all committed entries."""
    membership = Membership()
    start = 0
    if storage.image is not None:
        membership.restore(SnapshotPayload.FromString(storage.image.payload).membership)
        start = storage.image.index
    for entry in storage.state.entries:
        content = read_command(entry.data)
        if start < entry.index <= storage.state.clamped_commit and content is not None:
            if content.WhichOneof("content") == "membership":
                membership.apply(content.membership)
    return membership


@pytest.mark.parametrize("snapshot", [False, True], ids=["log", "snapshot"])
@pytest.mark.parametrize("tail", [0, 3], ids=["all committed", "uncommitted tail"])
@pytest.mark.parametrize("removed", [False, True], ids=["", "one was removed"])
def test_the_survivor_is_alone_and_keeps_all_that_it_has(snapshot: bool, tail: int, removed: bool) -> None:
    disk, kept = survivor(snapshot, tail, removed)
    before = opened(disk).state
    recover(disk).wal.close()
    storage = opened(disk)

    assert storage.wal.identity == OWN
    assert storage.state.entries[:-1] == [entry for entry in before.entries if entry.index <= kept]
    assert storage.state.clamped_commit == storage.state.entries[-1].index == kept + 1
    membership = group(storage)
    assert membership.members == [member(1)]
    assert membership.removed == {2, 3} | ({4} if removed else set())


def test_what_is_returned_is_what_the_disk_holds() -> None:
    disk, _ = survivor()
    storage = recover(disk)
    storage.wal.close()
    assert storage.state == opened(disk).state


def test_the_change_has_a_term_that_no_entry_of_the_log_ever_had() -> None:
    disk, kept = survivor()
    assert [entry.term for entry in opened(disk).state.entries[-3:]] == [2, 2, 2]
    state = recover(disk).state
    assert (state.entries[-1].index, state.entries[-1].term) == (kept + 1, 3)
    assert (state.term, state.vote) == (3, "")


@pytest.mark.parametrize("snapshot", [False, True], ids=["log", "snapshot"])
def test_a_power_cut_leaves_the_old_group_or_the_new_one(snapshot: bool) -> None:
    seen = set()
    for cut in range(1, 9):
        for seed in range(8):
            disk, kept = survivor(snapshot)
            before = opened(disk)
            old = (group(before).ids, before.state.next_index, before.state.clamped_commit)
            disk.cut_at = disk.calls + cut
            try:
                recover(disk)
            except PowerCut:
                pass
            after = opened(disk.after_power_cut(random.Random(seed)))
            found = (group(after).ids, after.state.next_index, after.state.clamped_commit)
            assert found in (old, (frozenset({1}), kept + 2, kept + 1))
            seen.add(found)
    assert len(seen) == 2


def test_forcing_again_changes_nothing() -> None:
    disk, _ = survivor()
    recover(disk).wal.close()
    before, calls = opened(disk).state, disk.calls
    recover(disk).wal.close()
    assert disk.calls == calls
    assert opened(disk).state == before


def test_what_a_lone_member_synced_is_kept_although_no_commit_index_speaks_of_it() -> None:
    disk = FakeDisk()
    founded(disk, [([write(3), write(4)], 2), ([write(5)], 2)])
    state = recover(disk).state
    assert [entry.index for entry in state.entries] == [1, 2, 3, 4, 5]


def test_what_nobody_said_is_committed_is_kept_for_it_may_have_been_acknowledged() -> None:
    disk = FakeDisk()
    founded(disk, [([write(3), change(MembershipChange.ADD, 2, 4), write(5)], 2)])
    storage = recover(disk)
    assert [entry.index for entry in storage.state.entries] == [1, 2, 3, 4, 5, 6]
    assert storage.state.entries[4] == write(5)
    assert group(storage).removed == {2}
    assert group(storage).ids == {1}


def test_a_promise_about_entries_that_were_lost_does_not_commit_later_ones() -> None:
    disk, _ = survivor(tail=0)
    storage = opened(disk)
    storage.wal.append([], 50)  # the group had committed up to 50; those entries never got here
    storage.wal.close()
    storage = recover(disk)
    storage.wal.append([write(COMMITTED + 2, term=4)], COMMITTED + 1)
    storage.wal.close()
    assert opened(disk).state.clamped_commit == COMMITTED + 1


def test_the_configured_address_becomes_the_members() -> None:
    disk, _ = survivor()
    assert group(recover(disk, "192.0.2.1:1")).members[0].addr == "192.0.2.1:1"


def test_without_an_address_the_known_one_stays() -> None:
    disk, _ = survivor()
    assert group(recover(disk, "")).members == [member(1)]


def test_a_member_whose_own_addition_never_arrived_is_added() -> None:
    disk = FakeDisk()
    storage = join_storage(disk, STATE, CIPHER, OWN, SEGMENT_BYTES)
    storage.wal.append([change(MembershipChange.ADD, 2, 2), write(3)], 3)
    storage.wal.close()
    assert group(opened(disk)).ids == {2}
    membership = group(recover(disk))
    assert membership.ids == {1}
    assert membership.removed == {2}


def test_without_a_log_there_is_nothing_to_bring_back() -> None:
    disk = FakeDisk()
    with pytest.raises(RecoveryError, match="no raft log below /state, so no cluster to bring back"):
        recover(disk)
    assert disk.calls == 0


def test_a_joiner_that_has_heard_nothing_has_nothing_to_bring_back() -> None:
    disk = FakeDisk()
    join_storage(disk, STATE, CIPHER, OWN, SEGMENT_BYTES).wal.close()
    calls = disk.calls
    with pytest.raises(RecoveryError, match="holds nothing of the cluster yet"):
        recover(disk)
    assert disk.calls == calls


def test_a_removed_member_cannot_force_anything() -> None:
    disk = FakeDisk()
    gone = change(MembershipChange.REMOVE, 1, 4)
    founded(disk, [([change(MembershipChange.ADD, 2, 3), gone], 4)])
    calls = disk.calls
    with pytest.raises(RecoveryError, match="was removed from its cluster"):
        recover(disk)
    assert disk.calls == calls


def test_a_removal_that_was_never_decided_does_not_count() -> None:
    disk = FakeDisk()
    founded(disk, [([change(MembershipChange.ADD, 2, 3), change(MembershipChange.REMOVE, 1, 4)], 3)])
    storage = recover(disk)
    assert group(storage).ids == {1}
    assert storage.state.entries[-2].index == 3


def test_another_nodes_directory_is_refused() -> None:
    disk, _ = survivor()
    with pytest.raises(ForeignStateError):
        recover_storage(disk, STATE, CIPHER, "node-9", ADDR, SEGMENT_BYTES)


async def test_a_forced_node_leads_at_once_and_goes_on_after_a_restart(bench: Bench) -> None:
    bench.disk, kept = survivor()
    values = [b"write %d" % index for index in range(COMMITTED, kept + 1)]
    node = await bench.started(force_new_cluster=True)
    assert node.raft_id == OWN.raft_id
    assert node.status().term > 2
    assert [known.raft_id for known in node.members()] == [1]
    assert node.machine.values == values
    await node.write(b"new")

    node = await bench.restarted()
    assert node.machine.values == [*values, b"new"]
    assert [known.raft_id for known in node.members()] == [1]


async def test_a_node_that_cannot_be_forced_says_so_and_founds_nothing(bench: Bench) -> None:
    node = bench.node(force_new_cluster=True)
    with pytest.raises(RecoveryError):
        await node.start()
    assert bench.disk.paths("") == []
