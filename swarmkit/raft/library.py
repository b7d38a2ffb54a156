"""The one module that touches the consensus library's private names (contract/pysyncobj-hazards.md, 12).

The library is PySyncObj, used without its threads, sockets, files, forks, pickles and dynamic membership:
what remains is the consensus algorithm. ``check_library`` refuses another version and missing names at start;
a test compares digests of its files. Everything runs on the event loop, in the driver's coroutine.
"""

import asyncio
import functools
import random as random_module
from collections.abc import Iterable
from types import ModuleType
from typing import Any, Protocol

import pysyncobj.pickle
from pysyncobj import SyncObj, SyncObjConf, syncobj
from pysyncobj.node import Node
from pysyncobj.transport import Transport

from swarmkit.raft.config import MAX_ENTRIES_PER_PASS, RaftConfig
from swarmkit.raft.dialect import Serializer, from_library, in_portions, to_library
from swarmkit.raft.errors import LibraryError
from swarmkit.raft.log import RaftLog
from swarmkit.raft.messages import Append, Message, Reply, SnapshotPart, VoteRequest

VERSION = "0.3.17"

#: Private methods that are overridden or called.
METHODS = (
    "_SyncObj__onMessageReceived",
    "_SyncObj__onNodeConnected",
    "_SyncObj__onNodeDisconnected",
    "_SyncObj__applyLogEntries",
    "_SyncObj__generateRaftTimeout",
    "_SyncObj__sendAppendEntries",
    "_SyncObj__doChangeCluster",
    "_SyncObj__updateClusterConfiguration",
)

#: Private attributes that are read, written or replaced; all set by the constructor.
ATTRIBUTES = (
    "_SyncObj__raftLog",
    "_SyncObj__serializer",
    "_SyncObj__raftElectionDeadline",
    "_SyncObj__raftNextIndex",
    "_SyncObj__raftMatchIndex",
    "_SyncObj__lastResponseTime",
    "_SyncObj__raftState",
    "_SyncObj__raftLeader",
    "_SyncObj__raftCommitIndex",
    "_SyncObj__raftLastApplied",
    "_SyncObj__noopIDx",
    "_SyncObj__otherNodes",
    "_SyncObj__newAppendEntriesTime",
)

#: What the library asks of the object that stands in its serializer's place.
SERIALIZER_METHODS = (
    "serialize",
    "checkSerializing",
    "deserialize",
    "getTransmissionData",
    "setTransmissionData",
    "cancelTransmisstion",
)

#: Names of modules that are replaced for the whole process.
PICKLE_FUNCTIONS = ("loads", "load", "dumps", "dump")

#: Above the largest entry (1.5 MiB), so that the library never splits one (H8).
BATCH_BYTES = 2 << 20

#: Out of reach: the driver alone asks for snapshots (H29).
_NEVER = 10**9

_CANDIDATE = 1
_LEADER = 2

#: Below the term of every entry: whoever is asked for a vote with it adopts the term and gives none.
_NO_LOG = -1


class Events(Protocol):
    """What the library tells its driver, in the middle of ``tick`` and ``receive``. Must not raise."""

    def apply(self, index: int, command: bytes) -> None:
        """Apply a committed command."""
        ...

    def leading_changed(self, leading: bool) -> None:
        """Note that this node began or ceased to lead."""
        ...

    def post(self, peer: int, term: int, message: Message) -> None:
        """Send a message of this term once the log is synced."""
        ...

    def is_congested(self, peer: int) -> bool:
        """Tell whether a peer should be sent nothing more for now."""
        ...


def check_library(module: ModuleType = syncobj, version: str | None = None) -> None:
    """Refuse a library this code was not written for.

    Raises:
        LibraryError: names the version or what is missing.
    """
    found = syncobj.VERSION if version is None else version
    if found != VERSION:
        raise LibraryError(f"pysyncobj {found} is installed, but {VERSION} is needed")
    missing = [name for name in METHODS if not callable(getattr(module.SyncObj, name, None))]
    assigned = module.SyncObj.__init__.__code__.co_names
    missing += [name for name in ATTRIBUTES if name not in assigned]
    missing += [name for name in SERIALIZER_METHODS if not callable(getattr(module.Serializer, name, None))]
    missing += [name for name in PICKLE_FUNCTIONS if not callable(getattr(module.pickle, name, None))]
    missing += [name for name in ("monotonicTime",) if not callable(getattr(module, name, None))]
    if missing:
        raise LibraryError(f"pysyncobj lacks {', '.join(missing)}")


