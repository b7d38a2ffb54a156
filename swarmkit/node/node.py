"""One machine of a swarm: its identity, its agent, and a manager while its certificate says so.

Source: contract/raft-store-manager.md, 22.
"""

import asyncio
import dataclasses
import random
from collections.abc import Callable
from pathlib import Path

from swarmkit.agent.agent import Agent, AgentConfig, AgentError
from swarmkit.agent.database import TaskDatabaseError
from swarmkit.agent.notices import NodeChange
from swarmkit.aio import TaskOwner, cancel_and_wait
from swarmkit.api import messages as api
from swarmkit.ca.certificates import MANAGER_ROLE
from swarmkit.ca.chain import tls_info, verify_chain
from swarmkit.ca.credentials import Credentials, CredentialsHolder
from swarmkit.ca.enrollment import Enroller
from swarmkit.ca.errors import CaError, CertificateError
from swarmkit.ca.renewal import Renewer
from swarmkit.ca.root import Root
from swarmkit.ca.statedir import CERTIFICATES, StateDir
from swarmkit.clock import Clock
from swarmkit.lag import LagWatch
from swarmkit.log import get_logger
from swarmkit.manager.joining import JoinError
from swarmkit.manager.manager import Manager, ManagerConfig
from swarmkit.manager.place import RaftIdFile
from swarmkit.net.listen import ListenError
from swarmkit.net.remotes import Remote, Remotes, RemotesFile, RemotesFileError
from swarmkit.node.authority import AuthorityConnector
from swarmkit.node.broker import NodeBroker
from swarmkit.node.config import ConfigError, NodeConfig
from swarmkit.node.directory import check_directory
from swarmkit.node.executors import make_executor
from swarmkit.node.identity import has_log, obtain_identity
from swarmkit.node.lock import DirectoryLock
from swarmkit.node.supervisor import ManagerSupervisor, NotYetError, RunningManager
from swarmkit.raft.config import RaftConfig
from swarmkit.raft.errors import (
    ForeignStateError,
    LogDamagedError,
    RaftConfigError,
    RaftError,
    SnapshotDamagedError,
    SnapshotGapError,
    StorageError,
    WrongKeyError,
)
from swarmkit.raft.files import OsFiles
from swarmkit.raft.storage import erase_storage

log = get_logger(__name__)

#: Longest time a stopping node takes to remove its tasks, in seconds: a grace period of 10 and some air.
LEAVE_SECONDS = 20.0
#: Longest time that a stopping node goes on with the founding of its swarm, in seconds; it takes a hundredth.
FOUNDING_SECONDS = 3.0


class NodeError(Exception):
    """The node cannot go on; the text says why and what to do."""


def raft_timing(config: NodeConfig) -> RaftConfig:
    """Return the timing of the replicated log.

    Raises:
        ConfigError: the two ticks do not work together.
    """
    try:
        return RaftConfig.from_ticks(config.heartbeat_seconds, config.election_seconds)
    except RaftConfigError as error:
        raise ConfigError(str(error)) from error


