"""Links between raft nodes of one test: in order, with a delay, and cut at will. Needs virtual time."""

import asyncio
import copy
from collections.abc import Iterable

from swarmkit.api import messages as api
from swarmkit.raft.node import RaftNode
from swarmkit.raft.transport import Message


class FakeNetwork:
    """Knows every node; a node is reachable while it is registered and not isolated."""

    def __init__(self, delay: float = 0.001) -> None:
        self.delay = delay
        self.nodes: dict[int, RaftNode] = {}
        self.isolated: set[int] = set()
        self.sent: list[tuple[int, int, Message]] = []

    def register(self, node: RaftNode) -> None:
        """Connect a started node with all others."""
        self.nodes[node.raft_id] = node
        self.refresh()

    def forget(self, node: RaftNode) -> None:
        """Disconnect a node that is about to stop."""
        self.nodes.pop(node.raft_id, None)
        self.refresh()

    def isolate(self, *raft_ids: int) -> None:
        """Cut these nodes off; no ids: heal."""
        self.isolated = set(raft_ids)
        self.refresh()

    def reaches(self, source: int, target: int) -> bool:
        if source not in self.nodes or target not in self.nodes:
            return False
        return not self.isolated & {source, target}

    def refresh(self) -> None:
        """Report to every node whom it is connected to."""
        known = {member.raft_id for node in self.nodes.values() for member in node.members()}
        for raft_id, node in self.nodes.items():
            for other in known - {raft_id}:
                if self.reaches(raft_id, other):
                    node.mailbox.connected(other)
                else:
                    node.mailbox.disconnected(other)

    def deliver(self, source: int, target: int, message: Message) -> None:
        self.sent.append((source, target, message))
        # What a real wire does: the receiver gets what it was when it was sent.
        frozen = copy.copy(message)
        if "entries" in frozen:
            frozen["entries"] = [tuple(entry) for entry in frozen["entries"]]

        def arrive() -> None:
            if self.reaches(source, target):
                self.nodes[target].mailbox.receive(source, frozen)

        if self.reaches(source, target):
            asyncio.get_running_loop().call_later(self.delay, arrive)


class FakeLinks:
    """The links of one node; implements ``swarmkit.raft.transport.PeerLinks``."""

    def __init__(self, network: FakeNetwork) -> None:
        self._network = network
        self.raft_id = 0
        self.congested = False

    def send(self, peer: int, message: Message) -> None:
        self._network.deliver(self.raft_id, peer, message)

    def is_congested(self, peer: int) -> bool:
        return self.congested

    def update_members(self, members: Iterable[api.RaftMember], removed: Iterable[int]) -> None:
        if self.raft_id:
            asyncio.get_running_loop().call_soon(self._network.refresh)
