"""How many members must agree, and what a group can afford to lose. Pure."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass


def majority(count: int) -> int:
    """Return how many of ``count`` members decide."""
    return count // 2 + 1


def survives_removal(members: Collection[int], reachable: Collection[int], removed: int) -> bool:
    """Tell whether the group still decides once a member is removed.

    Of those that would remain, a majority must be reachable (contract/raft-store-manager.md, 12).

    Args:
        members: raft ids of the group.
        reachable: those that can be reached now, the asking member among them.
        removed: the raft id to remove.
    """
    remaining = set(members) - {removed}
    return len(remaining & set(reachable)) >= majority(len(remaining))


@dataclass(frozen=True)
class Heir:
    """A peer that could take over the leadership.

    Attributes:
        raft_id: who.
        match_index: how far its log is known to be the leader's.
        connected_since: when its present connection began, in the loop's seconds.
    """

    raft_id: int
    match_index: int
    connected_since: float


def choose_heir(connected: Iterable[Heir]) -> int | None:
    """Choose who takes over: the farthest in the log, of those the longest connected (D13); None: nobody."""
    best = max(connected, key=lambda heir: (heir.match_index, -heir.connected_since), default=None)
    return None if best is None else best.raft_id
