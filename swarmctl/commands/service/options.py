"""The flags that ``service create`` and ``service update`` share."""

from collections.abc import Callable
from typing import Any

import click

from swarmctl.base import Parsed
from swarmctl.flags import values
from swarmctl.flags.service import ORDERS, RESTART_CONDITIONS, UPDATE_FAILURE_ACTIONS

DURATION = Parsed(values.duration_ns, "duration")
MEMORY = Parsed(values.memory, "memory")
CPUS = Parsed(values.nano_cpus, "cpus")
COUNT = Parsed(values.unsigned, "number")
Command = Callable[..., Any]


def option(*names: str, **attributes: Any) -> Callable[[Command], Command]:
    """Return an option that is None when it was not given."""
    attributes.setdefault("default", None)
    return click.option(*names, **attributes)


def listing(name: str, text: str, metavar: str) -> Callable[[Command], Command]:
    """Return a repeatable option whose words may also be separated by commas."""
    return click.option(name, multiple=True, metavar=metavar, help=f"{text} (repeatable, or a,b).")


_SHARED: list[Callable[[Command], Command]] = [
    option("--name", help="Name of the service."),
    listing("--label", "Labels; replace all there are", "KEY=VALUE"),
    option("--instances", type=COUNT, help="Number of tasks to keep running."),
    option("--replicas", type=COUNT, help="The newer name of --instances."),
    option("--replicas-max-per-node", type=COUNT, help="Most tasks on one node; 0 is no limit."),
    option("--image", help="Image of the container."),
    listing("--args", "Arguments", "WORD"),
    listing("--command", "Command in place of the image's", "WORD"),
    listing("--env", "Environment", "NAME[=VALUE]"),
    option("--hostname", help="Host name of the container; templates are expanded."),
    option("--tty/--no-tty", help="Give the container a terminal."),
    option("--open-stdin/--no-open-stdin", help="Keep standard input open."),
    option("--init/--no-init", help="Run an init process in the container."),
    option(
        "--oom-score-adj", type=click.IntRange(-1000, 1000), help="Adjustment of the out-of-memory score."
    ),
    listing("--ports", "Ports, published on the node that runs the task", "NAME:TARGET[/PROTO][:PUBLISHED]"),
    option(
        "--memory-reservation", type=MEMORY, metavar="SIZE", help="Memory that must be free, such as 64m."
    ),
    option("--memory-limit", type=MEMORY, metavar="SIZE", help="Most memory, such as 512m."),
    option("--cpu-reservation", type=CPUS, metavar="CPUS", help="CPUs that must be free, such as 0.5."),
    option("--cpu-limit", type=CPUS, metavar="CPUS", help="Most CPUs, such as 1.5."),
    listing("--ulimit", "Process limits", "TYPE=SOFT[:HARD]"),
    option("--update-parallelism", type=COUNT, help="Tasks updated at once; 0 is all."),
    option(
        "--update-delay", type=DURATION, metavar="TIME", help="Pause after each updated task, such as 10s."
    ),
    option(
        "--update-on-failure", type=click.Choice(list(UPDATE_FAILURE_ACTIONS)), help="When an update fails."
    ),
    option("--update-order", type=click.Choice(list(ORDERS)), help="Whether the old task stops first."),
    option("--rollback-parallelism", type=COUNT, help="Tasks rolled back at once; 0 is all."),
    option("--rollback-delay", type=DURATION, metavar="TIME", help="Pause after each task rolled back."),
    option("--rollback-on-failure", type=click.Choice(["pause", "continue"]), help="When a rollback fails."),
    option("--rollback-order", type=click.Choice(list(ORDERS)), help="Whether the new task stops first."),
    option("--restart-condition", type=click.Choice(list(RESTART_CONDITIONS)), help="When tasks restart."),
    option("--restart-delay", type=DURATION, metavar="TIME", help="Pause before a restart, such as 5s."),
    option(
        "--restart-window", type=DURATION, metavar="TIME", help="Window for the attempts; 0s is unbounded."
    ),
    option("--restart-max-attempts", type=COUNT, help="Most restarts of a task; 0 is no limit."),
    listing("--constraint", "Which nodes may run it, such as 'node.labels.disk == ssd'", "EXPR"),
    listing("--bind", "Host folders to mount", "SOURCE:TARGET"),
    listing("--volume", "Anonymous volumes to mount", "TARGET"),
    listing("--tmpfs", "Memory file systems to mount", "TARGET[:OPTION,...]"),
    option("--log-driver", help="Log driver of the container."),
    listing("--log-opt", "Options of the log driver", "KEY=VALUE"),
    click.option("--wait", is_flag=True, help="Wait until the service has converged, showing the progress."),
    option(
        "--wait-timeout", type=DURATION, metavar="TIME", help="Longest wait with --wait  [default: no limit]."
    ),
]


def service_options(function: Command) -> Command:
    """Add the shared flags to a command."""
    for decorate in reversed(_SHARED):
        function = decorate(function)
    return function
