"""Managers as far as raft goes: real gRPC and certificates on 127.0.0.1, disks and state machines fake."""

import asyncio
import contextlib
import random
from collections.abc import Callable
from pathlib import Path

from swarmkit.aio import cancel_and_wait
from swarmkit.api.health_pb2_grpc import add_HealthServicer_to_server
from swarmkit.ca.credentials import Credentials, CredentialsHolder
from swarmkit.clock import SystemClock
from swarmkit.manager.health import RAFT, HealthService
from swarmkit.manager.joining import join_group
from swarmkit.manager.raftapi import RaftService, grpc_probe
from swarmkit.net.server import ApiServer
from swarmkit.raft.config import RaftConfig
from swarmkit.raft.links import Links
from swarmkit.raft.node import JoinReply, RaftNode
from swarmkit.raft.pipes import FramePipe, TlsDialler
from swarmkit.raft.service_pb2_grpc import add_RaftServicer_to_server
from tests.fakes.disk import FakeDisk
from tests.fakes.keys import FakeKeys
from tests.fakes.lanes import inline_lanes
from tests.fakes.machine import FakeMachine
from tests.fakes.pki import FakeAuthority
from tests.unit.net.harness import cut

CONFIG = RaftConfig(heartbeat_seconds=0.1, election_min_seconds=0.5, election_max_seconds=1.0)
KEY = bytes(range(32))


class Site:
    """One manager's machine: what survives a restart, and the processes that run there one by one.

    Attributes:
        address: where it listens.
        advertised: where the others are to reach it; empty: at ``address``.
        removals: how often it was told that it was removed.
    """

    def __init__(self, credentials: Credentials, rng: random.Random) -> None:
        self.holder = CredentialsHolder(credentials)
        self.node_id = credentials.node_id
        self.rng = rng
        self.disk = FakeDisk()
        self.keys = FakeKeys(KEY)
        self.address = "127.0.0.1:0"
        self.advertised = ""
        self.removals = 0
        self.fatal: list[BaseException] = []
        self.running = False
        self.machine: FakeMachine
        self.server: ApiServer
        self.links: Links
        self.node: RaftNode

    async def listen(self) -> None:
        """Open the port, with Health serving raft: what comes before joining."""
        self.links = Links(TlsDialler(self.holder), SystemClock(), self.rng)
        self.server = ApiServer(self.holder, SystemClock(), stop_grace_seconds=0.2)
        self.health = HealthService([RAFT])
        self.health.set_serving(RAFT, True)
        self.server.add(add_HealthServicer_to_server, self.health, local=False)
        self.service = LateService(self)
        self.service.register(self.server)
        await self.server.start()
        self.address = (await self.server.listen_remote(self.address)).address
        self.running = True

    async def start(self, joined: JoinReply | None = None) -> None:
        """Run raft: what is on the disk, or as a founder, or as what ``Join`` answered."""
        self.machine = FakeMachine()
        self.node = RaftNode(
            state_dir=Path("/state"),
            node_id=self.node_id,
            addr=self.advertised or self.address,
            machine=self.machine,
            keys=self.keys,
            clock=SystemClock(),
            config=CONFIG,
            random=self.rng,
            on_fatal=self.fatal.append,
            on_removed=self._removed,
            joined=joined,
            files=self.disk,
            links=self.links,
            lanes=inline_lanes(),
        )
        self.service.attach(self.node)
        await self.node.start()
        self.links.start(self.node.raft_id, self.node.mailbox)

    async def join(self, through: "Site") -> JoinReply:
        await self.listen()
        reply = await join_group(through.address, self.holder.current, self.advertised or self.address)
        await self.start(reply)
        return reply

    async def restart(self) -> None:
        await self.listen()
        await self.start()

    async def stop(self) -> None:
        if self.running:
            self.running = False
            if hasattr(self, "node"):
                await self.node.stop()
            await self.links.close()
            await self.server.stop()

    def _removed(self) -> None:
        self.removals += 1


class LateService:
    """Stands where the manager will: the raft service is there before the node is."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._node: RaftNode | None = None

    def attach(self, node: RaftNode) -> None:
        self._node = node

    def register(self, server: ApiServer) -> None:
        service = RaftService(self, grpc_probe(self._site.holder))  # type: ignore[arg-type]
        server.add(add_RaftServicer_to_server, service, local=False)
        server.add_stream(lambda node_id, frames: self._site.links.serve(FramePipe(frames), node_id))

    def __getattr__(self, name: str) -> object:
        return getattr(self._node, name)


class Proxy:
    """Stands in front of a site; while ``flowing`` is not set, connections live and carry nothing."""

    def __init__(self) -> None:
        self.address = ""
        self.target = ""
        self.flowing = asyncio.Event()
        self.flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self.target.rpartition(":")
        try:
            there_reader, there_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.close()
            return
        self._writers |= {writer, there_writer}
        for source, sink in ((reader, there_writer), (there_reader, writer)):
            pump = asyncio.create_task(self._pump(source, sink))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self.flowing.wait()
                writer.write(data)
                await writer.drain()
        writer.close()

    async def close(self) -> None:
        self._server.close()
        for pump in list(self._pumps):
            await cancel_and_wait(pump)
        for writer in self._writers:
            await cut(writer)


class Managers:
    """A group on this machine."""

    def __init__(self) -> None:
        self.authority = FakeAuthority()
        self.rng = random.Random(11)
        self.sites: list[Site] = []
        self.proxies: list[Proxy] = []

    def site(self, node_id: str = "") -> Site:
        name = node_id or f"manager{len(self.sites) + 1}"
        self.sites.append(Site(self.authority.manager(name), self.rng))
        return self.sites[-1]

    async def found(self) -> Site:
        site = self.site()
        await site.listen()
        await site.start()
        await until(lambda: site.node.may_propose)
        return site

    async def group(self, size: int) -> list[Site]:
        founder = await self.found()
        for _ in range(size - 1):
            await self.site().join(founder)
        await self.settled(*self.sites)
        return self.sites

    async def settled(self, *sites: Site) -> Site:
        """Wait until one of ``sites`` leads and all are connected with each other; return the leader."""

        def is_settled() -> bool:
            ids = {site.node.raft_id for site in sites}
            whole = all(
                site.node.mailbox.is_connected(other) for site in sites for other in ids - {site.node.raft_id}
            )
            return whole and any(site.node.may_propose for site in sites)

        await until(is_settled)
        return next(site for site in sites if site.node.may_propose)

    async def close(self) -> None:
        for site in self.sites:
            await site.stop()
        for proxy in self.proxies:
            await proxy.close()

    async def proxied_pair(self) -> list[Site]:
        """Two managers that reach each other through proxies alone."""
        for _ in range(2):
            site, proxy = self.site(), Proxy()
            self.proxies.append(proxy)
            await proxy.listen()
            site.advertised = proxy.address
            await site.listen()
            proxy.target = site.address
        first, second = self.sites
        await first.start()
        await until(lambda: first.node.may_propose)
        await second.start(await join_group(first.address, second.holder.current, second.advertised))
        await self.settled(first, second)
        return self.sites


async def until(condition: Callable[[], bool], timeout: float = 10.0) -> None:
    async with asyncio.timeout(timeout):
        while not condition():  # noqa: ASYNC110 - sockets and gRPC's threads make it true
            await asyncio.sleep(0.01)
