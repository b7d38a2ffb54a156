"""A manager: the replicated store, the API in front of it, and what runs while it leads.

Source: contract/raft-store-manager.md, 17 to 20.
"""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from swarmkit.aio import TaskOwner
from swarmkit.api import (
    ca_pb2_grpc,
    control_pb2_grpc,
    dispatcher_pb2_grpc,
    health_pb2_grpc,
    logbroker_pb2_grpc,
)
from swarmkit.api import messages as api
from swarmkit.ca.bootstrap import root_ca_object
from swarmkit.ca.credentials import CredentialsHolder
from swarmkit.ca.issuing import CertificateAuthority
from swarmkit.ca.keyfile import KeyFile
from swarmkit.ca.root import Root
from swarmkit.ca.statedir import CERTIFICATES
from swarmkit.ca.tokens import new_join_token
from swarmkit.clock import Clock
from swarmkit.log import get_logger
from swarmkit.manager.allocator import Allocator
from swarmkit.manager.caapi import CaService, NodeCaService
from swarmkit.manager.controlapi import ControlService
from swarmkit.manager.dispatcher import Dispatcher, DispatcherService
from swarmkit.manager.health import CONTROL_API, RAFT, HealthService
from swarmkit.manager.joining import join_group, join_seconds
from swarmkit.manager.keys import KeyFollower
from swarmkit.manager.leader import Leadership, Loop, SeedError
from swarmkit.manager.leaders import RaftLeaders
from swarmkit.manager.logbroker import LogBroker
from swarmkit.manager.orchestrator import (
    ConstraintEnforcer,
    GlobalOrchestrator,
    ReplicatedOrchestrator,
    TaskReaper,
)
from swarmkit.manager.place import Place, RaftIdFile
from swarmkit.manager.raftapi import RaftService, grpc_probe
from swarmkit.manager.raftgroup import RaftGroup
from swarmkit.manager.rolemanager import RoleManager
from swarmkit.manager.scheduler import Scheduler
from swarmkit.manager.seed import OwnNode, seed
from swarmkit.net.address import split_address
from swarmkit.net.frames import Frames
from swarmkit.net.remotes import Remote
from swarmkit.net.server import ApiServer
from swarmkit.raft import service_pb2_grpc
from swarmkit.raft.config import RaftConfig, SnapshotPolicy
from swarmkit.raft.errors import RaftError
from swarmkit.raft.links import Links
from swarmkit.raft.node import JoinReply, RaftNode
from swarmkit.raft.pipes import FramePipe, TlsDialler
from swarmkit.store import ProposalError, Store, Tx

log = get_logger(__name__)

#: The directory in the state directory for the sockets between gateways and inner servers.
SOCKETS = "sockets"
#: How long a start waits for this manager to lead before it goes on without, in seconds.
LEADERSHIP_WAIT = 10.0
#: How long a manager that stops tries to hand the leadership over, in seconds.
HANDOVER_SECONDS = 3.0


class FoundingError(SeedError):
    """The log is there and the cluster object is not, and nobody has the root's key."""


@dataclass(frozen=True)
class ManagerConfig:
    """Settings of a manager.

    Attributes:
        state_dir: the node's; log and snapshots live below it.
        control_socket: path of the control socket.
        listen_remote: ``host:port`` of the remote API.
        advertise_remote: address told to others; empty: the listening one.
        raft: timing of the replicated log.
        force_new_cluster: go on as the only manager of the swarm.
    """

    state_dir: Path
    control_socket: Path
    listen_remote: str
    advertise_remote: str
    raft: RaftConfig = field(default_factory=RaftConfig)
    force_new_cluster: bool = False


