"""What the process executor makes of a task: pure, from the container spec to arguments of a process.

Honoured: command, args, env with its templates, dir, user, groups, stop signal, stop grace period, generic
resources (in the environment). Refused, since leaving them out would change what the program sees: secrets,
configs, mounts. Not applied, since there is no container: image, hostname, networks and ports (the process
has the machine's own), resource limits, capabilities, health check, and everything else.
"""

import signal
from collections.abc import Iterable
from dataclasses import dataclass

from swarmkit.agent.exec import ExecutorError
from swarmkit.api import messages as api

#: Seconds between the stop signal and the kill, if the spec names none (contract/executor.md, 11).
DEFAULT_GRACE = 10.0
#: The environment every process starts from; nothing of the daemon's own is passed on.
BASE_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/",
}


class UnsupportedError(ExecutorError):
    """The task asks for what a local process cannot have."""


@dataclass(frozen=True)
class ProcessSpec:
    """What to run.

    Attributes:
        argv: program and arguments; empty for a task without a command, which idles.
        env: the whole environment.
        directory: working directory; empty for one of the process's own.
        user: ``user[:group]``, by name or number; empty for the daemon's own.
        groups: supplementary groups, by name or number.
        stop_signal: sent first to stop it.
        grace: seconds from then to the kill.
    """

    argv: tuple[str, ...]
    env: dict[str, str]
    directory: str
    user: str
    groups: tuple[str, ...]
    stop_signal: signal.Signals
    grace: float


def read_spec(task: api.Task) -> ProcessSpec:
    """Read a task.

    Raises:
        UnsupportedError: the task cannot run as a local process; the text says what it asks for.
    """
    if task.spec.WhichOneof("runtime") != "container":
        raise UnsupportedError("exec: unsupported runtime")
    container = task.spec.container
    for what, present in (
        ("secrets", container.secrets),
        ("configs", container.configs),
        ("mounts", container.mounts),
    ):
        if present:
            raise UnsupportedError(
                f"the process executor cannot give {what} to a task; use the docker executor"
            )
    argv = (*container.command, *container.args)
    env = environment(container.env, task.assigned_generic_resources)
    texts = (*argv, *env, *env.values(), container.dir, container.user, *container.groups)
    if any("\0" in text for text in texts):
        raise UnsupportedError("command, environment, directory and user must not contain NUL characters")
    grace = DEFAULT_GRACE
    if container.HasField("stop_grace_period"):
        grace = max(container.stop_grace_period.ToTimedelta().total_seconds(), 0.0)
    return ProcessSpec(
        argv=argv,
        env=env,
        directory=container.dir,
        user=container.user,
        groups=tuple(container.groups),
        stop_signal=read_signal(container.stop_signal),
        grace=grace,
    )


def environment(entries: Iterable[str], resources: Iterable[api.GenericResource]) -> dict[str, str]:
    """Build the environment: the base, then the spec's entries, then the generic resources by kind.

    An entry without ``=`` takes the variable away.
    """
    result = dict(BASE_ENVIRONMENT)
    for entry in entries:
        name, equals, value = entry.partition("=")
        if not name:
            raise UnsupportedError(f"invalid environment variable {entry!r}: it has no name")
        if equals:
            result[name] = value
        else:
            result.pop(name, None)
    kinds: dict[str, list[str]] = {}
    for resource in resources:
        if resource.WhichOneof("resource") == "named_resource_spec":
            named = resource.named_resource_spec
            kinds.setdefault(named.kind, []).append(named.value)
        else:
            discrete = resource.discrete_resource_spec
            kinds.setdefault(discrete.kind, []).append(str(discrete.value))
    for kind in sorted(kinds):
        result[f"DOCKER_RESOURCE_{kind}".upper()] = ",".join(kinds[kind])
    return result


def read_signal(text: str) -> signal.Signals:
    """Read a stop signal: a name with or without SIG, or a number; SIGTERM if empty.

    Raises:
        UnsupportedError: there is no such signal.
    """
    name = text.strip().upper()
    if not name:
        return signal.SIGTERM
    try:
        if name.isdecimal():
            return signal.Signals(int(name))
        return signal.Signals[name if name.startswith("SIG") else f"SIG{name}"]
    except (KeyError, ValueError):
        raise UnsupportedError(f"invalid stop signal: {text}") from None
