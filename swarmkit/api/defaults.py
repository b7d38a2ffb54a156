"""What a service spec means where it says nothing (contract/control-api.md, 4; contract/orchestration.md, 2).

Defaults are computed when they are needed; a stored spec is never rewritten.
"""

from google.protobuf.duration_pb2 import Duration

from swarmkit.api import messages as api

#: Pause before a task is started again, in seconds.
DEFAULT_RESTART_DELAY_SECONDS = 5

#: How long after its start a task's failure counts against an update, in seconds.
DEFAULT_MONITOR_SECONDS = 5

#: Time between asking a container to stop and killing it, in seconds.
DEFAULT_STOP_GRACE_SECONDS = 10

#: PARITY: one at a time in the original; here an update for which no options were ever given replaces all
#: tasks at once (0 = no limit), as the seed's README says.
DEFAULT_PARALLELISM = 0


def default_restart() -> api.RestartPolicy:
    """Return the policy of a task spec that has none: always, after a pause, without limit."""
    return api.RestartPolicy(
        condition=api.RestartPolicy.ANY, delay=Duration(seconds=DEFAULT_RESTART_DELAY_SECONDS)
    )


def default_update() -> api.UpdateConfig:
    """Return how an update or a rollback goes on if the spec does not say: stop first, pause on failure."""
    return api.UpdateConfig(
        parallelism=DEFAULT_PARALLELISM,
        failure_action=api.UpdateConfig.PAUSE,
        monitor=Duration(seconds=DEFAULT_MONITOR_SECONDS),
        order=api.UpdateConfig.STOP_FIRST,
    )


def service_with_defaults(spec: api.ServiceSpec) -> api.ServiceSpec:
    """Return a copy in which what is absent is filled in.

    Whole objects are filled where they are absent; inside one that is there only the delay of restarts and
    the monitor period of updates.
    """
    filled = api.ServiceSpec()
    filled.CopyFrom(spec)
    task = filled.task
    if task.WhichOneof("runtime") == "container":
        container = task.container
        if not container.HasField("stop_grace_period"):
            container.stop_grace_period.seconds = DEFAULT_STOP_GRACE_SECONDS
        container.pull_options.SetInParent()
        container.dns_config.SetInParent()
    task.resources.SetInParent()
    task.placement.SetInParent()
    if not task.HasField("restart"):
        task.restart.CopyFrom(default_restart())
    elif not task.restart.HasField("delay"):
        task.restart.delay.seconds = DEFAULT_RESTART_DELAY_SECONDS
    for config, given in (
        (filled.update, spec.HasField("update")),
        (filled.rollback, spec.HasField("rollback")),
    ):
        if not given:
            config.CopyFrom(default_update())
        elif not config.HasField("monitor"):
            config.monitor.seconds = DEFAULT_MONITOR_SECONDS
    return filled
