"""What a spec asks for, with defaults where it is silent (contract/orchestration.md, 2). Pure.

Whole-object defaults apply only where the object is absent. Inside a present one only the restart delay and
the monitor period fall back by themselves.
"""

from google.protobuf.duration_pb2 import Duration

from swarmkit.api import defaults
from swarmkit.api import messages as api
from swarmkit.manager.tasks import nanoseconds


def seconds(value: Duration) -> float:
    """Return a wire duration in seconds."""
    return nanoseconds(value) / 1e9


def restart_condition(task: api.Task) -> "api.RestartPolicy.RestartCondition.ValueType":
    """Return when the task is to be replaced: ANY without a policy."""
    policy = task.spec.restart if task.spec.HasField("restart") else defaults.default_restart()
    return policy.condition


def restart_delay_seconds(task: api.Task) -> float:
    """Return how long a replacement of the task waits; an invalid duration counts as none given."""
    policy = task.spec.restart
    if not policy.HasField("delay") or nanoseconds(policy.delay) < 0:
        return float(defaults.DEFAULT_RESTART_DELAY_SECONDS)
    return seconds(policy.delay)


def update_config(service: api.Service) -> api.UpdateConfig:
    """Return how the tasks are to be replaced: as for a rollback while one runs, else as for an update."""
    spec = service.spec
    if service.update_status.state == api.UpdateStatus.ROLLBACK_STARTED:
        return spec.rollback if spec.HasField("rollback") else defaults.default_update()
    return spec.update if spec.HasField("update") else defaults.default_update()


def monitor_seconds(config: api.UpdateConfig) -> float:
    """Return how long after its start a task's failure counts."""
    return seconds(config.monitor) if config.HasField("monitor") else float(defaults.DEFAULT_MONITOR_SECONDS)
