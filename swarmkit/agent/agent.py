"""The agent of one node: keeps a session with the managers, and the tasks they assign running.

Source: contract/dispatcher-agent.md, 6 and 7. The order of calls is in this room's README.
"""

import asyncio
import platform
import random
import socket
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path

from swarmkit.agent.backoff import Backoff
from swarmkit.agent.database import TaskDatabase
from swarmkit.agent.description import Overrides, complete, without_engine
from swarmkit.agent.exec import Executor, TemporaryError
from swarmkit.agent.manager import UNAVAILABLE, Broker, Connect, GrpcManager, ManagerError
from swarmkit.agent.notices import NodeChange, Notices, listed_managers
from swarmkit.agent.reporter import Reporter, SendError, Update
from swarmkit.agent.session import Session, SessionHandlers
from swarmkit.agent.worker import Worker
from swarmkit.aio import TaskOwner
from swarmkit.api import messages as api
from swarmkit.clock import Clock
from swarmkit.log import get_logger

log = get_logger(__name__)

#: Seconds between two looks at the node's description; sooner while the engine cannot be reached.
DESCRIBE_PERIOD = 20.0
DESCRIBE_PERIOD_WITHOUT_ENGINE = 5.0
#: Seconds a description may take.
DESCRIBE_TIMEOUT = 10.0
#: Seconds an engine that was reachable may be away before the managers are told.
ENGINE_GRACE = 60.0


class AgentError(Exception):
    """The agent cannot go on; the text is for the operator."""


@dataclass(frozen=True)
class AgentConfig:
    """How the agent of a node is set up.

    Attributes:
        database: path of the task database, ``<state>/worker/tasks.db``; None keeps tasks in memory only.
        hostname: name of the node, replaces the executor's; empty for none.
        fips: whether the node runs in FIPS mode.
        explicit_join: an address to join was given. If the server there is not to be trusted, the agent ends
            with that error instead of trying for ever; after one good session it never does.
    """

    database: Path | None
    hostname: str = ""
    fips: bool = False
    explicit_join: bool = False


