"""The cycle: the one coroutine that owns the consensus library (contract/pysyncobj-hazards.md, 9).

Everyone else only appends to the inbox or the queue of proposals and wakes it. A cycle runs when a message, a
proposal or a deadline is due, never on a fixed poll:

1. deliver the inbox;
2. hand queued proposals over and tick;
3. if leading and there is news, send;
4. let the appends of a leader leave;
5. sync what the log collected, in the log thread, while messages and proposals pile up;
6. let the rest leave, announce leadership, begin to write a snapshot that was pinned.
"""

import asyncio
import random as random_module
from collections.abc import Callable
from dataclasses import dataclass

from swarmkit.clock import Clock
from swarmkit.log import get_logger
from swarmkit.raft.config import MAX_BYTES_PER_PASS, MAX_ENTRIES_PER_PASS, RaftConfig, SnapshotPolicy
from swarmkit.raft.errors import ApplyError, MembershipError
from swarmkit.raft.lanes import Lane
from swarmkit.raft.library import Library
from swarmkit.raft.log import RaftLog
from swarmkit.raft.proposals import Proposals
from swarmkit.raft.replica import Replica
from swarmkit.raft.snapshotter import Snapshotter
from swarmkit.raft.storage import Storage
from swarmkit.raft.transfer import Piece
from swarmkit.raft.transport import APPEND, LinkChange, Mailbox, Message, PeerLinks, Received
from swarmkit.store.proposer import LeadershipLostError, ProposalError, StateMachine

log = get_logger(__name__)

#: How long after a deadline the library looks at it: it wants the deadline to be past, not reached.
_DEADLINE_SLACK_SECONDS = 0.001


@dataclass(frozen=True)
class Lanes:
    """The threads of a node: one for the log, one for snapshots."""

    log: Lane
    snapshots: Lane

    def close(self) -> None:
        """Let both threads end."""
        self.log.close()
        self.snapshots.close()


@dataclass
class Callbacks:
    """What the driver tells the node. Called on the loop, in the middle of a cycle: note and return.

    Attributes:
        leadership: leadership was announced (True) or lost (False).
        membership: a member was added, removed or has a new address.
        removed: this node's own removal was applied.
    """

    leadership: Callable[[bool], None]
    membership: Callable[[], None]
    removed: Callable[[], None]


