"""The one module that touches the consensus library's private names (contract/pysyncobj-hazards.md, 12).

The library is PySyncObj, used without its threads, sockets, files, forks, pickles and dynamic membership:
what remains is the consensus algorithm. ``check_library`` refuses another version and missing names at start;
a test compares digests of its files. Everything runs on the event loop, in the driver's coroutine.
"""

import asyncio
import random as random_module
from collections.abc import Iterable
from types import ModuleType
from typing import Any, Protocol

import pysyncobj.pickle
from pysyncobj import SyncObj, SyncObjConf, syncobj
from pysyncobj.node import Node
from pysyncobj.transport import Transport

from swarmkit.raft.config import RaftConfig
from swarmkit.raft.errors import LibraryError
from swarmkit.raft.log import RaftLog
from swarmkit.raft.transport import Message

VERSION = "0.3.17"

#: Private methods that are overridden or called.
METHODS = (
    "_SyncObj__onMessageReceived",
    "_SyncObj__onNodeConnected",
    "_SyncObj__onNodeDisconnected",
    "_SyncObj__doApplyCommand",
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

_LEADER = 2


class Events(Protocol):
    """What the library tells its driver, in the middle of ``tick`` and ``receive``. Must not raise."""

    def apply(self, index: int, command: bytes) -> None:
        """Apply a committed command."""
        ...

    def leading_changed(self, leading: bool) -> None:
        """Note that this node began or ceased to lead."""
        ...

    def post(self, peer: int, message: Message) -> None:
        """Send a message once the log is synced."""
        ...


class Serializer(Protocol):
    """The six methods of the object in the serializer's place."""

    def serialize(self, data: Any, identity: int) -> None:
        """Pin the state; ``data[1]`` and ``data[2]`` are the last entry and the one before it."""
        ...

    def checkSerializing(self) -> tuple[int, int | None]:
        """Return the state of a snapshot being written, and its identity."""
        ...

    def deserialize(self) -> Any:
        """Hand over the snapshot that has been installed."""
        ...

    def getTransmissionData(self, peer: Any) -> Any:
        """Return the next piece for a peer, or None."""
        ...

    def setTransmissionData(self, data: Any) -> bool:
        """Take a piece; True when the snapshot is complete and installed."""
        ...

    def cancelTransmisstion(self, peer: Any) -> None:
        """Forget a transfer to a peer."""
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

    A peer that needs a snapshot counts as disconnected for the rest of the library's send loop, which would
    otherwise push all of it, or empty messages while it is not ready, for a whole heartbeat (H9, H28).
    """

    def __init__(self, events: Events) -> None:
        super().__init__(None, None, None)
        self._events = events
        self._paused: set[Any] = set()

    def send(self, node: Any, message: Message) -> bool:
        self._events.post(int(node.id, 16), message)
        if "serialized" in message:
            self._paused.add(node)
            self._onNodeDisconnected(node)
        return True

    def end_pause(self) -> None:
        """Connect those peers again; after each call into the library."""
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

    def _SyncObj__doApplyCommand(self, command: bytes) -> None:
        self.own_events.apply(self._SyncObj__raftLastApplied + 1, command)

    def _SyncObj__generateRaftTimeout(self) -> float:
        conf = self.conf
        timeout: float = self.own_random.uniform(conf.raftMinTimeout, conf.raftMaxTimeout)
        return timeout


def _node(raft_id: int) -> Any:
    return Node(f"{raft_id:x}")  # text: the library joins and compares ids (H33)


class Library:
    """One consensus node under plain names. Peers are raft ids; times are the loop's, in seconds.

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
        self._core = _Core(_node(raft_id), [_node(peer) for peer in peers], conf, log, events, random)
        self._core._SyncObj__serializer = serializer

    def _state_changed(self, old: int, new: int) -> None:
        if _LEADER in (old, new):
            if old == _LEADER:
                # The library does not renew it while leading: it would campaign at once (H13).
                self.postpone_election()
            self._events.leading_changed(new == _LEADER)

    # -- Work ---------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Run one tick: campaign if due, commit, apply, append what was queued, look after snapshots."""
        self._core.doTick(0)
        self._core.own_wire.end_pause()

    def receive(self, peer: int, message: Message) -> None:
        """Handle one admitted message."""
        self._core._SyncObj__onMessageReceived(_node(peer), message)
        self._core.own_wire.end_pause()

    def set_connected(self, peer: int, connected: bool) -> None:
        """Report that a peer can or cannot be sent to."""
        node = _node(peer)
        if connected:
            self._core._SyncObj__onNodeConnected(node)
        else:
            self._core._SyncObj__onNodeDisconnected(node)

    def append(self, command: bytes) -> None:
        """Queue a whole command for the log; the next tick appends it if this node leads."""
        self._core._applyCommand(command, None)

    def send_appends(self) -> None:
        """Send entries and commit index to all peers now."""
        self._core._SyncObj__sendAppendEntries()
        self._core.own_wire.end_pause()

    def request_snapshot(self) -> None:
        """Have the next tick call the serializer."""
        self._core.forceLogCompaction()

    def add_peer(self, peer: int) -> None:
        """Count a new member from now on."""
        self._core._SyncObj__doChangeCluster(["add", f"{peer:x}", _node(peer)])

    def remove_peer(self, peer: int) -> None:
        """Count a member no longer."""
        self._core._SyncObj__doChangeCluster(["rem", f"{peer:x}", _node(peer)])

    def replace_peers(self, peers: Iterable[int]) -> None:
        """Take over the members of an installed snapshot."""
        self._core._SyncObj__updateClusterConfiguration([_node(peer) for peer in peers])

    def resume(self, applied: int, commit: int) -> None:
        """Set applied and commit index after construction."""
        self._core._SyncObj__raftLastApplied = applied
        self._core._SyncObj__raftCommitIndex = commit

    def campaign_now(self) -> None:
        """Have the next tick campaign."""
        self._core._SyncObj__raftElectionDeadline = 0

    def postpone_election(self) -> None:
        """Wait one more random time-out for a leader."""
        self._core._SyncObj__raftElectionDeadline = _loop_time() + self._core._SyncObj__generateRaftTimeout()

    # -- State --------------------------------------------------------------------------------------------

    @property
    def leading(self) -> bool:
        """Whether this node believes to lead. Proves nothing about the others."""
        return bool(self._core._isLeader())

    @property
    def leader(self) -> int | None:
        """The raft id of the last known leader."""
        node = self._core._getLeader()
        return None if node is None else int(node.id, 16)

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
    def heartbeat_due(self) -> float:
        """When a leader sends the next time by itself."""
        due: float = self._core._SyncObj__newAppendEntriesTime
        return due

    @property
    def peers(self) -> frozenset[int]:
        """The other members that count."""
        return frozenset(int(node.id, 16) for node in self._core._SyncObj__otherNodes)
