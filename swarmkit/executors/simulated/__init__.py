"""The simulated executor: no processes at all, only the times and failures a policy chooses.

For scale tests with thousands of nodes in one process, and for tests of what lies above the executor.
"""

from swarmkit.executors.simulated.executor import SimulatedExecutor
from swarmkit.executors.simulated.policy import Behaviour, EnvironmentPolicy, Policy

__all__ = ["Behaviour", "EnvironmentPolicy", "Policy", "SimulatedExecutor"]
