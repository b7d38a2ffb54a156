"""The default executor: describes a Docker engine as a node and makes a controller for each task."""

from collections.abc import Collection, Sequence

from swarmkit.agent.exec import Controller, DependencyStore
from swarmkit.aio import TaskOwner
from swarmkit.api import messages as api
from swarmkit.api.expansion import expand_container
from swarmkit.api.template import Context
from swarmkit.clock import Clock
from swarmkit.executors.docker import container
from swarmkit.executors.docker.controller import DockerController, answered
from swarmkit.executors.docker.describe import Json, node_description
from swarmkit.executors.docker.engine import CALL_TIMEOUT, Engine
from swarmkit.executors.docker.errors import EngineError, Kind
from swarmkit.executors.docker.events import EventStream
from swarmkit.executors.docker.pulls import Pulls
from swarmkit.log import get_logger

log = get_logger(__name__)


class DockerExecutor:
    """Runs tasks on the engine at one address.

    Args:
        engine_url: ``unix:///path`` or ``tcp://host:port``.
        timeout: longest silence of an engine call, in seconds.
    """

    def __init__(self, engine_url: str, clock: Clock, timeout: int = CALL_TIMEOUT) -> None:
        self._engine = Engine(engine_url, timeout)
        self._events = EventStream(self._engine, clock)
        self._pulls = Pulls(self._engine, clock)
        self._clock = clock
        self._owner = TaskOwner("docker-executor")
        self._description = api.NodeDescription()
        self._node_id = ""

    async def start(self) -> None:
        """Begin following the engine's events; an engine that is away is waited for in the background."""
        self._events.start()

    async def close(self) -> None:
        """Leave the engine; containers are left as they are."""
        await self._owner.close()
        await self._events.close()
        await self._pulls.close()
        await self._engine.close()

    async def describe(self) -> api.NodeDescription:
        """Describe the engine.

        Raises:
            TemporaryError: it cannot be reached.
        """
        info = await answered(self._engine.info())
        self._description = node_description(info, await self._managed_plugins())
        return self._description

    async def _managed_plugins(self) -> list[Json]:
        try:
            return await answered(self._engine.plugins())
        except EngineError as error:
            log.warning("the engine's plugins are not known", error=str(error))
            return []

    async def configure(self, node: api.Node) -> None:
        """Take note of this node's id, by which its containers are known."""
        self._node_id = node.id

    async def controller(self, task: api.Task, dependencies: DependencyStore) -> Controller:
        """Return the controller of a task.

        Raises:
            UnsupportedTaskError: this executor cannot run it.
            TemplateError: a template in its spec cannot be expanded.
        """
        container.check_supported(task)
        spec = expand_container(task.spec.container, Context.of_task(task, self._description))
        return DockerController(task, spec, self._engine, self._events, self._pulls, self._clock)

    async def set_network_keys(self, keys: Sequence[api.EncryptionKey]) -> None:
        """Take the swarm's network keys; without networks there is nothing to encrypt."""

    async def sweep(self, task_ids: Collection[str]) -> None:
        """Remove this node's containers that belong to none of the tasks (contract/executor.md, 15).

        Matches on the node's own label: several daemons may share an engine. They are found here, and stopped
        and removed in the background: each is given its time to stop, and no task waits for that.

        Raises:
            TemporaryError: the engine cannot be reached.
        """
        if not self._node_id:
            return
        found = await answered(self._engine.containers_labelled(f"{container.NODE_ID_LABEL}={self._node_id}"))
        for orphan in found:
            task_id = (orphan.get("Labels") or {}).get(container.TASK_ID_LABEL, "")
            if task_id not in task_ids:
                self._owner.spawn(self._remove_orphan(str(orphan["Id"]), task_id), f"remove {task_id}")

    async def _remove_orphan(self, container_id: str, task_id: str) -> None:
        fields = {"task_id": task_id, "container": container_id[:12]}
        log.info("removing a container without a task", **fields)
        try:
            await self._engine.stop(container_id, container.DEFAULT_GRACE_SECONDS)
            await self._engine.remove(container_id)
        except EngineError as error:
            if error.kind not in (Kind.NO_CONTAINER, Kind.REMOVAL_RUNS):
                # It is looked for again when the daemon starts anew.
                log.warning("cannot remove a container without a task", error=str(error), **fields)
