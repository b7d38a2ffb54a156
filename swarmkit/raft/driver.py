"""The cycle: the one coroutine that owns the consensus library (contract/pysyncobj-hazards.md, 9).

Everyone else only appends to the inbox or the queue of proposals and wakes it. A cycle runs when a message, a
proposal or a deadline is due, never on a fixed poll:

1. deliver the inbox, once the proposals that come close upon one another are all there;
2. hand queued proposals over and tick; if leading, apply what is committed: callers wait for it;
3. if leading and there is news, send;
4. let the appends of a leader leave;
5. sync what the log collected, in the log thread, while messages and proposals pile up;
6. let the rest leave; if following, apply only now: a leader waits for the answer and nobody for this;
7. announce leadership, begin to write a snapshot that was pinned, go on with a rotation of the data key.
"""

import asyncio
import random as random_module
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from swarmkit.api import messages as api
from swarmkit.clock import Clock
from swarmkit.log import get_logger
from swarmkit.raft.admission import Admission
from swarmkit.raft.candidacy import Candidacy
from swarmkit.raft.config import MAX_BYTES_PER_PASS, MAX_ENTRIES_PER_PASS, RaftConfig, SnapshotPolicy
from swarmkit.raft.confirmations import Confirmations
from swarmkit.raft.contact import Contact
from swarmkit.raft.elections import Elections
from swarmkit.raft.errors import ApplyError, MembershipError
from swarmkit.raft.handover import Handover, Office
from swarmkit.raft.lanes import Lane
from swarmkit.raft.library import Library
from swarmkit.raft.log import Pending, RaftLog
from swarmkit.raft.messages import Envelope, Message, SnapshotPart
from swarmkit.raft.proposals import Proposals
from swarmkit.raft.receiving import NodeState, Receiver
from swarmkit.raft.replica import Replica
from swarmkit.raft.rotation import KeyRotation, Sealing
from swarmkit.raft.snapshots import Image
from swarmkit.raft.snapshotter import Snapshotter
from swarmkit.raft.storage import Storage
from swarmkit.raft.transport import Mailbox, PeerLinks
from swarmkit.store.proposer import LeadershipLostError, ProposalError, StateMachine

log = get_logger(__name__)

#: How long after a deadline the library looks at it: it wants the deadline to be past, not reached.
_DEADLINE_SLACK_SECONDS = 0.001

#: How long the only member so far goes on leading while the second one starts.
_JOINING_SECONDS = 10.0