class Driver:
    """Runs cycles over an opened raft directory. Implements the library's ``Events``."""

    def __init__(
        self,
        storage: Storage,
        machine: StateMachine,
        clock: Clock,
        config: RaftConfig,
        policy: Callable[[], SnapshotPolicy],
        random: random_module.Random,
        lanes: Lanes,
        links: PeerLinks,
        callbacks: Callbacks,
    ) -> None:
        self.raft_id = storage.wal.identity.raft_id
        self.replica = Replica(machine)
        self.log = RaftLog(storage.wal, storage.state)
        self.proposals = Proposals(config.max_waiting_proposals, config.max_waiting_bytes)
        self.announced = False
        self._clock = clock
        self._config = config
        self._lanes = lanes
        self._links = links
        self._callbacks = callbacks
        self._wake = asyncio.Event()
        self.mailbox = Mailbox(self._wake.set)
        self._stopping = False
        self._failure: Exception | None = None
        self.snapshotter = Snapshotter(
            storage.snapshots,
            storage.wal.identity,
            self.replica.pin,
            policy,
            lanes.snapshots,
            clock,
            self._wake.set,
            links.is_congested,
        )
        if storage.image is not None:
            self.replica.restore(storage.image)
            self.snapshotter.index = storage.image.index
        self._policy = policy
        peers = self._member_ids() - {self.raft_id}
        self.library = Library(self.raft_id, peers, self.log, self.snapshotter, config, self, random)

    def wake(self) -> None:
        """Have a cycle run soon."""
        self._wake.set()

    def request_stop(self) -> None:
        """Let ``run`` end after the cycle that runs now."""
        self._stopping = True
        self._wake.set()

    # -- Events of the library ----------------------------------------------------------------------------

    def apply(self, index: int, command: bytes) -> None:
        """Apply a committed entry. Never raises: after a failure nothing is applied and the node stops."""
        if self._failure is not None:
            return
        try:
            self._apply(index, command)
        except Exception as error:  # whatever the state machine raises is a divergence
            self._failure = ApplyError(index, error)
            self._failure.__cause__ = error

    def _apply(self, index: int, command: bytes) -> None:
        refusal: MembershipError | None = None
        try:
            if self.replica.apply(index, command):
                self._members_changed()
        except MembershipError as error:
            log.warning("refused a change of the raft group", index=index, error=error)
            refusal = error
        self.proposals.applied(index, refusal)

    def _member_ids(self) -> set[int]:
        return {member.raft_id for member in self.replica.membership.members}

    def _members_changed(self) -> None:
        members, counted = self._member_ids() - {self.raft_id}, self.library.peers
        for raft_id in members - counted:
            self.library.add_peer(raft_id)
        for raft_id in counted - members:
            self.library.remove_peer(raft_id)
        self._tell_members()
        if self.raft_id in self.replica.membership.removed:
            self._callbacks.removed()

    def _tell_members(self) -> None:
        membership = self.replica.membership
        self._links.update_members(membership.members, membership.removed)
        self._callbacks.membership()

    def leading_changed(self, leading: bool) -> None:
        """Note that this node leads or ceased to lead; announcing waits for its no-op to be applied."""
        if not leading:
            self.resign(LeadershipLostError)

    def resign(self, error: Callable[[], ProposalError]) -> None:
        """Announce the loss of leadership, drop the overlay, fail all waiting proposals: in this order."""
        if self.announced:
            self.announced = False
            self._callbacks.leadership(False)
            self.replica.machine.leadership_lost()
        self.proposals.fail_all(error)

    def post(self, peer: int, message: Message) -> None:
        """Take a message of the library; it leaves when this cycle releases it."""
        self.mailbox.post(peer, message)

    # -- Running ------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run cycles until ``request_stop``. Cancelling it leaves unsynced changes unsynced.

        Raises:
            WriteFailedError: the log could not be written; nothing more was acknowledged.
            ApplyError: a committed entry could not be applied.
        """
        try:
            while not self._stopping:
                self._wake.clear()
                if not await self._cycle():
                    await self._wait()
        finally:
            await self.snapshotter.close()

    async def replay(self) -> None:
        """Apply the committed entries behind the snapshot, in passes; then campaign if alone (H18)."""
        self._tell_members()
        library = self.library
        commit = self.log.getRaftCommitIndex()
        start = max(self.snapshotter.index, 1)  # the log's built-in first entry counts as applied
        library.resume(start, start)
        while library.applied_index < commit:
            applied = library.applied_index
            library.resume(applied, min(applied + MAX_ENTRIES_PER_PASS, commit))
            library.postpone_election()
            library.tick()
            if self._failure is not None:
                raise self._failure
            await asyncio.sleep(0)
        if library.peers:
            library.postpone_election()
        else:
            library.campaign_now()

    async def _cycle(self) -> bool:
        """Run one cycle; tell whether another should follow at once."""
        await self._deliver()
        news = self._tick()
        if self.library.leading and (news or self.snapshotter.can_send):
            self.library.send_appends()
            self.snapshotter.sent()
        pending = self.log.take_pending()
        self._release(self.mailbox.take_early())
        if pending is not None:
            await self._lanes.log.run(lambda: self.log.write(pending))
        self._release(self.mailbox.take_outbox())
        self._announce()
        self.snapshotter.begin()
        snapshot_due = self.snapshotter.is_due(self.library.applied_index)
        if snapshot_due:
            self.library.request_snapshot()
        if pending is None:
            await asyncio.sleep(0)  # a row of cycles without a sync must not hold the loop
        # After a sync the leader's own copy counts: look at the commit index again.
        leading = self.library.leading
        if leading and (pending is not None or self.snapshotter.can_send):
            return True
        return snapshot_due or self.proposals.has_queued or self.mailbox.has_inbox

    async def _deliver(self) -> None:
        for item in self.mailbox.take_inbox():
            if isinstance(item, LinkChange):
                self.library.set_connected(item.peer, item.connected)
            else:
                await self._receive(item)

    async def _receive(self, item: Received) -> None:
        """Hand one message to the library. The admission filter (hazards, 6) belongs before all of this."""
        message, library = item.message, self.library
        carried: tuple[Piece, bool, bool] | None = message.get("serialized")
        image = None
        if carried is not None and message["type"] == APPEND and message["term"] >= library.term:
            image = await self.snapshotter.receive(carried[0], library.applied_index)
        if image is not None:
            self.replica.restore(image)
        library.receive(item.sender, message)
        if image is not None:
            library.resume(image.index, image.index)
            library.replace_peers(self._member_ids() - {self.raft_id})
            self._tell_members()
            log.info("installed the leader's snapshot", index=image.index)

    def _tick(self) -> bool:
        """Append, commit and apply; tell whether a leader has something to send."""
        library = self.library
        last, commit = self.log.last_index, library.commit_index
        if self.announced:
            for command in self.proposals.take(MAX_ENTRIES_PER_PASS, MAX_BYTES_PER_PASS):
                library.append(command)
        self._look_at_deadline()
        self.log.keep_entries = self._policy().keep_entries
        self.log.disk_floor = self.snapshotter.oldest_index
        library.tick()
        if self._failure is not None:
            raise self._failure
        return (last, commit) != (self.log.last_index, library.commit_index)

    def _look_at_deadline(self) -> None:
        """Hold back a candidacy that is due to a stall of this loop, or cannot be held (H14, H32)."""
        library = self.library
        if library.leading or not library.peers:
            return
        overdue = self._clock.monotonic() - library.election_deadline
        cut_off = not any(self.mailbox.is_connected(peer) for peer in library.peers)
        if overdue > self._config.election_min_seconds / 2 or (overdue > 0 and cut_off):
            library.postpone_election()

    def _release(self, messages: list[tuple[int, Message]]) -> None:
        for peer, message in messages:
            self._links.send(peer, message)

    def _announce(self) -> None:
        library = self.library
        no_op = library.no_op_index
        if self.announced or self._stopping or not library.leading:
            return
        if no_op is None or library.applied_index < no_op:
            return
        self.announced = True
        self.proposals.next_index = self.log.last_index + 1
        log.info("leading the raft group", raft_id=f"{self.raft_id:x}", term=library.term)
        self._callbacks.leadership(True)

    async def _wait(self) -> None:
        """Sleep until something is due."""
        if self._wake.is_set():
            return
        due = self._due()
        if due is None:
            await self._wake.wait()
            return
        delay = max(due - self._clock.monotonic(), 0.0) + _DEADLINE_SLACK_SECONDS
        timer = asyncio.get_running_loop().call_later(delay, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

    def _due(self) -> float | None:
        if not self.library.leading:
            return self.library.election_deadline
        return self.library.heartbeat_due if self.library.peers else None
