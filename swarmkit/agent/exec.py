"""The executor seam: what an agent asks of whatever runs its tasks.

Source: contract/dispatcher-agent.md, 9 and 10; contract/executor.md.
"""

from collections.abc import Collection, Sequence
from typing import Protocol, runtime_checkable

from swarmkit.api import messages as api


class ExecutorError(Exception):
    """An operation on a task failed.

    ExecutorError
    ├── TemporaryError          the agent retries the same operation, the task keeps its state
    ├── AlreadyDoneError        "already prepared", "already started": counts as success
    ├── DependencyNotReadyError a secret, config or volume has not arrived yet; temporary
    └── TaskExitError           the workload ended; carries exit code and container status

    Any other exception out of a controller ends the task: REJECTED before STARTING, FAILED from there on.
    """


class TemporaryError(ExecutorError):
    """The cause may go away: the agent tries again after a pause."""


class DependencyNotReadyError(TemporaryError):
    """A dependency of the task has not arrived on this node yet."""


class AlreadyDoneError(ExecutorError):
    """The operation had been carried out before; success."""


class TaskExitError(ExecutorError):
    """The workload ended by itself and not with success."""

    def __init__(self, message: str, exit_code: int, status: api.ContainerStatus | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.status = status


class Controller(Protocol):
    """Runs one task. At most one operation is in flight at a time; each may be cancelled and called again."""

    async def update(self, task: api.Task) -> None:
        """Take note of a changed task (its desired state, usually)."""
        ...

    async def prepare(self) -> None:
        """Make everything that starting needs: pull, create."""
        ...

    async def start(self) -> None:
        """Start the workload and return when it runs (and is healthy, where health is checked)."""
        ...

    async def wait(self) -> None:
        """Return when the workload ended with success.

        Raises:
            TaskExitError: it ended otherwise.
        """
        ...

    async def shutdown(self) -> None:
        """Stop the workload within its grace period, then by force."""
        ...

    async def remove(self) -> None:
        """Stop the workload if it still runs and remove all that was made for it; done twice is fine."""
        ...

    async def close(self) -> None:
        """Give up what the controller holds; the workload is left as it is."""
        ...

    async def container_status(self) -> api.ContainerStatus | None:
        """Return container id, process id and exit code as far as known; None if there is nothing."""
        ...

    async def port_status(self) -> api.PortStatus | None:
        """Return the host ports in effect; None if the task publishes none."""
        ...


class DependencyStore(Protocol):
    """The secrets, configs and volumes of this node, as far as one task may see them."""

    def get_secret(self, secret_id: str) -> api.Secret:
        """Return a secret; raises KeyError with a sentence if the task may not see it or it is not here."""
        ...

    def get_config(self, config_id: str) -> api.Config:
        """Return a config; raises as ``get_secret``."""
        ...


class Executor(Protocol):
    """Describes the node and makes controllers."""

    async def start(self) -> None:
        """Begin the executor's own background work; returns even if the engine is not reachable yet."""
        ...

    async def close(self) -> None:
        """End the background work; workloads are left as they are."""
        ...

    async def describe(self) -> api.NodeDescription:
        """Describe the node: hostname, platform, resources, engine. Stable between calls, lists sorted.

        Raises:
            TemporaryError: the engine cannot be reached; the text says so in one sentence.
        """
        ...

    async def configure(self, node: api.Node) -> None:
        """Take note of this node's own object."""
        ...

    async def controller(self, task: api.Task, dependencies: DependencyStore) -> Controller:
        """Return the controller for a task, whether or not its workload exists already."""
        ...

    async def set_network_keys(self, keys: Sequence[api.EncryptionKey]) -> None:
        """Take the swarm's network keys."""
        ...


@runtime_checkable
class Sweeper(Protocol):
    """What an executor may offer besides: to find workloads of this node that no task accounts for."""

    async def sweep(self, task_ids: Collection[str]) -> None:
        """Remove every workload of this node whose task is not in ``task_ids``.

        Called once per run of the agent, after the first complete assignment (contract/executor.md, 15).

        Raises:
            TemporaryError: the engine cannot be reached; asked again at the next complete assignment.
        """
        ...
