"""Bringing a group back from one survivor (contract/raft-store-manager.md, 22, "Force new cluster").

Lost is what the old group acknowledged and this disk does not hold, or holds without having heard that it was
committed. The other members are removed for ever: whoever of them comes back is told so when it calls, and
must erase its state and join anew. Two of them that cannot reach the survivor would go on as the old group.
"""

from pathlib import Path

from google.protobuf.message import DecodeError

from swarmkit.api import messages as api
from swarmkit.log import get_logger
from swarmkit.raft.cipher import RecordCipher
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

    Snapshot, committed entries, raft id and node id stay; ``addr`` becomes the member's address, unless it is
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
    membership, committed = _committed_members(storage)
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
    batch: list[Record] = [Truncate(committed + 1)] if last > committed else []
    batch += [Term(term, ""), Entry(membership_command(change), committed + 1, term)]
    storage.wal.append(batch, committed + 1, new_segment=True)
    for record in batch:
        state.take(record)
    state.commit = committed + 1
    log.warning(
        "forced a new cluster: this manager is its only member",
        raft_id=f"{identity.raft_id:x}",
        removed=" ".join(f"{raft_id:x}" for raft_id in sorted(membership.ids - {identity.raft_id})),
        committed=committed,
        dropped=last - committed,
    )


def _committed_members(storage: Storage) -> tuple[Membership, int]:
    """Return the group as the committed entries make it, and the index of the last one of them.

    An entry counts as committed up to the recorded commit index, and behind it as long as this member is
    alone: what it has synced is decided with that, only the index is recorded with the next sync.
    """
    alone = frozenset({storage.wal.identity.raft_id})
    state, image = storage.state, storage.image
    membership = Membership()
    restored = 0
    if image is not None:
        membership.restore(read_payload(image).membership)
        restored = image.index
    committed = state.clamped_commit
    for entry in state.entries:
        if entry.index <= restored:
            continue
        if entry.index > committed and membership.ids != alone:
            break
        _take(membership, entry)
        committed = max(committed, entry.index)
    return membership, committed


def _take(membership: Membership, entry: Entry) -> None:
    try:
        content = read_command(entry.data)
    except (ValueError, DecodeError) as error:
        raise ApplyError(entry.index, error) from error
    if content is None or content.WhichOneof("content") != "membership":
        return
    try:
        membership.apply(content.membership)
    except MembershipError as error:
        log.debug("refused a change of the raft group, as all members did", index=entry.index, error=error)