class Agent:
    """Runs the node's tasks. ``run`` until it is cancelled, ``stop`` is called, or an error ends it.

    Args:
        executor: started and closed by the agent.
        broker: finds managers.
        tls_info: the root and issuer of the node's certificate as they are now; None while not known.
        on_change: told of changes of this node's object or of the swarm's root; must not block.
        source: draws the backoff.
        connect: makes the calls of a session over a connection.

    Attributes:
        ready: set when a manager took this node in for the first time.
    """

    def __init__(
        self,
        config: AgentConfig,
        executor: Executor,
        broker: Broker,
        tls_info: Callable[[], api.NodeTLSInfo | None],
        on_change: Callable[[NodeChange], None],
        clock: Clock,
        source: random.Random,
        connect: Connect = GrpcManager,
    ) -> None:
        self.ready = asyncio.Event()
        self._config = config
        self._executor = executor
        self._broker = broker
        self._tls_info = tls_info
        self._on_change = on_change
        self._clock = clock
        self._connect = connect
        self._backoff = Backoff(source)
        self._notices = Notices()
        self._reporter = Reporter(self._send)
        self._database: TaskDatabase | None = None
        self._worker: Worker | None = None
        self._described: api.NodeDescription | None = None
        self._description = api.NodeDescription()
        self._engine_lost_at: float | None = None
        self._session: Session | None = None
        self._session_id = ""
        self._session_open = asyncio.Event()
        self._describe_now = asyncio.Event()
        self._stopping = asyncio.Event()
        self._leave = False
        self._told_removed = False
        self._ended = asyncio.Event()
        self._error: BaseException | None = None

    async def run(self) -> None:
        """Run until ``stop`` or a fatal error; call once.

        Raises:
            AgentError: the join address does not belong to a manager of this swarm.
            TaskDatabaseError: the task database cannot be opened.
        """
        owner = TaskOwner("agent", on_failure=self._fail)
        try:
            self._database = await TaskDatabase.open(self._config.database)
            worker = Worker(self._executor, self._database, self._reporter.update, self._clock)
            self._worker = worker
            await self._executor.start()
            await worker.start()
            await self._describe()
            for loop, name in (
                (self._keep_sessions(worker), "sessions"),
                (self._reporter.run(), "reporter"),
                (self._keep_description(), "description"),
            ):
                owner.spawn(loop, name)
            await self._stopping.wait()
            if self._leave and self._error is None:
                await worker.leave()
        finally:
            await self._close(owner)
        if self._error is not None:
            raise self._error

    async def stop(self, leave: bool = False) -> None:
        """End ``run``, which must have been begun, and wait for its end.

        Args:
            leave: the node goes away: remove all its workloads and their records first, with the session kept
                alive meanwhile; no status is reported for them. Otherwise workloads are left running, and the
                next run takes them up again.
        """
        self._leave = leave
        self._stopping.set()
        await self._ended.wait()

    def tls_info_changed(self) -> None:
        """Take note that ``tls_info`` has something new to tell; the managers are told at once."""
        self._describe_now.set()

    def _fail(self, error: BaseException) -> None:
        self._error = self._error or error
        self._stopping.set()

    async def _close(self, owner: TaskOwner) -> None:
        try:
            await owner.close()
            if self._worker is not None:
                await self._worker.close()
                await self._executor.close()
            if self._database is not None:
                await self._database.close()
        finally:
            self._ended.set()

    # Sessions

    async def _keep_sessions(self, worker: Worker) -> None:
        while True:
            try:
                await self._hold_session(worker)
            except AgentError as error:
                self._fail(error)
                return
            except ManagerError as error:
                self._backoff.failed()
                log.warning("session with a manager failed", error=error)
                if error.node_removed:
                    self._say_removed()
            except Exception as error:
                self._backoff.failed()
                log.exception("no session with a manager", error=error)
            await self._clock.sleep(self._backoff.delay())

    def _say_removed(self) -> None:
        """Tell the operator, once, what only a person can mend."""
        if not self._told_removed:
            self._told_removed = True
            log.error(
                "this node was removed from the swarm: to join again, stop it and start it with a join token"
                " and an empty state directory"
            )

    async def _hold_session(self, worker: Worker) -> None:
        """Select a manager and keep one session with it until its end."""
        try:
            connection = await self._broker.select()
        except Exception as error:
            raise ManagerError(UNAVAILABLE, f"no manager to connect to: {error}") from error
        success = False
        try:
            session = Session(
                self._connect(connection),
                self._description,
                self._session_id,
                SessionHandlers(self._registered, self._handle, worker.apply),
                self._clock,
            )
            self._session = session
            log.debug("opening a session", manager=connection.address, session_id=self._session_id)
            await session.run()
            success = True
        except ManagerError as error:
            if error.untrusted_server and self._config.explicit_join and not self.ready.is_set():
                raise AgentError(
                    f"the manager at {connection.address} is not to be trusted: its certificate was not "
                    f"issued by the swarm this node belongs to ({error.text})"
                ) from error
            raise
        finally:
            self._session_open.clear()
            self._session = None
            await connection.close(success)

    def _registered(self) -> None:
        session = self._session
        if session is None or self._worker is None:
            raise RuntimeError("a session registered that is not the current one")
        if not self.ready.is_set():
            log.info("the node is registered with a manager", session_id=session.session_id)
        self._session_id = session.session_id
        self._backoff.registered()
        self.ready.set()
        for task_id, status in self._worker.statuses().items():
            self._reporter.update(task_id, status)
        self._session_open.set()

    async def _handle(self, message: api.SessionMessage) -> None:
        self._broker.managers(listed_managers(message))
        tls_info = self._description.tls_info
        change = self._notices.change(message, tls_info.trust_root)
        if change is not None:
            if change.node is not None:
                await self._tell_executor(self._executor.configure(change.node))
            self._on_change(change)
        keys = self._notices.network_keys(message)
        if keys is not None:
            await self._tell_executor(self._executor.set_network_keys(keys))

    async def _tell_executor(self, call: Coroutine[object, object, None]) -> None:
        try:
            await call
        except Exception as error:
            # The session serves the tasks of the node, whatever the executor makes of this.
            log.warning("the executor could not be configured", error=error)

    async def _send(self, updates: Sequence[Update]) -> None:
        await self._session_open.wait()
        session = self._session
        if session is None:
            raise SendError("the session ended")
        try:
            await session.report(updates)
        except SendError:
            if self._session is session:
                self._session_open.clear()  # it is about to end: wait for the next one
            raise

    # Description

    async def _keep_description(self) -> None:
        while True:
            away = self._engine_lost_at is not None
            await self._wait_to_describe(DESCRIBE_PERIOD_WITHOUT_ENGINE if away else DESCRIBE_PERIOD)
            await self._describe()
            session = self._session
            if session is not None and session.registered and session.description != self._description:
                log.info("the description of the node changed, opening a new session")
                session.end()
            if self._database is not None:
                await self._database.flush()  # a write that failed before is tried again

    async def _wait_to_describe(self, seconds: float) -> None:
        pause = asyncio.ensure_future(self._clock.sleep(seconds))
        wake = asyncio.ensure_future(self._describe_now.wait())
        try:
            await asyncio.wait([pause, wake], return_when=asyncio.FIRST_COMPLETED)
        finally:
            pause.cancel()
            wake.cancel()
        self._describe_now.clear()

    async def _describe(self) -> None:
        """Ask the executor for the node's description and complete it."""
        try:
            async with asyncio.timeout(DESCRIBE_TIMEOUT):
                self._described = described = await self._executor.describe()
            if self._engine_lost_at is not None:
                log.info("the engine can be reached again")
            self._engine_lost_at = None
        except (TemporaryError, TimeoutError) as error:
            described = self._describe_without_engine(error)
        except Exception:
            log.exception("cannot describe the node")
            described = self._described or api.NodeDescription()
        overrides = Overrides(self._config.hostname, self._tls_info(), self._config.fips)
        self._description = complete(described, overrides)

    def _describe_without_engine(self, error: Exception) -> api.NodeDescription:
        now = self._clock.monotonic()
        if self._engine_lost_at is None:
            self._engine_lost_at = now
            log.warning("the engine cannot be reached", error=error)
        if self._described is not None and now - self._engine_lost_at < ENGINE_GRACE:
            return self._described
        text = str(error) or f"the engine did not answer within {DESCRIBE_TIMEOUT:g} s"
        known = self._described or api.NodeDescription(
            hostname=socket.gethostname(),
            platform=api.Platform(architecture=platform.machine(), os=platform.system().lower()),
        )
        return without_engine(known, text)