def _refuse_pickle(*_: object, **__: object) -> Any:
    raise LibraryError("pickle is not used here")


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


def _prepare() -> None:
    """Check the library and replace, for the process, its pickles (H30) and its clock by the loop's."""
    check_library()
    for name in PICKLE_FUNCTIONS:
        setattr(pysyncobj.pickle, name, _refuse_pickle)
    syncobj.monotonicTime = _loop_time


class _LogAttribute:
    """Stands in the place of the library's journal attribute, so that every instance finds our log there."""

    def __get__(self, instance: "_Core", owner: type) -> RaftLog:
        return instance.own_log

    def __set__(self, instance: "_Core", value: object) -> None:
        """Ignore the journal that the library makes for itself."""


class _Wire(Transport):  # type: ignore[misc]  # the library is untyped
    """The library's transport: everything it sends goes to the driver.

    In one pass of its send loop the library would push all it has to a peer, for a whole heartbeat. So a peer
    counts as disconnected for the rest of the pass once it is sent a piece of a snapshot, and as long as too
    much waits for it already (H9, H28).
    """

    def __init__(self, events: Events) -> None:
        super().__init__(None, None, None)
        self._events = events
        self._paused: set[Any] = set()
        self.core: Any = None

    def send(self, node: Any, message: dict[str, Any]) -> bool:
        found = from_library(message)
        if found is None:
            return False
        peer = _raft_id(node)
        term = message.get("term", self.core.raftCurrentTerm)
        if isinstance(found, Append):
            for portion in in_portions(found):
                self._events.post(peer, term, portion)
        else:
            self._events.post(peer, term, found)
        if isinstance(found, SnapshotPart) or self._events.is_congested(peer):
            self._pause(node)
        return True

    def _pause(self, node: Any) -> None:
        if self.core.isNodeConnected(node):
            self._paused.add(node)
            self._onNodeDisconnected(node)

    def begin_pass(self, nodes: Iterable[Any]) -> None:
        """Leave out those for whom too much waits; what waits tells them that the leader lives."""
        for node in nodes:
            if self._events.is_congested(_raft_id(node)):
                self._pause(node)

    def end_pass(self) -> None:
        """Connect those peers again."""
        for node in self._paused:
            self._onNodeConnected(node)
        self._paused.clear()


class _Core(SyncObj):  # type: ignore[misc]  # the library is untyped
    """The library's node. Kept small and without properties: the constructor evaluates each (H33)."""

    _SyncObj__raftLog = _LogAttribute()

    def __init__(
        self,
        self_node: Any,
        others: list[Any],
        conf: Any,
        log: RaftLog,
        events: Events,
        random: random_module.Random,
    ) -> None:
        self.own_log = log
        self.own_events = events
        self.own_random = random
        self.own_wire = _Wire(events)
        super().__init__(self_node, others, conf, transport=self.own_wire)
        self.own_wire.core = self

    def _SyncObj__applyLogEntries(self) -> bool:
        """Leave it to ``apply``: the library would do it in the middle of a tick."""
        return False

    def apply(self) -> None:
        """Apply what is committed, but not too much at once (H25, R8); entries are ours, callbacks unused."""
        applied: int = self._SyncObj__raftLastApplied  # type: ignore[has-type]  # set by the library
        upto = min(self._SyncObj__raftCommitIndex, applied + MAX_ENTRIES_PER_PASS)
        if upto > applied:
            for entry in self.own_log.between(applied, upto):
                self.own_events.apply(entry.index, entry.data)
                self._SyncObj__raftLastApplied = entry.index

    def _SyncObj__sendAppendEntries(self) -> None:
        self.own_wire.begin_pass(self._SyncObj__otherNodes)
        super()._SyncObj__sendAppendEntries()
        self.own_wire.end_pass()

    def _SyncObj__generateRaftTimeout(self) -> float:
        conf = self.conf
        timeout: float = self.own_random.uniform(conf.raftMinTimeout, conf.raftMaxTimeout)
        return timeout


