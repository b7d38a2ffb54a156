"""The executor a configuration names."""

from swarmkit.agent.exec import Executor
from swarmkit.clock import Clock
from swarmkit.executors.docker.executor import DockerExecutor
from swarmkit.executors.process import ProcessExecutor
from swarmkit.executors.simulated import SimulatedExecutor
from swarmkit.node.config import NodeConfig


def make_executor(config: NodeConfig, clock: Clock) -> Executor:
    """Return the executor; nothing is contacted yet."""
    if config.executor == "process":
        return ProcessExecutor(config.state_dir / "worker" / "processes", clock)
    if config.executor == "simulated":
        return SimulatedExecutor(config.hostname or "simulated", clock)
    return DockerExecutor(config.engine_addr, clock)