#: Gathering ends after so many turns of the loop in which nothing came, at so many proposals, or after so
#: many seconds: a heartbeat is 50 times as long.
_QUIET_TURNS = 16
_GATHERED = 64
_GATHERING_SECONDS = 0.005


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
        removed: the group has removed this node; told once.
        standing: the known leader or who is connected may have changed.
    """

    leadership: Callable[[bool], None]
    membership: Callable[[], None]
    removed: Callable[[], None]
    standing: Callable[[], None]


class Driver:
    """Runs cycles over an opened raft directory.

    Implements the library's ``Events`` and the receiver's ``Host``.

    Args:
        storage: log and snapshots.
        sealing: the data keys they are sealed under.
        machine: driven by the committed log.
        clock: time.
        config: timing and limits.
        policy: when to take snapshots.
        random: time-outs.
        lanes: threads.
        links: carries messages.
        callbacks: told of what happens.
        known_members: the address book of a joiner, until its log tells who belongs to the group.
    """

    def __init__(
        self,
        storage: Storage,
        sealing: Sealing,
        machine: StateMachine,
        clock: Clock,
        config: RaftConfig,
        policy: Callable[[], SnapshotPolicy],
        random: random_module.Random,
        lanes: Lanes,
        links: PeerLinks,
        callbacks: Callbacks,
        known_members: Sequence[api.RaftMember] = (),
    ) -> None:
        self.raft_id = raft_id = storage.wal.identity.raft_id
        self.replica = Replica(machine)
        self.log = RaftLog(storage.wal, storage.state)
        self.proposals = Proposals(config.max_waiting_proposals, config.max_waiting_bytes, clock.monotonic)
        self.announced = False
        self._clock = clock
        self._lanes = lanes
        self._callbacks = callbacks
        self._known_members = known_members
        self._wake = asyncio.Event()
        self.mailbox = Mailbox(self._wake.set, clock.monotonic)
        self._stopping = False
        self._removed = False
        self._standing: tuple[int | None, int] = (None, 0)
        #: The last index of the newest batch of proposals.
        self._batch_end = 0
        self._failure: Exception | None = None
        self.snapshotter = self._restored(storage, policy, links)
        self.rotation = KeyRotation(sealing, storage, self.log, self.snapshotter, lanes.log, clock)
        self._policy = policy
        peers = self.replica.membership.ids - {raft_id}
        self.library = library = Library(raft_id, peers, self.log, self.snapshotter, config, self, random)
        self._elections = Elections(random)
        self.state = state = NodeState(raft_id, library, self.log, self.replica, self._elections)
        self.confirmations = Confirmations(
            state, links, clock.monotonic, config.election_min_seconds, self.wake
        )
        self._links = links = self.confirmations
        self._candidacy = Candidacy(
            state, library, self.mailbox, self._elections, clock.monotonic, config, self.reply
        )
        admission = Admission(state, config.election_min_seconds)
        self.receiver = Receiver(self, self.mailbox, library, self._elections, admission, self.confirmations)
        office = Office(state, library, self.log, self.mailbox, self.reply)
        self.handover = Handover(office, clock.monotonic, config.election_max_seconds, self.wake)
        self._contact = Contact(raft_id, library, self.log, self.mailbox, links, config.heartbeat_seconds)

    def _restored(
        self, storage: Storage, policy: Callable[[], SnapshotPolicy], links: PeerLinks
    ) -> Snapshotter:
        """Restore the newest snapshot, if there is one; return who takes the next ones."""
        snapshotter = Snapshotter(
            storage.snapshots,
            storage.wal.identity,
            self.replica.pin,
            policy,
            self._lanes.snapshots,
            self._clock,
            self._wake.set,
            links.is_congested,
            self.mailbox.is_connected,
            self.replica.check,
            lambda: self.log.first_index,
        )
        if storage.image is not None:
            self.replica.restore(storage.image)
            snapshotter.index = storage.image.index
        return snapshotter

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

    def _members_changed(self) -> None:
        members, counted = self.state.peers, self.library.peers
        for raft_id in sorted(members - counted):
            self.library.add_peer(raft_id)
            if self.library.leading and len(members) == 1:
                # Without the second member nothing is decided, but nobody else can lead either: it may start.
                self.library.expect_silence(_JOINING_SECONDS)
        for raft_id in sorted(counted - members):
            self.library.remove_peer(raft_id)
            # Before the removed member hears of it and erases its log: should this one restart and not know
            # that the removal is decided, it would wait for that member's vote for ever.
            self.log.record_commit()
        self._tell_members()
        if self.raft_id in self.replica.membership.removed:
            self.own_removal()

    def _tell_members(self) -> None:
        membership = self.replica.membership
        self._links.update_members(membership.members or self._known_members, membership.removed)
        self._callbacks.membership()

    def own_removal(self) -> None:
        """Take no further part: the group has removed this node."""
        if not self._removed:
            self._removed = True
            log.warning("this manager was removed from the raft group", raft_id=f"{self.raft_id:x}")
            self._callbacks.removed()

    def leading_changed(self, leading: bool) -> None:
        """Note that this node leads or ceased to lead; announcing waits for its no-op to be applied."""
        self._candidacy.leading_changed(leading)
        if leading:
            self.confirmations.begin()
        else:
            self._elections.forget_leader()
            self._batch_end = 0
            self.snapshotter.end_transfers()
            self.resign(LeadershipLostError)

    def resign(self, error: Callable[[], ProposalError]) -> None:
        """Announce the loss of leadership, drop the overlay, fail all waiting proposals: in this order."""
        if self.announced:
            self.announced = False
            self._callbacks.leadership(False)
            self.replica.machine.leadership_lost()
        self.proposals.fail_all(error)
        self.confirmations.fail(error)

    def post(self, peer: int, term: int, message: Message) -> None:
        """Take a message of the library; it leaves when this cycle releases it."""
        self.mailbox.post(Envelope(self.raft_id, peer, term, self._candidacy.stamp(message)))

    def is_congested(self, peer: int) -> bool:
        """Tell whether a peer should be sent nothing more for now."""
        return self._links.is_congested(peer)

    # -- Host of the receiver -----------------------------------------------------------------------------

    def reply(self, peer: int, message: Message) -> None:
        """Post a message of the current term."""
        self.mailbox.post(Envelope(self.raft_id, peer, self.library.term, message))

    async def install(self, part: SnapshotPart) -> Image | None:
        """Take a piece of a snapshot; return the snapshot once it is complete, durable and restored."""
        assert part.piece is not None
        receiving = self.snapshotter.receive(part.piece, self.library.applied_index)
        image = await self._contact.during(receiving)
        if image is not None:
            # Many objects take seconds to read: in a thread, with signs of life.
            preparing = self._lanes.snapshots.run(partial(self.replica.prepare, image))
            try:
                replace = await self._contact.during(preparing)
                replace()
            except Exception as error:  # whatever the state machine raises is a divergence
                self._failure = ApplyError(image.index, error)
                self._failure.__cause__ = error
        return image

    def link_lost(self, peer: int) -> None:
        """Note that a peer's stream has ended."""
        self._candidacy.link_lost(peer)

    def outrun(self) -> None:
        """Note that a member wants to lead whose log is behind this one's."""
        self._candidacy.outrun()

    def installed(self, image: Image) -> None:
        """Go on from a snapshot that the library has taken over."""
        self.library.resume(image.index, image.index)
        self.library.replace_peers(self.state.peers)
        self._tell_members()
        log.info("installed the leader's snapshot", index=image.index)
        if self.raft_id in self.replica.membership.removed:
            self.own_removal()

    # -- Running ------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run cycles until ``request_stop``. Cancelling it leaves unsynced changes unsynced.

        Raises:
            WriteFailedError: the log could not be written; nothing more was acknowledged.
            ApplyError: a committed entry could not be applied.
        """
        try:
            while True:
                await self._gather()
                self._wake.clear()
                if self._stopping:  # asked after the wake was cleared that came with it
                    return
                if not await self._cycle():
                    await self._wait()
        finally:
            await self.snapshotter.close()

    async def replay(self) -> None:
        """Apply the committed entries behind the snapshot, in passes; then campaign if alone (H18)."""
        self._tell_members()
        library = self.library
        start = max(self.snapshotter.index, 1)  # the log's built-in first entry counts as applied
        library.resume(start, self.log.getRaftCommitIndex())
        while library.applied_index < library.commit_index:
            library.postpone_election()
            library.tick()
            self._apply_committed()
            await asyncio.sleep(0)
        if self.state.members == {self.raft_id}:
            library.campaign_now()
        else:
            library.postpone_election()
            # Its former life may have promised a leader, a moment ago, to elect nobody else (lease.py).
            self._elections.heard_leader(self._clock.monotonic())

    async def _gather(self) -> None:
        """Let proposals that come close upon one another share a batch; who proposes alone is not held up.

        A batch costs the same however many share it. While more come in within a few turns of the loop, the
        processor is what all of them wait for, not the disk.
        """
        proposals, quiet = self.proposals, 0
        until = self._clock.monotonic() + _GATHERING_SECONDS
        while 1 < proposals.queued < _GATHERED and quiet < _QUIET_TURNS and self._takes_proposals:
            queued = proposals.queued
            await asyncio.sleep(0)
            quiet = quiet + 1 if proposals.queued == queued else 0
            if self._clock.monotonic() >= until:
                break

    async def _cycle(self) -> bool:
        """Run one cycle; tell whether another should follow at once."""
        await self.receiver.deliver()
        news = self._tick()
        library, snapshotter = self.library, self.snapshotter
        if leading := library.leading:
            news = self._apply_committed() or news
        round_wanted = self.confirmations.look()
        if library.leading and (news or round_wanted or snapshotter.can_send):
            library.send_appends()
            snapshotter.sent()
        self.handover.look()
        pending = self.log.take_pending()
        self._release(self.mailbox.take_early())
        if pending is not None:
            await self._sync(pending)
        self._release(self.mailbox.take_outbox())
        if not leading:
            self._apply_committed()
        self._announce()
        self._tell_standing()
        snapshotter.begin()
        if self.rotation.is_due(library.applied_index):
            await self._without_loss(self.rotation.step(library.applied_index))
        snapshot_due = snapshotter.is_due(library.applied_index)
        if snapshot_due:
            library.request_snapshot()
        unapplied = library.applied_index < library.commit_index
        if pending is None or unapplied:
            await asyncio.sleep(0)  # a row of cycles without a sync, or of passes, must not hold the loop
        # After a sync the leader's own copy counts: look at the commit index again.
        if library.leading and (pending is not None or snapshotter.can_send):
            return True
        queued = self.proposals.queued > 0 and self._takes_proposals
        return snapshot_due or queued or unapplied or self.mailbox.has_inbox or self.log.has_pending

    @property
    def _takes_proposals(self) -> bool:
        """Whether those that wait are to be appended now.

        A batch costs the same however many proposals share it, in every member. While one is on its way to a
        majority, what comes in gathers for the next: callers wait hardly longer, and all of them together get
        more done.
        """
        ready = self.announced and not self.handover.holds_proposals
        return ready and self._batch_end <= self.library.commit_index

    def _tick(self) -> bool:
        """Append and commit; tell whether a leader has something to send at once.

        That more is committed by now is no such thing, unless it changes the group: the next entries or the
        next heartbeat tell it. Followers are read by nobody, and each message costs as much as an entry.
        """
        self._raise_failure()
        library, receiver = self.library, self.receiver
        last = self.log.last_index
        appended = False
        if self._takes_proposals:
            for command in self.proposals.take(MAX_ENTRIES_PER_PASS, MAX_BYTES_PER_PASS):
                library.append(command)
                appended = True
        self._candidacy.look()
        self.log.keep_entries = self._policy().keep_entries
        self.log.disk_floor = self.snapshotter.oldest_index
        library.tick()
        if appended:
            self._batch_end = self.log.last_index
        self._candidacy.ticked()
        was_reset, receiver.was_reset = receiver.was_reset, False
        return was_reset or last != self.log.last_index

    def _apply_committed(self) -> bool:
        """Apply committed entries; tell whether they change the group."""
        group = self.state.members
        self.library.apply()
        self._raise_failure()
        return group is not self.state.members

    def _raise_failure(self) -> None:
        """Stop if an entry could not be applied, or a snapshot not be installed."""
        if self._failure is not None:
            raise self._failure

    async def _sync(self, pending: Pending) -> None:
        await self._without_loss(self._lanes.log.run(lambda: self.log.write(pending)))

    async def _without_loss(self, writing: Awaitable[None]) -> None:
        """Wait for the disk and keep in contact with the peers meanwhile."""
        if self.state.peers:
            await self._contact.during(writing)
        else:
            await writing

    def _release(self, messages: list[Envelope]) -> None:
        for envelope in messages:
            self._links.send(envelope)

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

    def _tell_standing(self) -> None:
        standing = (self.library.leader, self.mailbox.link_changes)
        if standing != self._standing:
            self._standing = standing
            self._callbacks.standing()

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
        own, handover = self._candidacy.due, self.handover.deadline
        if own is None or handover is None:
            return handover if own is None else own
        return min(own, handover)