class _Peer(Node):  # type: ignore[misc]  # the library is untyped
    """A member. Hashed by number, so that the library's sets have the same order in every process."""

    def __init__(self, raft_id: int) -> None:
        super().__init__(f"{raft_id:x}")  # text: the library joins and compares ids (H33)
        self.raft_id = raft_id

    def __hash__(self) -> int:
        return hash(self.raft_id)


@functools.lru_cache(maxsize=1024)
def _peer(raft_id: int) -> _Peer:
    """Return a member: one object for each, since every message asks for it."""
    return _Peer(raft_id)


def _raft_id(node: Any) -> int:
    raft_id: int = node.raft_id
    return raft_id


class LibraryState:
    """What can be read of the library, under plain names. Peers are raft ids; times are the loop's."""

    _core: _Core

    @property
    def leading(self) -> bool:
        """Whether this node believes to lead. Proves nothing about the others."""
        return bool(self._core._isLeader())

    @property
    def campaigning(self) -> bool:
        """Whether this node is a candidate."""
        return bool(self._core._SyncObj__raftState == _CANDIDATE)

    @property
    def leader(self) -> int | None:
        """The raft id of the last known leader."""
        node = self._core._getLeader()
        return None if node is None else _raft_id(node)

    @property
    def term(self) -> int:
        """The current term."""
        term: int = self._core.raftCurrentTerm
        return term

    @property
    def commit_index(self) -> int:
        """The commit index."""
        index: int = self._core.raftCommitIndex
        return index

    @property
    def applied_index(self) -> int:
        """The index of the last applied entry."""
        index: int = self._core.raftLastApplied
        return index

    @property
    def no_op_index(self) -> int | None:
        """The index of the entry with which this node last began to lead."""
        index: int | None = self._core._SyncObj__noopIDx
        return index

    @property
    def election_deadline(self) -> float:
        """When this node campaigns if it hears from no leader."""
        deadline: float = self._core._SyncObj__raftElectionDeadline
        return deadline

    @property
    def last_answer(self) -> float:
        """When a peer last answered this leader; excused silence counts as an answer."""
        return max(self._core._SyncObj__lastResponseTime.values(), default=0.0)

    @property
    def heartbeat_due(self) -> float:
        """When a leader sends the next time by itself."""
        due: float = self._core._SyncObj__newAppendEntriesTime
        return due

    @property
    def peers(self) -> frozenset[int]:
        """The other members that count."""
        return frozenset(_raft_id(node) for node in self._core._SyncObj__otherNodes)

    def match_index(self, peer: int) -> int:
        """How far a peer's log is known to be as this leader's; 0 if nothing is known."""
        index: int = self._core._SyncObj__raftMatchIndex.get(_peer(peer), 0)
        return index


