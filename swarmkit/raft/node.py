"""The raft node: what the store, the manager and the metrics see of replication."""

import asyncio
import random as random_module
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from swarmkit.aio import TaskOwner
from swarmkit.api import messages as api
from swarmkit.ca.cipher import RecordCipher
from swarmkit.clock import Clock
from swarmkit.log import get_logger
from swarmkit.raft.config import RaftConfig, SnapshotPolicy
from swarmkit.raft.driver import Callbacks, Driver, Lanes
from swarmkit.raft.entries import read_command, store_command
from swarmkit.raft.files import FileSystem, OsFiles
from swarmkit.raft.group import GroupChanges
from swarmkit.raft.lanes import ThreadLane
from swarmkit.raft.membership import pick_raft_id
from swarmkit.raft.reads import Reads
from swarmkit.raft.recovery import recover_storage
from swarmkit.raft.rotation import KeyStore, Sealing, open_sealed
from swarmkit.raft.storage import Storage, erase_storage, found_storage, join_storage, open_storage
from swarmkit.raft.transport import Mailbox, NoLinks, PeerLinks
from swarmkit.raft.wal import Identity
from swarmkit.raft.wedge import WedgeGuard
from swarmkit.store.proposer import (
    MAX_PROPOSAL_BYTES,
    LeadershipLostError,
    ProposalTooLargeError,
    StateMachine,
    StoppedError,
)

log = get_logger(__name__)


@dataclass(frozen=True)
class JoinReply:
    """What the leader answered when it added this node.

    Attributes:
        raft_id: of this node from now on.
        members: where the others are reached.
    """

    raft_id: int
    members: Sequence[api.RaftMember]


@dataclass(frozen=True)
class RaftStatus:
    """A look at a running node, for metrics and operators.

    Attributes:
        raft_id: this node; 0 before the start.
        leader_id: the last known leader, or None.
        leading: whether leadership is announced here.
        term: current term.
        commit_index: highest index known to be committed.
        applied_index: highest index applied.
        first_index: oldest entry in memory.
        last_index: newest entry.
        snapshot_index: last entry of the newest snapshot, or 0.
        waiting: proposals that are not decided.
    """

    raft_id: int
    leader_id: int | None
    leading: bool
    term: int
    commit_index: int
    applied_index: int
    first_index: int
    last_index: int
    snapshot_index: int
    waiting: int


