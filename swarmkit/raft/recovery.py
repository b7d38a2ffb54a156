"""Bringing a group back from one survivor (contract/raft-store-manager.md, 22, "Force new cluster").

Lost is what the old group acknowledged and this disk does not hold. The other members are removed for ever:
whoever of them comes back is told so when it calls, and must erase its state and join anew. Two of them that
cannot reach the survivor would go on as the old group.
"""

from pathlib import Path

from google.protobuf.message import DecodeError

from swarmkit.api import messages as api
from swarmkit.ca.cipher import RecordCipher
from swarmkit.log import get_logger
from swarmkit.raft.entries import membership_command, read_command
from swarmkit.raft.errors import ApplyError, MembershipError, RecoveryError
from swarmkit.raft.files import FileSystem
from swarmkit.raft.log_pb2 import MembershipChange
from swarmkit.raft.membership import Membership
from swarmkit.raft.records import Entry, Record, Term, Truncate
from swarmkit.raft.replica import read_payload
from swarmkit.raft.storage import Storage, open_storage

log = get_logger(__name__)


def recover_storage(
    files: FileSystem, state_dir: Path, cipher: RecordCipher, node_id: str, addr: str, segment_bytes: int
) -> Storage:
    """Open log and snapshot below ``state_dir`` and make this member the only one of its group. Blocks.

    Snapshot, entries, raft id and node id stay; ``addr`` becomes the member's address, unless it is
    empty. A crash at any moment leaves the old group or the new one. May be repeated: a member that is alone
    already stays as it is.

    Raises:
        RecoveryError: there is nothing to bring back, or this member was removed.
        StorageError: as ``open_storage``, or the change could not be written.
        ApplyError: a committed entry cannot be read.
    """
    storage = open_storage(files, state_dir, cipher, node_id, segment_bytes)
    if storage is None:
        raise RecoveryError(
            f"there is no raft log below {state_dir}, so no cluster to bring back:"
            " force a new cluster on a manager that has one, or start without it"
        )
    try:
        _force(storage, addr)
    except BaseException:
        storage.wal.close()
        raise
    return storage


def _force(storage: Storage, addr: str) -> None:
    identity, state = storage.wal.identity, storage.state
    membership, kept = _kept_members(storage)
    if identity.raft_id in membership.removed:
        raise RecoveryError(
            f"this manager (raft id {identity.raft_id:x}) was removed from its cluster and has no say in it:"
            " force the new cluster on one that was still a member"
        )
    if not membership.ids:
        raise RecoveryError(
            "this manager had begun to join and holds nothing of the cluster yet:"
            " force the new cluster on another manager"
        )
    if membership.ids == {identity.raft_id}:
        log.info("this manager is the only member already; nothing is forced")
        return
    known = membership.get(identity.raft_id)
    if not addr and known is not None:
        addr = known.addr
    member = api.RaftMember(raft_id=identity.raft_id, node_id=identity.node_id, addr=addr)
    change = MembershipChange(kind=MembershipChange.RESET, member=member)
    last = state.next_index - 1
    # A term of its own: an entry that is cut off here must not have the same index and term as this one.
    term = state.term + 1
    batch: list[Record] = [Truncate(kept + 1)] if last > kept else []
    batch += [Term(term, ""), Entry(membership_command(change), kept + 1, term)]
    storage.wal.append(batch, kept + 1, new_segment=True)
    for record in batch:
        state.take(record)
    state.commit = kept + 1
    log.warning(
        "forced a new cluster: this manager is its only member",
        raft_id=f"{identity.raft_id:x}",
        removed=" ".join(f"{raft_id:x}" for raft_id in sorted(membership.ids - {identity.raft_id})),
        kept=kept,
        dropped=last - kept,
    )


def _kept_members(storage: Storage) -> tuple[Membership, int]:
    """Return the group as the entries that are kept make it, and the index of the last one of them.

    PARITY: the original keeps only what it knows to be committed. A follower hears that with the next message
    at the earliest, so its newest entries may have been acknowledged all the same: all are kept. That an
    entry without a quorum takes effect is no harm, for its author was told that nobody knows. The one
    exception is the removal of this very member.
    """
    state, image, own = storage.state, storage.image, storage.wal.identity.raft_id
    membership = Membership()
    restored = 0
    if image is not None:
        membership.restore(read_payload(image).membership)
        restored = image.index
    kept = max(state.clamped_commit, restored)
    for entry in state.entries:
        if entry.index <= restored:
            continue
        change = _change(entry)
        if change is not None:
            if entry.index > state.clamped_commit and _removes(change, own):
                break
            _apply(membership, change, entry.index)
        kept = max(kept, entry.index)
    return membership, kept


def _removes(change: MembershipChange, own: int) -> bool:
    if change.kind == MembershipChange.RESET:
        return change.member.raft_id != own
    return change.kind == MembershipChange.REMOVE and change.member.raft_id == own


def _change(entry: Entry) -> MembershipChange | None:
    try:
        content = read_command(entry.data)
    except (ValueError, DecodeError) as error:
        raise ApplyError(entry.index, error) from error
    return None if content is None or content.WhichOneof("content") != "membership" else content.membership


def _apply(membership: Membership, change: MembershipChange, index: int) -> None:
    try:
        membership.apply(change)
    except MembershipError as error:
        log.debug("refused a change of the raft group, as all members did", index=index, error=error)