class Manager:
    """One manager, from ``start`` to ``stop``.

    Args:
        config: settings.
        credentials: the node's; their O is the cluster id.
        key_file: data keys of log and snapshots; follows the swarm's unlock key.
        root: the root of a swarm that is founded now; None for one that exists.
        clock: time.
        rng: randomness.
        on_fatal: told, once, why the manager cannot go on.
        contacts: returns the managers through which a place in the group can be asked for, best first.
        on_removed: told, once, that the group has removed this manager.
        on_locked: told that the node's private key lay in clear until now: it should be replaced.
    """

    def __init__(
        self,
        config: ManagerConfig,
        credentials: CredentialsHolder,
        key_file: KeyFile,
        root: Root | None,
        clock: Clock,
        rng: random.Random,
        on_fatal: Callable[[BaseException], None],
        contacts: Callable[[], Sequence[Remote]],
        on_removed: Callable[[], None],
        on_locked: Callable[[], None],
    ) -> None:
        self._config = config
        self._credentials = credentials
        self._key_file = key_file
        self._root = root
        self._clock = clock
        self._rng = rng
        self._on_fatal = on_fatal
        self._on_removed = on_removed
        self._cluster_id = credentials.current.organization
        self._node_id = credentials.current.node_id
        self.store = Store(clock)
        self._links = Links(TlsDialler(credentials), clock, rng)
        self._place = Place(self._ask, contacts, RaftIdFile(config.state_dir / CERTIFICATES), clock)
        self._raft = self._make_raft()
        self.store.attach(self._raft)
        self._leadership = Leadership(
            self.store, self._seed, self._loops, clock, on_fatal, lambda: self._leaders.changed()
        )
        self._leaders = RaftLeaders(self._raft, self._leadership, clock)
        self._server = ApiServer(
            credentials,
            clock,
            is_blacklisted=self._is_blacklisted,
            is_manager=self._is_manager,
            advertise_address=config.advertise_remote,
            leaders=self._leaders,
            sockets=config.state_dir.absolute() / SOCKETS,
        )
        self._owner = TaskOwner("manager", on_failure=on_fatal)
        self._dispatcher = Dispatcher(
            self.store, clock, rng, self._node_id, self._managers, self._subscribe_managers
        )
        self._log_broker = LogBroker()
        self._ca = CertificateAuthority(self.store, clock, rng, self._cluster_id)
        self._key_follower = KeyFollower(
            self.store, self._cluster_id, key_file, self._raft.rotate_data_key, on_locked
        )
        self.serving = False
        # Raft asks in every cycle; stored objects never change, so the object itself tells what is news.
        self._policy_source: api.Cluster | None = None
        self._policy = SnapshotPolicy()
        self._remote_health = HealthService([RAFT])
        self._local_health = HealthService([CONTROL_API])

    def _make_raft(self) -> RaftNode:
        return RaftNode(
            state_dir=self._config.state_dir,
            node_id=self._node_id,
            addr=self._config.advertise_remote,
            machine=self.store,
            keys=self._key_file,
            clock=self._clock,
            config=self._config.raft,
            policy=self._snapshot_policy,
            random=self._rng,
            on_fatal=self._on_fatal,
            on_removed=self._was_removed,
            join=None if self._root is not None else self._place.join,
            links=self._links,
            force_new_cluster=self._config.force_new_cluster,
        )

    @property
    def control_socket(self) -> Path:
        """Path of the control socket."""
        return self._config.control_socket

    @property
    def removed(self) -> bool:
        """Whether the group has removed this manager."""
        return self._raft.removed

    async def start(self) -> None:
        """Open the ports, restore, found or join the group, and serve.

        Raises:
            ListenError: the port or the socket cannot be had.
            JoinError: the group has no place for this manager, or cannot be asked.
            StorageError: the log or a snapshot cannot be trusted, read or written.
            StateDirError: the data key or the raft id cannot be written down.
        """
        self._register()
        await self._server.start()
        gateway = await self._server.listen_remote(self._config.listen_remote)
        log.info("listening for nodes", addr=gateway.address)
        self._warn_about(gateway.address)
        own_address = self._config.advertise_remote or gateway.address
        self._raft.set_address(own_address)
        self._place.own_address = own_address
        # Before joining: the leader asks this manager whether it is there.
        self._remote_health.set_serving(RAFT, True)
        self._raft.subscribe(self._leadership.announce)
        self._raft.watch_standing(self._leaders.changed)
        self._raft.watch_members(lambda _: self._leaders.changed())
        await self._raft.start()
        if self._root is None:
            await self._place.remember(self._raft.raft_id)
        self._links.start(self._raft.raft_id, self._raft.mailbox, self._raft.told_removed)
        self._owner.spawn(self._leadership.run(), "leadership")
        self._owner.spawn(self._place.keep_known(self._leaders), "address")
        self._owner.spawn(self._key_follower.run(), "unlock key")
        await self._wait_for_leader()
        if self._root is not None:
            # Not before the swarm is written down: a founding that ends half-way cannot be resumed.
            await self._place.remember(self._raft.raft_id)
        await self._server.listen_control(self._config.control_socket)
        self._local_health.set_serving(CONTROL_API, True)
        self.serving = True
        log.info("listening for control", socket=self._config.control_socket)

    async def _wait_for_leader(self) -> None:
        try:
            async with asyncio.timeout(LEADERSHIP_WAIT):
                while not (self._leaders.leading or self._leaders.leader or self.removed):
                    await self._leaders.wait_change()
        except TimeoutError:
            log.warning("the swarm has no leader yet")

    def _warn_about(self, address: str) -> None:
        host = split_address(address)[0]
        if not self._config.advertise_remote and host in ("0.0.0.0", "::"):
            log.warning(
                "no address to advertise: nodes of other machines learn one by how they reached this manager;"
                " --advertise-remote-api names one",
                addr=address,
            )

    async def stop(self, erase: bool = False) -> None:
        """End everything in order: no new calls, the leader's loops, the links, the log.

        Args:
            erase: delete the log, the snapshots and their keys: this node is no manager any more.

        Raises:
            StorageError, StateDirError: ``erase`` left something behind.
        """
        self.serving = False
        self._remote_health.set_serving(RAFT, False)
        self._local_health.set_serving(CONTROL_API, False)
        await self._step_aside()
        # Ending the loops first ends the streams of the nodes, which would use up the server's grace.
        await self._owner.close()
        await self._links.close()
        await self._server.stop()
        await self._raft.stop(erase)
        if erase:
            await self._place.forget()

    async def _step_aside(self) -> None:
        """Hand the leadership over before going, so that the swarm need not find out by itself."""
        if not self._raft.may_propose or len(self._raft.members()) < 2:
            return
        try:
            async with asyncio.timeout(HANDOVER_SECONDS):
                await self._raft.group.hand_over()
        except (RaftError, ProposalError, TimeoutError) as error:
            log.info("the leadership was not handed over", error=str(error))

    def _was_removed(self) -> None:
        self._leaders.changed()
        self._on_removed()

    async def _ask(self, remote: Remote, own_address: str, lost_raft_id: int) -> JoinReply:
        timeout = join_seconds(self._config.raft)
        credentials = self._credentials.current
        return await join_group(remote.addr, credentials, own_address, timeout, lost_raft_id=lost_raft_id)

    def _register(self) -> None:
        add = self._server.add
        control = ControlService(self.store, self._clock, self._raft.members, make_join_token=new_join_token)
        dispatcher = DispatcherService(self._dispatcher)
        add(control_pb2_grpc.add_ControlServicer_to_server, control, forward=True)
        add(dispatcher_pb2_grpc.add_DispatcherServicer_to_server, dispatcher, forward=True)
        add(logbroker_pb2_grpc.add_LogBrokerServicer_to_server, self._log_broker, forward=True)
        add(ca_pb2_grpc.add_CAServicer_to_server, CaService(self._ca), forward=True)
        add(ca_pb2_grpc.add_NodeCAServicer_to_server, NodeCaService(self._ca), forward=True)
        add(health_pb2_grpc.add_HealthServicer_to_server, self._remote_health, local=False)
        add(health_pb2_grpc.add_HealthServicer_to_server, self._local_health, remote=False)
        add(
            service_pb2_grpc.add_RaftServicer_to_server,
            RaftService(self._raft, grpc_probe(self._credentials), self._join_refusal),
            local=False,
            forward={"Join", "Leave"},
            roles_by_store=False,
        )
        self._server.add_stream(self._serve_stream)

    async def _serve_stream(self, node_id: str, frames: Frames) -> None:
        await self._links.serve(FramePipe(frames), node_id)

    def _loops(self) -> Mapping[str, Loop]:
        store, clock = self.store, self._clock
        return {
            "dispatcher": self._dispatcher,
            "log broker": self._log_broker,
            "certificate authority": self._ca,
            "allocator": Allocator(store, clock),
            "scheduler": Scheduler(store, clock),
            "constraint enforcer": ConstraintEnforcer(store, clock),
            "task reaper": TaskReaper(store, clock),
            "replicated orchestrator": ReplicatedOrchestrator(store, clock),
            "global orchestrator": GlobalOrchestrator(store, clock),
            "role manager": RoleManager(store, clock, RaftGroup(self._raft)),
        }

    def _seed(self, tx: Tx) -> None:
        own = OwnNode(self._node_id, self._cluster_id, self._credentials.current.cert_pem)
        seed(tx, own, self._root_ca, self._key_file.kek.key)

    def _root_ca(self) -> api.RootCA:
        if self._root is None:
            raise FoundingError(
                "the swarm's founding was interrupted before it was written down: remove the state directory"
                f" {self._config.state_dir} and start again"
            )
        return root_ca_object(self._root.cert_pem, self._root.key_pem)

    def _cluster(self) -> api.Cluster | None:
        return self.store.view().get(api.Cluster, self._cluster_id)

    def _is_manager(self, node_id: str) -> bool:
        """Tell whether a node is a manager now; one that the store does not know yet may be."""
        node = self.store.view().get(api.Node, node_id)
        return node is None or node.role == api.NodeRole.MANAGER

    def _join_refusal(self, node_id: str) -> str:
        """Say why a node may not become a member of the raft group; empty if it may."""
        node = self.store.view().get(api.Node, node_id)
        if node is None:
            return f"the swarm knows no node {node_id}"
        if node.spec.desired_role != api.NodeRole.MANAGER:
            return f"node {node_id} is to be a worker: 'swarmctl node promote {node_id}' makes it a manager"
        return ""

    def _is_blacklisted(self, node_id: str) -> bool:
        cluster = self._cluster()
        return cluster is not None and node_id in cluster.blacklisted_certificates

    def _snapshot_policy(self) -> SnapshotPolicy:
        cluster = self._cluster()
        if cluster is not self._policy_source and cluster is not None:
            raft = cluster.spec.raft
            self._policy_source = cluster
            self._policy = SnapshotPolicy(
                raft.snapshot_interval, raft.log_entries_for_slow_followers, raft.keep_old_snapshots
            )
        return self._policy

    def _managers(self) -> list[api.Peer]:
        return [api.Peer(node_id=member.node_id, addr=member.addr) for member in self._raft.members()]

    def _subscribe_managers(self, callback: Callable[[], None]) -> Callable[[], None]:
        return self._raft.watch_members(lambda _: callback())
