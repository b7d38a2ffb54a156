"""The raft node as the role manager sees it."""

from collections.abc import Callable

from swarmkit.api import messages as api
from swarmkit.raft.node import RaftNode


class RaftGroup:
    """Implements ``rolemanager.Group`` for a raft node, which must be running whenever the group is changed.

    Every method that asks for, or makes, a change raises ``StoppedError`` once the node has stopped.
    """

    def __init__(self, node: RaftNode) -> None:
        self._node = node

    @property
    def raft_id(self) -> int:
        """This member."""
        return self._node.raft_id

    def members(self) -> list[api.RaftMember]:
        """Return the members with their status."""
        return self._node.members()

    def watch_members(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have ``callback`` told of each change of the list; return what ends that."""
        return self._node.watch_members(lambda _: callback())

    def survives_removal(self, raft_id: int) -> bool:
        """Tell whether the members that can be reached now could go on without this one."""
        return self._node.group.survives_removal(raft_id)

    async def remove(self, raft_id: int) -> None:
        """Remove another member; raises as ``GroupChanges.remove``."""
        await self._node.group.remove(raft_id)

    async def hand_over(self) -> int:
        """Hand the leadership to the best member; raises as ``GroupChanges.hand_over``."""
        return await self._node.group.hand_over()