class Library(LibraryState):
    """One consensus node under plain names.

    Args:
        raft_id: this node.
        peers: the other members known at start, from the snapshot.
        log: the log; holds at least one entry afterwards.
        serializer: stands in the place of the library's own.
        config: validated.
        events: told what happens.
        random: election time-outs.
    """

    def __init__(
        self,
        raft_id: int,
        peers: Iterable[int],
        log: RaftLog,
        serializer: Serializer,
        config: RaftConfig,
        events: Events,
        random: random_module.Random,
    ) -> None:
        _prepare()
        self._events = events
        conf = SyncObjConf(
            autoTick=False,
            dynamicMembershipChange=False,
            useFork=False,
            commandsWaitLeader=False,
            appendEntriesUseBatch=True,
            appendEntriesPeriod=config.heartbeat_seconds,
            raftMinTimeout=config.election_min_seconds,
            raftMaxTimeout=config.election_max_seconds,
            leaderFallbackTimeout=config.election_min_seconds,
            connectionTimeout=config.election_max_seconds,
            appendEntriesBatchSizeBytes=BATCH_BYTES,
            logCompactionMinEntries=_NEVER,
            logCompactionMinTime=_NEVER,
            commandsQueueSize=0,
            onStateChanged=self._state_changed,
        )
        self._core = _Core(_peer(raft_id), [_peer(peer) for peer in peers], conf, log, events, random)
        self._core._SyncObj__serializer = serializer

    def _state_changed(self, old: int, new: int) -> None:
        if _LEADER in (old, new):
            if old == _LEADER:
                # The library does not renew it while leading: it would campaign at once (H13).
                self.postpone_election()
            self._events.leading_changed(new == _LEADER)

    def tick(self) -> None:
        """Run one tick: campaign if due, commit, append what was queued, look after snapshots."""
        self._core.doTick(0)

    def apply(self) -> None:
        """Apply what is committed, ``MAX_ENTRIES_PER_PASS`` entries at most."""
        self._core.apply()

    def receive(self, peer: int, term: int, message: Message) -> None:
        """Handle one admitted message of this term."""
        core, node = self._core, _peer(peer)
        next_index = core._SyncObj__raftNextIndex.get(node, 0)
        core._SyncObj__onMessageReceived(node, to_library(term, message))
        if isinstance(message, Reply) and not message.reset and next_index:
            # R6: what is on its way already is not sent again; should it get lost, the peer resets.
            core._SyncObj__raftNextIndex[node] = max(next_index, core._SyncObj__raftNextIndex[node])

    def adopt_term(self, peer: int, term: int) -> None:
        """Take over a higher term that a peer knows: follow, and vote for nobody."""
        self.receive(peer, term, VoteRequest(0, _NO_LOG))

    def set_connected(self, peer: int, connected: bool) -> None:
        """Report that a peer can or cannot be sent to."""
        core, node = self._core, _peer(peer)
        if connected:
            core._SyncObj__onNodeConnected(node)
            if node in core._SyncObj__raftMatchIndex:
                # It may have started anew, with a log whose torn end was cut off: what it held before counts
                # for nothing, and its resets may lead back there. Its next answer tells what it holds now.
                core._SyncObj__raftMatchIndex[node] = 0
        else:
            core._SyncObj__onNodeDisconnected(node)

    def append(self, command: bytes) -> None:
        """Queue a whole command for the log; the next tick appends it if this node leads."""
        self._core._applyCommand(command, None)

    def send_appends(self) -> None:
        """Send entries and commit index to all peers now."""
        self._core._SyncObj__sendAppendEntries()

    def request_snapshot(self) -> None:
        """Have the next tick call the serializer."""
        self._core.forceLogCompaction()

    def add_peer(self, peer: int) -> None:
        """Count a new member from now on."""
        self._core._SyncObj__doChangeCluster(["add", f"{peer:x}", _peer(peer)])

    def remove_peer(self, peer: int) -> None:
        """Count a member no longer."""
        self._core._SyncObj__doChangeCluster(["rem", f"{peer:x}", _peer(peer)])

    def replace_peers(self, peers: Iterable[int]) -> None:
        """Take over the members of an installed snapshot."""
        self._core._SyncObj__updateClusterConfiguration([_peer(peer) for peer in peers])

    def resume(self, applied: int, commit: int) -> None:
        """Set applied and commit index after construction."""
        self._core._SyncObj__raftLastApplied = applied
        self._core._SyncObj__raftCommitIndex = commit

    def forget_leader(self) -> None:
        """Know of no leader any more, until one is heard."""
        self._core._SyncObj__raftLeader = None

    def raise_commit(self, index: int) -> None:
        """Note that entries up to ``index`` are committed; the log has them."""
        core = self._core
        if index > core._SyncObj__raftCommitIndex:
            core._SyncObj__raftCommitIndex = min(index, core.own_log.last_index)
            core.own_log.setRaftCommitIndex(core._SyncObj__raftCommitIndex)

    def excuse_silence(self, seconds: float) -> None:
        """Do not hold it against the peers that nobody here listened to them for a while (H14)."""
        answers, now = self._core._SyncObj__lastResponseTime, _loop_time()
        for node, moment in answers.items():
            answers[node] = max(moment, min(now, moment + seconds))

    def expect_silence(self, seconds: float) -> None:
        """Lead on although no peer answers for a while from now."""
        answers, until = self._core._SyncObj__lastResponseTime, _loop_time() + seconds
        for node in answers:
            answers[node] = until

    def campaign_now(self) -> None:
        """Have the next tick campaign."""
        self._core._SyncObj__raftElectionDeadline = 0

    def postpone_election(self, seconds: float | None = None) -> None:
        """Wait for a leader for some seconds more, or for one more random time-out."""
        delay = self._core._SyncObj__generateRaftTimeout() if seconds is None else seconds
        self._core._SyncObj__raftElectionDeadline = _loop_time() + delay