class Node:
    """One node, from ``start`` to ``stop``.

    Args:
        config: settings, validated.
        clock: time.
        rng: randomness.
        on_fatal: told, once, why the node cannot go on.
    """

    def __init__(
        self, config: NodeConfig, clock: Clock, rng: random.Random, on_fatal: Callable[[BaseException], None]
    ) -> None:
        self._config = config
        self._clock = clock
        self._rng = rng
        self._on_fatal = on_fatal
        self._state = StateDir(config.state_dir, config.unlock_key_bytes)
        self._remotes = Remotes(rng)
        self._remotes_file = RemotesFile(config.state_dir / "state.json")
        self._owner = TaskOwner("node", on_failure=on_fatal)
        self._enroller = Enroller(
            AuthorityConnector(self._remotes, self._local_socket), clock, rng, self._say_pending
        )
        self._lock: DirectoryLock | None = None
        self._holder: CredentialsHolder | None = None
        self._renewer: Renewer | None = None
        self._supervisor: ManagerSupervisor | None = None
        self._manager: Manager | None = None
        self._root: Root | None = None
        self._force = config.force_new_cluster
        self._broker: NodeBroker | None = None
        self._agent: Agent | None = None

    async def start(self) -> None:
        """Come by an identity, start the manager if this is one, and the agent.

        Returns while the agent may still look for a manager: an unreachable one is no reason to give up.

        Raises:
            CaError, IdentityError: there is no usable identity.
            DirectoryError, LockedError: the state directory is not one, or another daemon uses it.
            NodeError, ListenError, StorageError, RemotesError: as their texts say.
        """
        await asyncio.to_thread(check_directory, self._config.state_dir)
        await asyncio.to_thread(self._state.prepare)
        self._lock = DirectoryLock(self._config.state_dir)
        damage = self._know_managers()
        logged = await asyncio.to_thread(has_log, self._config.state_dir)
        managers = [remote.node_id for remote in self._remotes.known]
        identity = await obtain_identity(
            self._config, self._state, self._enroller, self._clock, logged, managers
        )
        self._holder = CredentialsHolder(identity.credentials)
        self._holder.subscribe(self._credentials_changed)
        self._root = identity.root
        self._renewer = Renewer(self._holder, self._renew, self._clock, self._rng)
        self._supervisor = supervisor = ManagerSupervisor(
            self._holder, self._make_manager, self._start_manager, self._renewer.demand, self._clock
        )
        if identity.credentials.role == MANAGER_ROLE:
            if damage is not None:
                log.warning("the list of managers is not needed here and is written anew", error=str(damage))
            await self._start_first(supervisor)
        else:
            if damage is not None:
                raise damage
            if not self._remotes.known:
                raise NodeError("no manager of the swarm is known: start this node with --join-addr")
            if logged:
                await self._forget_log()
        self._root = None
        self._start_agent(self._holder, self._renewer)
        self._owner.spawn(self._supervise(supervisor), "supervisor")
        self._owner.spawn(LagWatch(self._clock, self._config.election_seconds / 2).run(), "lag")

    async def _forget_log(self) -> None:
        """Erase what a manager left here that was demoted while it was going down."""
        log.info("erasing the replicated log: this node is a worker by its certificate")
        await asyncio.to_thread(erase_storage, OsFiles(), self._config.state_dir)
        await asyncio.to_thread(self._state.key_file.drop_data_keys)
        await asyncio.to_thread(RaftIdFile(self._config.state_dir / CERTIFICATES).forget)

    def _know_managers(self) -> RemotesFileError | None:
        """Fill the list of managers; returns what is wrong with its file: only a worker depends on it."""
        if self._config.force_new_cluster:
            return None  # they are left behind
        if self._config.join_addr:
            self._remotes.observe(Remote("", self._config.join_addr), 1)
            return None
        try:
            for remote in self._remotes_file.load():
                self._remotes.observe(remote, 1)
        except RemotesFileError as error:
            return error
        return None

    def _say_pending(self, node_id: str) -> None:
        log.warning(
            "the swarm has not accepted this node yet: run the command on a manager, or start this node again"
            " with a join token",
            node_id=node_id,
            command=f"swarmctl node accept {node_id}",
        )

    async def _make_manager(self, changed: Callable[[], None]) -> Manager:
        assert self._holder is not None
        assert self._renewer is not None
        # Only what was on disk at the start is brought back; who joins later is not thrown out again.
        force, self._force = self._force, False
        config = ManagerConfig(
            self._config.state_dir,
            self._config.control_socket,
            self._config.listen_remote,
            self._config.advertise_remote,
            raft_timing(self._config),
            force,
        )
        self._manager = Manager(
            config,
            self._holder,
            self._state.key_file,
            self._root,
            self._clock,
            self._rng,
            self._on_fatal,
            self._contacts,
            changed,
            self._renewer.demand,
        )
        return self._manager

    def _contacts(self) -> list[Remote]:
        """Return the other managers that are known, best first."""
        own = self._holder.current.node_id if self._holder is not None else ""
        return [remote for remote in self._remotes.ranked() if remote.node_id != own]

    async def _start_manager(self, manager: RunningManager) -> None:
        try:
            await manager.start()
        except StorageError as error:
            raise NodeError(f"{error}{_advice(error)}") from error
        except (ListenError, JoinError) as error:
            raise NotYetError(str(error)) from error

    async def _start_first(self, supervisor: ManagerSupervisor) -> None:
        try:
            await (supervisor.start() if self._root is None else _found(supervisor))
        except NotYetError as error:
            raise NodeError(str(error)) from error

    async def _supervise(self, supervisor: ManagerSupervisor) -> None:
        """Follow the node's role; what an operator can mend ends the node without a traceback."""
        try:
            await supervisor.run()
        except (CaError, NodeError, OSError, RaftError) as error:
            self._on_fatal(error)

    def _start_agent(self, holder: CredentialsHolder, renewer: Renewer) -> None:
        broker = NodeBroker(self._remotes, self._remotes_file, holder, self._local_socket)
        agent = Agent(
            AgentConfig(
                self._config.state_dir / "worker" / "tasks.db",
                self._config.hostname,
                explicit_join=bool(self._config.join_addr),
            ),
            make_executor(self._config, self._clock),
            broker,
            lambda: self._tls_info(holder.current),
            self._node_changed,
            self._clock,
            self._rng,
        )
        self._broker, self._agent = broker, agent
        self._owner.spawn(self._run_agent(agent), "agent")
        self._owner.spawn(renewer.run(), "renewer")
        self._owner.spawn(self._say_ready(agent), "ready")

    async def _run_agent(self, agent: Agent) -> None:
        """Run the agent; what an operator can mend ends the node without a traceback."""
        try:
            await agent.run()
        except (AgentError, TaskDatabaseError, OSError) as error:
            self._on_fatal(error)

    async def _say_ready(self, agent: Agent) -> None:
        await agent.ready.wait()
        log.info("node is ready")

    def _local_socket(self) -> Path | None:
        return self._manager.control_socket if self._manager is not None and self._manager.serving else None

    async def stop(self, leave: bool = True) -> None:
        """End agent and manager.

        Args:
            leave: remove this node's tasks first. Otherwise, as after a crash, they run on, and the next
                start takes them up again.
        """
        if self._agent is not None:
            try:
                async with asyncio.timeout(LEAVE_SECONDS):
                    await self._agent.stop(leave)
            except TimeoutError:
                log.warning("not every task of this node ended in time", seconds=LEAVE_SECONDS)
        await self._owner.close()
        if self._broker is not None:
            await self._broker.close()
        if self._supervisor is not None:
            await self._supervisor.stop()
        if self._lock is not None:
            self._lock.release()

    # Identity while running

    def _tls_info(self, credentials: Credentials) -> api.NodeTLSInfo | None:
        try:
            chain = verify_chain(credentials.cert_pem, credentials.root_pem, self._clock.now())
        except CertificateError as error:
            log.warning("the node's certificate does not verify", error=str(error))
            return None
        return tls_info(chain, credentials.root_pem)

    def _credentials_changed(self, _: Credentials) -> None:
        if self._agent is not None:
            self._agent.tls_info_changed()

    async def _renew(self, current: Credentials) -> Credentials:
        issued = await self._enroller.renew(current)
        await asyncio.to_thread(self._state.save, issued.credentials, issued.kek)
        return issued.credentials

    def _node_changed(self, change: NodeChange) -> None:
        if change.root_ca is not None:
            self._owner.spawn(self._adopt_root(change.root_ca), "root")
        if change.node is not None and self._renewer is not None:
            self._renewer.observe_node(change.node)

    async def _adopt_root(self, root_pem: bytes) -> None:
        """Trust the swarm's new root, if this node's own certificate fits it."""
        if self._holder is None:
            return
        adopted = dataclasses.replace(self._holder.current, root_pem=root_pem)
        try:
            verify_chain(adopted.cert_pem, root_pem, self._clock.now())
            await asyncio.to_thread(self._state.save_root, root_pem)
        except CaError as error:
            log.warning("the swarm's new root certificate is not adopted", error=str(error))
            return
        self._holder.replace(adopted)


async def _found(supervisor: ManagerSupervisor) -> None:
    """Start the manager of a new swarm, to the end even if cancelled: half a founding cannot be resumed.

    The root's key lives in memory alone until it is in the log.
    """
    starting = asyncio.create_task(supervisor.start(), name="founding")
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.wait([starting], timeout=FOUNDING_SECONDS)
        if not starting.done():
            await cancel_and_wait(starting)
        elif not starting.cancelled() and (error := starting.exception()) is not None:
            log.warning("the founding failed", error=str(error))
        raise


def _advice(error: StorageError) -> str:
    """Return what to do about a raft directory that cannot be used, to stand behind what is wrong."""
    if isinstance(error, WrongKeyError | ForeignStateError):
        return "; it is of another node: put this node's own back, or use another state directory"
    if isinstance(error, LogDamagedError | SnapshotDamagedError | SnapshotGapError):
        return "; nothing was changed: restore the state directory from a backup"
    return ""