class RaftNode(Reads):
    """One member of the group; implements ``swarmkit.store.proposer.Proposer``.

    All methods are called on the event loop. ``start`` restores the state machine before it returns.

    Args:
        state_dir: the node's state directory; log and snapshots are made below it.
        node_id: from the certificate.
        addr: where other managers reach this one; may be empty at first.
        machine: driven by the committed log.
        keys: the data keys of log and snapshots; used in the log's thread.
        clock: time.
        config: timing and limits.
        policy: asked in every cycle; typically reads the cluster object. Must not fail.
        random: raft id and election time-outs.
        on_fatal: told, once, why the node stopped by itself; the process should end.
        on_removed: told, once, that the group has removed this node: ``stop`` it and erase its state.
        joined: what ``Join`` answered, for a node without a log that joins an existing group. A node that has
            a log goes on with it, and takes only addresses from this until its log tells the members.
        join: asked by ``start`` for ``joined`` if there is no log; without either, a group is founded.
        force_new_cluster: make this member the only one of its group before it starts (``recovery.py``). For
            the first start of a process only: later ones would throw out who has joined since.
        files: the disk.
        links: carries messages to other members.
        lanes: threads; made and closed here unless given.
    """

    def __init__(
        self,
        *,
        state_dir: Path,
        node_id: str,
        addr: str,
        machine: StateMachine,
        keys: KeyStore,
        clock: Clock,
        config: RaftConfig | None = None,
        policy: Callable[[], SnapshotPolicy] = SnapshotPolicy,
        random: random_module.Random | None = None,
        on_fatal: Callable[[BaseException], None] | None = None,
        on_removed: Callable[[], None] | None = None,
        joined: JoinReply | None = None,
        join: Callable[[], Awaitable[JoinReply]] | None = None,
        force_new_cluster: bool = False,
        files: FileSystem | None = None,
        links: PeerLinks | None = None,
        lanes: Lanes | None = None,
    ) -> None:
        self._state_dir = state_dir
        self._node_id = node_id
        self._addr = addr
        self._machine = machine
        self._keys = keys
        self._clock = clock
        self._config = config or RaftConfig()
        self._config.validate()
        self._policy = policy
        self._random = random or random_module.SystemRandom()
        self._on_fatal = on_fatal
        self._on_removed = on_removed
        self._joined = joined
        self._join = join
        self._force_new_cluster = force_new_cluster
        self._files = files or OsFiles()
        self._links = links or NoLinks()
        self._lanes = lanes or Lanes(ThreadLane("raft-log"), ThreadLane("raft-snapshots"))
        self._owner = TaskOwner("raft")
        self._subscribers: list[Callable[[bool], None]] = []
        self._member_watchers: list[Callable[[list[api.RaftMember]], None]] = []
        self._standing_watchers: list[Callable[[], None]] = []
        self._driver = None
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        self._removed = False
        self._changes: GroupChanges | None = None

    async def start(self) -> None:
        """Restore the state machine from disk, or found or join a group, and begin to take part.

        Returns with everything applied that is known to be committed; a lone member leads a moment later.

        Raises:
            StorageError: the raft directory cannot be trusted or written; nothing was changed.
            RecoveryError: there is nothing to force a new cluster from; nothing was changed.
            StateDirError: the first data key cannot be stored.
            LibraryError: the wrong consensus library is installed.
            Exception: whatever ``join`` raises; nothing was changed.
        """
        storage, sealing = await self._open_or_begin()
        try:
            callbacks = Callbacks(
                self._leadership_changed, self._members_changed, self._own_removal, self._standing_changed
            )
            driver = Driver(
                storage,
                sealing,
                self._machine,
                self._clock,
                self._config,
                self._policy,
                self._random,
                self._lanes,
                self._links,
                callbacks,
                self._joined.members if self._joined is not None else (),
            )
            self._driver = driver
            self._changes = GroupChanges(driver, self._owner, self._random, self._addr)
            await driver.replay()
        except BaseException:
            self._driver = self._changes = None
            await self._lanes.log.run(storage.wal.close)
            raise
        self._task = self._owner.spawn(self._run(driver), "driver")
        guard = WedgeGuard(
            lambda: driver.proposals.oldest, lambda: _facts(driver), driver.handover.run, self._clock
        )
        driver.proposals.on_first = guard.stir
        self._owner.spawn(guard.run(), "wedge guard")

    async def _open_or_begin(self) -> tuple[Storage, Sealing]:
        storage, sealing = await self._lanes.log.run(self._open)
        if storage is None:
            if self._join is not None:
                self._joined = await self._join()
            storage = await self._lanes.log.run(lambda: self._begin(sealing.cipher))
        return storage, sealing

    def _open(self) -> tuple[Storage | None, Sealing]:
        files, folder, size = self._files, self._state_dir, self._config.segment_bytes

        def open_with(cipher: RecordCipher) -> Storage | None:
            if self._force_new_cluster:
                return recover_storage(files, folder, cipher, self._node_id, self._addr, size)
            return open_storage(files, folder, cipher, self._node_id, size)

        return open_sealed(self._keys, open_with)

    def _begin(self, cipher: RecordCipher) -> Storage:
        files, folder, size = self._files, self._state_dir, self._config.segment_bytes
        if self._joined is not None:
            identity = Identity(self._joined.raft_id, self._node_id)
            log.info("joining a raft group", raft_id=f"{identity.raft_id:x}", node_id=self._node_id)
            return join_storage(files, folder, cipher, identity, size)
        identity = Identity(pick_raft_id(self._random, ()), self._node_id)
        log.info("founding a raft group", raft_id=f"{identity.raft_id:x}", node_id=self._node_id)
        return found_storage(files, folder, cipher, identity, self._addr, size)

    async def stop(self, erase: bool = False) -> None:
        """Fail what waits, finish the cycle and the snapshot that run, close the files, end the threads.

        Needed after a failed start or a fatal error as well; may be called twice. With ``erase``, log and
        snapshots are deleted as well, and then the data keys forgotten.

        Raises:
            WriteFailedError, StateDirError: ``erase`` left something behind.
        """
        self._stopped = True
        if self._driver is not None:
            self._driver.handover.abandon()
            self._driver.resign(StoppedError)
            self._driver.request_stop()
        if self._task is not None:
            await asyncio.wait([self._task])
        await self._owner.close()
        self._lanes.close()
        if erase:
            await asyncio.to_thread(erase_storage, self._files, self._state_dir)
            await asyncio.to_thread(self._keys.drop_data_keys)

    async def _run(self, driver: Driver) -> None:
        try:
            await driver.run()
            self._stopped = True
            driver.handover.abandon()
            driver.resign(StoppedError)
            await self._lanes.log.run(driver.log.close)
        except Exception as error:  # the boundary of the task: whatever ends the cycle ends the node
            await self._fail(driver, error)

    async def _fail(self, driver: Driver, error: Exception) -> None:
        log.error("the raft node stops", raft_id=f"{driver.raft_id:x}", error=error)
        self._stopped = True
        try:
            driver.handover.abandon()
            driver.resign(StoppedError)
        except Exception:
            log.exception("the state machine failed while the raft node stopped")
        await self._lanes.log.run(driver.log.abandon)
        if self._on_fatal is not None:
            self._on_fatal(error)

    # -- The Proposer -------------------------------------------------------------------------------------

    def next_index(self) -> int:
        """Return the log index the next accepted proposal will get; exact while ``may_propose``."""
        driver = self._running()
        return driver.proposals.next_index if driver.announced else driver.log.last_index + 1

    def propose(self, data: bytes) -> "asyncio.Future[int]":
        """Queue one entry of the store; the future ends with its index once it is applied here.

        Raises:
            LeadershipLostError: leadership is not announced here.
            ProposalTooLargeError: ``data`` is over ``MAX_PROPOSAL_BYTES``.
            ProposalQueueFullError: too much waits; try again later.
            StoppedError: the node is not running.
        """
        driver = self._running()
        if not driver.announced:
            raise LeadershipLostError
        if len(data) > MAX_PROPOSAL_BYTES:
            raise ProposalTooLargeError(len(data))
        future = driver.proposals.add(store_command(data))
        driver.wake()
        return future

    def changes_since(self, index: int) -> Iterable[tuple[int, bytes]] | None:
        """Return the store's applied entries behind ``index`` in order.

        None if the log does not reach back to ``index`` or has not got that far.
        """
        driver = self._running()
        applied = driver.library.applied_index
        if not driver.log.first_index - 1 <= index <= applied:
            return None
        changes = []
        for entry in driver.log.between(index, applied):
            content = read_command(entry.data)
            if content is not None and content.WhichOneof("content") == "store":
                changes.append((entry.index, content.store))
        return changes

    # -- Leadership and members ---------------------------------------------------------------------------

    def subscribe(self, callback: Callable[[bool], None]) -> Callable[[], None]:
        """Have ``callback`` told of each announcement (True) and loss (False) of leadership; return its end.

        It is called in the middle of a cycle: it must return at once and not call back into this node. A loss
        is told before the proposals that wait are failed.
        """
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    def watch_members(self, callback: Callable[[list[api.RaftMember]], None]) -> Callable[[], None]:
        """Have ``callback`` given the full list at each change of it, as ``subscribe``; return its end."""
        self._member_watchers.append(callback)
        return lambda: self._member_watchers.remove(callback)

    def watch_standing(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have ``callback`` told when the known leader or a peer's reachability may have changed.

        As ``subscribe``; returns its end.
        """
        self._standing_watchers.append(callback)
        return lambda: self._standing_watchers.remove(callback)

    def _standing_changed(self) -> None:
        for callback in list(self._standing_watchers):
            callback()

    def _leadership_changed(self, leading: bool) -> None:
        for callback in list(self._subscribers):
            callback(leading)
        if leading and self._changes is not None:
            self._changes.advertise()

    def _members_changed(self) -> None:
        members = self.members()
        for callback in list(self._member_watchers):
            callback(members)

    def _own_removal(self) -> None:
        self._removed = True
        if self._driver is not None:
            self._driver.request_stop()
        if self._on_removed is not None:
            self._on_removed()

    def told_removed(self) -> None:
        """Take part no longer: another member says that this node was removed."""
        if self._driver is not None:
            self._driver.own_removal()

    @property
    def removed(self) -> bool:
        """Whether this node was removed from the group; its state is to be erased."""
        return self._removed

    @property
    def raft_id(self) -> int:
        """This member's raft id; 0 before the start."""
        return 0 if self._driver is None else self._driver.raft_id

    @property
    def is_leader(self) -> bool:
        """Whether raft itself says so, announced or not (contract/raft-store-manager.md, 16)."""
        return self._driver is not None and not self._stopped and self._driver.library.leading

    @property
    def leader_id(self) -> int | None:
        """The raft id of the last known leader."""
        return None if self._driver is None else self._driver.library.leader

    @property
    def mailbox(self) -> Mailbox:
        """Where the carrier of messages puts what arrives.

        Raises:
            StoppedError: the node is not running.
        """
        return self._running().mailbox

    def members(self) -> list[api.RaftMember]:
        """Return the members, each with leader flag and reachability; empty before the start."""
        driver = self._driver
        if driver is None:
            return []
        members = []
        for known in driver.replica.membership.members:
            reachable = known.raft_id == driver.raft_id or driver.mailbox.is_connected(known.raft_id)
            status = api.RaftMemberStatus(
                leader=known.raft_id == driver.library.leader,
                reachability=api.RaftMemberStatus.REACHABLE
                if reachable
                else api.RaftMemberStatus.UNREACHABLE,
            )
            members.append(
                api.RaftMember(raft_id=known.raft_id, node_id=known.node_id, addr=known.addr, status=status)
            )
        return members

    def status(self) -> RaftStatus:
        """Return indexes and counts of the moment.

        Raises:
            StoppedError: the node is not running.
        """
        driver = self._running()
        library = driver.library
        return RaftStatus(
            raft_id=driver.raft_id,
            leader_id=library.leader,
            leading=driver.announced,
            term=library.term,
            commit_index=library.commit_index,
            applied_index=library.applied_index,
            first_index=driver.log.first_index,
            last_index=driver.log.last_index,
            snapshot_index=driver.snapshotter.index,
            waiting=len(driver.proposals),
        )

    @property
    def group(self) -> GroupChanges:
        """What a leader can do to its group: add, remove, hand over.

        Raises:
            StoppedError: the node is not running.
        """
        self._running()
        assert self._changes is not None
        return self._changes

    def rotate_data_key(self) -> None:
        """Look at the key file: it was marked to have its data key rotated. Also seen at the next start."""
        if self._driver is not None and not self._stopped:
            self._driver.rotation.request()
            self._driver.wake()

    def set_address(self, addr: str) -> None:
        """Make ``addr`` this member's address: at once if leading, else when it next leads."""
        self._addr = addr
        if self._changes is not None and not self._stopped:
            self._changes.set_address(addr)


def _facts(driver: Driver) -> dict[str, object]:
    """Return what explains why nothing is decided, as fields of a line in the log."""
    library = driver.library
    return {
        "raft_id": f"{driver.raft_id:x}",
        "term": library.term,
        "last_index": driver.log.last_index,
        "commit_index": library.commit_index,
        "applied_index": library.applied_index,
        "waiting": len(driver.proposals),
        "match_indexes": " ".join(
            f"{peer:x}:{library.match_index(peer)}" + ("" if driver.mailbox.is_connected(peer) else "(away)")
            for peer in sorted(library.peers)
        ),
    }
