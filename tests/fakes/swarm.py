"""Several raft nodes, each on a fake disk of its own, on one fake network."""

import asyncio
import random
from pathlib import Path

from swarmkit.raft import JoinReply, SnapshotPolicy
from tests.fakes.network import FakeLinks, FakeNetwork
from tests.fakes.raft import Bench, TestNode

STATE = Path("/state")


class Group:
    """Grows from one member to ``count`` as a group does: each added, then started with the log so far."""

    def __init__(self, rng: random.Random, policy: SnapshotPolicy | None = None) -> None:
        self.rng = rng
        self.policy = policy or SnapshotPolicy()
        self.network = FakeNetwork()
        self.benches: dict[int, Bench] = {}
        self.nodes: dict[int, TestNode] = {}

    async def grow(self, count: int) -> None:
        """Found the group and add members until there are ``count``."""
        bench = Bench(self.rng, STATE)
        first = await self._start(1, bench)
        await first.lead()
        for number in range(2, count + 1):
            await self._add(number)

    async def _add(self, number: int) -> None:
        leader = self.leader()
        raft_id = await leader.group.add(f"node-{number}", f"10.0.0.{number}:4242")
        await self._start(number, Bench(self.rng, STATE), JoinReply(raft_id, leader.members()))
        await self.settled()

    async def _start(self, number: int, bench: Bench, joined: JoinReply | None = None) -> TestNode:
        links = FakeLinks(self.network)
        node = bench.node(
            node_id=f"node-{number}",
            addr=f"10.0.0.{number}:4242",
            policy=lambda: self.policy,
            links=links,
            latency=0.0005,
            joined=joined,
        )
        await node.start()
        links.raft_id = node.raft_id
        self.benches[number], self.nodes[number] = bench, node
        self.network.register(node)
        return node

    async def restart(self, number: int) -> TestNode:
        """Start a stopped member again."""
        return await self._start(number, self.benches[number])

    async def stop(self, number: int) -> None:
        """Stop a member."""
        node = self.nodes.pop(number)
        self.network.forget(node)
        await node.stop()

    def leader(self) -> TestNode:
        """Return the member that takes proposals, the one with the highest term if there are several."""
        leaders = [node for node in self.nodes.values() if node.may_propose]
        return max(leaders, key=lambda node: node.status().term)

    async def elected(self) -> TestNode:
        """Wait until a reachable member leads and has announced it."""
        async with asyncio.timeout(60):
            while True:
                for node in self.nodes.values():
                    if node.may_propose and node.raft_id not in self.network.isolated:
                        return node
                await asyncio.sleep(0.01)

    async def settled(self) -> None:
        """Wait until all members have applied all that is committed."""
        async with asyncio.timeout(60):
            while True:
                states = [node.status() for node in self.nodes.values()]
                if len({status.applied_index for status in states}) == 1:
                    return
                await asyncio.sleep(0.05)

    async def close(self) -> None:
        """Stop all members."""
        for number in list(self.nodes):
            await self.stop(number)
