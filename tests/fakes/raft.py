"""A test bench for raft nodes: fake disk, fake machine, lanes without threads."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from swarmkit.raft.config import RaftConfig, SnapshotPolicy
from swarmkit.raft.node import RaftNode
from tests.fakes.disk import FakeDisk
from tests.fakes.keys import FakeKeys
from tests.fakes.lanes import inline_lanes
from tests.fakes.loop import VirtualClock
from tests.fakes.machine import FakeMachine

KEY = bytes(range(32))


class TestNode(RaftNode):
    """A raft node that remembers its machine, what its subscribers heard and why it died."""

    __test__ = False

    def __init__(self, machine: FakeMachine, **arguments: Any) -> None:
        self.machine = machine
        self.heard: list[bool] = []
        self.fatal: list[BaseException] = []
        super().__init__(machine=machine, on_fatal=self.fatal.append, **arguments)
        self.subscribe(self._hear)

    def _hear(self, leading: bool) -> None:
        self.heard.append(leading)
        self.machine.calls.append(f"leading {leading}")

    async def lead(self) -> None:
        """Wait until leadership is announced."""
        while not self.may_propose:
            assert not self.fatal, self.fatal
            await asyncio.sleep(0.01)

    async def write(self, *values: bytes) -> list[int]:
        """Propose values one after the other without waiting between them; return their indexes."""
        return list(await asyncio.gather(*(self.propose(value) for value in values)))


class Bench:
    """Makes nodes one after the other on the same disk, with the same data keys."""

    def __init__(self, rng: random.Random, state_dir: Path) -> None:
        self.rng = rng
        self.state_dir = state_dir
        self.disk = FakeDisk()
        self.keys = FakeKeys(KEY)
        self.nodes: list[TestNode] = []

    def node(
        self,
        *,
        node_id: str = "node-1",
        addr: str = "10.0.0.1:4242",
        keys: FakeKeys | None = None,
        policy: Callable[[], SnapshotPolicy] = SnapshotPolicy,
        latency: float = 0.0,
        config: RaftConfig | None = None,
        **arguments: Any,
    ) -> TestNode:
        """Make a node; ``start`` it yourself."""
        node = TestNode(
            FakeMachine(),
            state_dir=self.state_dir,
            node_id=node_id,
            addr=addr,
            keys=keys or self.keys,
            clock=VirtualClock(),
            config=config or RaftConfig(segment_bytes=4096),
            policy=policy,
            random=self.rng,
            files=self.disk,
            lanes=inline_lanes(latency),
            **arguments,
        )
        self.nodes.append(node)
        return node

    async def started(self, **arguments: Any) -> TestNode:
        """Make a node, start it and wait until it leads."""
        node = self.node(**arguments)
        await node.start()
        await node.lead()
        return node

    async def restarted(self, **arguments: Any) -> TestNode:
        """Stop the newest node and start another on what it left."""
        await self.nodes[-1].stop()
        return await self.started(**arguments)

    async def close(self) -> None:
        """Stop what still runs."""
        for node in self.nodes:
            await node.stop()
