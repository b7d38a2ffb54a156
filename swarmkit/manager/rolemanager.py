"""The role manager: makes nodes managers and workers as wished (contract/raft-store-manager.md, 21).

Source of the order of steps: contract/security.md, 8.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from swarmkit.api import messages as api
from swarmkit.clock import Clock
from swarmkit.log import get_logger
from swarmkit.manager.pacing import Pacer
from swarmkit.manager.roles import Evict, RoleAction, SetRole, decide, may_become
from swarmkit.raft.errors import RaftError
from swarmkit.store import (
    Action,
    Event,
    LeadershipLostError,
    ProposalError,
    StoppedError,
    Store,
    StoreError,
    Tx,
    Watch,
    Watcher,
)

log = get_logger(__name__)

#: Seconds after which a step that failed is tried again.
RETRY_SECONDS = 5.0
#: Seconds between two looks at who can be reached, while something is left to do: what could not be done for
#: want of a quorum is tried again as soon as that has changed.
LOOK_SECONDS = 0.5
#: Seconds within which a removal from the raft group must be decided.
REMOVAL_SECONDS = 5.0
#: Seconds after which the log says again why a step is still waiting.
REPEAT_SECONDS = 60.0


class Group(Protocol):
    """The raft group as its leader sees and changes it."""

    @property
    def raft_id(self) -> int:
        """This member."""
        ...

    def members(self) -> Sequence[api.RaftMember]:
        """Return the members with their status."""
        ...

    def watch_members(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have ``callback``, which returns at once, told of changes of the list; return what ends that."""
        ...

    def survives_removal(self, raft_id: int) -> bool:
        """Tell whether the members that can be reached now could go on without this one."""
        ...

    async def remove(self, raft_id: int) -> None:
        """Remove another member; return once that is applied.

        Raises:
            RaftError: it cannot be done now; nothing was changed.
            LeadershipLostError: this member does not lead, or lost the leadership meanwhile.
        """
        ...

    async def hand_over(self) -> int:
        """Hand the leadership to another member, within a time of its own; return its raft id.

        Raises:
            RaftError: nobody took over; this member may lead on.
            LeadershipLostError: this member does not lead.
        """
        ...


