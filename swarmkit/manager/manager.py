"""A manager: the replicated store, the API in front of it, and what runs while it leads.

Source: contract/raft-store-manager.md, 17 to 20.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
from swarmkit.ca.tokens import new_join_token, same_token
from swarmkit.clock import Clock
from swarmkit.log import get_logger
from swarmkit.manager.allocator import Allocator
from swarmkit.manager.caapi import CaService, NodeCaService
from swarmkit.manager.controlapi import ControlService
from swarmkit.manager.dispatcher import Dispatcher, DispatcherService
from swarmkit.manager.health import CONTROL_API, RAFT, HealthService
from swarmkit.manager.keys import KeyFollower
from swarmkit.manager.leader import Leadership, Loop, SeedError
from swarmkit.manager.logbroker import LogBroker
from swarmkit.manager.orchestrator import (
    ConstraintEnforcer,
    GlobalOrchestrator,
    ReplicatedOrchestrator,
    TaskReaper,
)
from swarmkit.manager.scheduler import Scheduler
from swarmkit.manager.seed import OwnNode, seed
from swarmkit.net.address import split_address
from swarmkit.net.server import ApiServer
from swarmkit.raft.config import SnapshotPolicy
from swarmkit.raft.node import RaftNode
from swarmkit.store import Store, Tx

log = get_logger(__name__)

#: How long a start waits for this manager to lead before it goes on without, in seconds.
LEADERSHIP_WAIT = 10.0


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
    """

    state_dir: Path
    control_socket: Path
    listen_remote: str
    advertise_remote: str


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
        on_locked: Callable[[], None],
    ) -> None:
        self._config = config
        self._credentials = credentials
        self._key_file = key_file
        self._root = root
        self._clock = clock
        self._rng = rng
        self._on_fatal = on_fatal
        self._cluster_id = credentials.current.organization
        self._node_id = credentials.current.node_id
        self.store = Store(clock)
        self._raft = RaftNode(
            state_dir=config.state_dir,
            node_id=self._node_id,
            addr=config.advertise_remote,
            machine=self.store,
            keys=key_file,
            clock=clock,
            policy=self._snapshot_policy,
            random=rng,
            on_fatal=on_fatal,
        )
        self.store.attach(self._raft)
        self._server = ApiServer(
            credentials,
            clock,
            is_blacklisted=self._is_blacklisted,
            advertise_address=config.advertise_remote,
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
        self._leadership = Leadership(self.store, self._seed, self._loops, clock, on_fatal)
        self._remote_health = HealthService([RAFT])
        self._local_health = HealthService([CONTROL_API])

    @property
    def control_socket(self) -> Path:
        """Path of the control socket."""
        return self._config.control_socket

    async def start(self) -> None:
        """Open the ports, restore or found the group, and serve.

        Raises:
            ListenError: the port or the socket cannot be had.
            StorageError: the log or a snapshot cannot be trusted, read or written.
        """
        self._register()
        await self._server.start()
        gateway = await self._server.listen_remote(self._config.listen_remote)
        log.info("listening for nodes", addr=gateway.address)
        self._warn_about(gateway.address)
        self._raft.subscribe(self._leadership.announce)
        await self._raft.start()
        if not self._config.advertise_remote:
            self._raft.set_address(gateway.address)
        self._remote_health.set_serving(RAFT, True)
        self._owner.spawn(self._leadership.run(), "leadership")
        self._owner.spawn(self._key_follower.run(), "unlock key")
        await self._wait_to_lead()
        await self._server.listen_control(self._config.control_socket)
        self._local_health.set_serving(CONTROL_API, True)
        self.serving = True
        log.info("listening for control", socket=self._config.control_socket)

    async def _wait_to_lead(self) -> None:
        try:
            async with asyncio.timeout(LEADERSHIP_WAIT):
                await self._leadership.active.wait()
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

    async def stop(self) -> None:
        """End everything in order: no new calls, the leader's loops, the log."""
        self.serving = False
        self._remote_health.set_serving(RAFT, False)
        self._local_health.set_serving(CONTROL_API, False)
        # Ending the loops first ends the streams of the nodes, which would use up the server's grace.
        await self._owner.close()
        await self._server.stop()
        await self._raft.stop()

    def _register(self) -> None:
        add = self._server.add
        control = ControlService(self.store, self._clock, self._raft.members, make_join_token=new_join_token)
        add(control_pb2_grpc.add_ControlServicer_to_server, control)
        add(dispatcher_pb2_grpc.add_DispatcherServicer_to_server, DispatcherService(self._dispatcher))
        add(logbroker_pb2_grpc.add_LogBrokerServicer_to_server, self._log_broker)
        add(ca_pb2_grpc.add_CAServicer_to_server, CaService(self._ca))
        add(ca_pb2_grpc.add_NodeCAServicer_to_server, NodeCaService(self._ca, self._refusal))
        add(health_pb2_grpc.add_HealthServicer_to_server, self._remote_health, local=False)
        add(health_pb2_grpc.add_HealthServicer_to_server, self._local_health, remote=False)

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

    def _refusal(self, token: str) -> str:
        """Turn away who would become a second manager: this version runs one to a swarm."""
        cluster = self._cluster()
        if cluster is not None and same_token(token, cluster.root_ca.join_tokens.manager):
            return "this version runs one manager to a swarm: join with the worker token"
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