class RoleManager:
    """Compares wish and fact of every node whenever one of them, or the raft group, changes.

    What it knows is bounded by the number of nodes whose role is not the wished one.

    PARITY: a leader that is to become a worker, and cannot hand the leadership over, tries again; the
    original removes itself then, and nobody is left to answer for the change (D24).

    Args:
        store: the replicated store.
        clock: time.
        group: the raft group.
    """

    def __init__(self, store: Store, clock: Clock, group: Group) -> None:
        self._store = store
        self._clock = clock
        self._group = group
        self._reset()

    def _reset(self) -> None:
        """Begin with nothing: what an earlier run knew may be out of date."""
        self._changed = asyncio.Event()
        self._closed = False
        #: Ids of the nodes whose role is not the wished one.
        self._unsettled: set[str] = set()
        #: When a step that could not be done is due again; only steps that are still to be done.
        self._due: dict[RoleAction, float] = {}
        #: Why a step waits, and when the log said so last.
        self._told: dict[RoleAction, tuple[str, float]] = {}
        self._situation: frozenset[tuple[int, int]] = frozenset()

    async def run(self) -> None:
        """Work until cancelled; ends by itself when this manager no longer leads or the store closes.

        May be called again after it ended.
        """
        self._reset()
        nodes, watcher = self._store.view_and_watch(lambda reader: reader.find(api.Node), Watch(api.Node))
        end_watch = self._group.watch_members(self._changed.set)
        try:
            with watcher:
                for node in nodes:
                    self._note(node, exists=True)
                del nodes  # what it refers to would stay in memory for as long as this manager leads
                async with asyncio.TaskGroup() as tasks:
                    follower = tasks.create_task(self._follow(watcher), name="role manager: nodes")
                    try:
                        await self._work()
                    finally:
                        follower.cancel()
        except* (LeadershipLostError, StoppedError):
            log.debug("role manager stopped: this manager no longer leads")
        finally:
            end_watch()

    # What is to be done

    async def _follow(self, watcher: Watcher) -> None:
        pacer = Pacer(self._clock)
        async for commit in watcher:
            for event in commit.events:
                self._handle(event)
            await pacer.pause()
        self._closed = True
        self._changed.set()

    def _handle(self, event: Event) -> None:
        node = event.object
        assert isinstance(node, api.Node)
        exists = event.action is not Action.DELETE
        # Most changes of a node are of its status, and are no reason to look at anything.
        old = event.old
        if exists and isinstance(old, api.Node) and _roles(old) == _roles(node):
            return
        self._note(node, exists)
        self._changed.set()

    def _note(self, node: api.Node, exists: bool) -> None:
        if exists and node.role != node.spec.desired_role:
            self._unsettled.add(node.id)
        else:
            self._unsettled.discard(node.id)

    def _actions(self) -> list[RoleAction]:
        members = self._group.members()
        reader = self._store.view()
        ids = self._unsettled | {member.node_id for member in members}
        nodes = {id: node for id in ids if (node := reader.get(api.Node, id)) is not None}
        return decide(nodes, members, self._group.raft_id)

    def _next(self, tried: set[RoleAction]) -> RoleAction | None:
        self._notice_situation()
        now = self._clock.monotonic()
        return next(
            (each for each in self._actions() if each not in tried and self._due.get(each, now) <= now), None
        )

    def _notice_situation(self) -> None:
        """Forget the pauses of removals if the group has changed: they may be possible now.

        Not that of a handover that failed, which holds up all proposals while it is tried.
        """
        own = self._group.raft_id
        situation = frozenset((each.raft_id, each.status.reachability) for each in self._group.members())
        if situation != self._situation:
            self._situation = situation
            kept = {each: at for each, at in self._due.items() if isinstance(each, Evict)}
            self._due = {each: at for each, at in kept.items() if each.raft_id == own}

    # Doing it

    async def _work(self) -> None:
        while not self._closed:
            self._changed.clear()
            left = await self._settle()
            try:
                async with asyncio.timeout(LOOK_SECONDS if left else None):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def _settle(self) -> bool:
        """Do what can be done now, each step once; return whether something is left."""
        tried: set[RoleAction] = set()
        while (action := self._next(tried)) is not None:
            tried.add(action)
            await self._try(action)
        left = self._actions()
        self._due = {each: self._due[each] for each in left if each in self._due}
        self._told = {each: self._told[each] for each in left if each in self._told}
        return bool(left)

    async def _try(self, action: RoleAction) -> None:
        try:
            if isinstance(action, SetRole):
                await self._store.update(lambda tx: self._set_role(tx, action))
            else:
                await self._evict(action)
        except (LeadershipLostError, StoppedError):
            raise
        except TimeoutError:
            self._postpone(action, f"the group did not decide within {REMOVAL_SECONDS:g} s")
        except (RaftError, ProposalError, StoreError) as error:
            self._postpone(action, str(error))

    def _set_role(self, tx: Tx, action: SetRole) -> None:
        stored = tx.get(api.Node, action.node_id)
        joined = {member.node_id for member in self._group.members()}
        if stored is None or not may_become(stored, action.role, joined):
            return
        node = api.Node()
        node.CopyFrom(stored)
        node.role = action.role
        tx.update(node)
        log.info("node has a new role", node_id=node.id, role=api.NodeRole.Name(node.role))

    async def _evict(self, action: Evict) -> None:
        group, raft_id = self._group, f"{action.raft_id:x}"
        if not group.survives_removal(action.raft_id):
            self._postpone(action, "too few of the other managers can be reached to go on without it")
        elif action.raft_id == group.raft_id:
            heir = await group.hand_over()
            log.info("leadership handed over, to leave the managers", raft_id=raft_id, leader=f"{heir:x}")
            self._due[action] = self._clock.monotonic() + RETRY_SECONDS
        else:
            async with asyncio.timeout(REMOVAL_SECONDS):
                await group.remove(action.raft_id)
            log.info("manager removed from the raft group", raft_id=raft_id, node_id=action.node_id)

    def _postpone(self, action: RoleAction, reason: str) -> None:
        now = self._clock.monotonic()
        self._due[action] = now + RETRY_SECONDS
        told, at = self._told.get(action, ("", 0.0))
        if told != reason or now - at >= REPEAT_SECONDS:
            self._told[action] = (reason, now)
            if isinstance(action, Evict):
                log.warning(
                    "a manager stays in the raft group for now", node_id=action.node_id, reason=reason
                )
            else:
                log.warning("a node keeps its role for now", node_id=action.node_id, reason=reason)


def _roles(node: api.Node) -> tuple[int, int]:
    return node.role, node.spec.desired_role
