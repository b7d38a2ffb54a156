"""How simulated workloads behave: chosen per task, from its environment or by a policy of one's own."""

import random
from dataclasses import dataclass
from typing import Protocol

from swarmkit.agent.exec import ExecutorError
from swarmkit.api import messages as api


@dataclass(frozen=True)
class Behaviour:
    """What one workload does; durations in seconds.

    Attributes:
        prepare: how long preparing takes.
        start: how long starting takes.
        run: how long it runs before it ends by itself; None for ever.
        stop: how long it takes to stop when asked to.
        exit_code: its exit code when it ends by itself.
        fails_to_prepare: whether preparing ends with an error.
        fails_to_start: whether starting ends with an error.
    """

    prepare: float = 0.0
    start: float = 0.0
    run: float | None = None
    stop: float = 0.0
    exit_code: int = 0
    fails_to_prepare: bool = False
    fails_to_start: bool = False


class Policy(Protocol):
    """Chooses the behaviour of a task."""

    def behaviour(self, task: api.Task, source: random.Random) -> Behaviour:
        """Return the behaviour; ``source`` is seeded by the executor's seed and the task's id.

        Raises:
            ExecutorError: the task asks for something senseless; it ends REJECTED with this text.
        """
        ...


class EnvironmentPolicy:
    """Reads the behaviour from the task's environment variables.

    ``SIM_PREPARE``, ``SIM_START``, ``SIM_RUN`` and ``SIM_STOP`` are seconds, either one number or two joined
    by a dash, between which one is drawn evenly; ``SIM_EXIT_CODE`` is a number; ``SIM_FAIL_PREPARE`` and
    ``SIM_FAIL_START`` are probabilities. A task without them takes no time, never fails and runs for ever.
    """

    def behaviour(self, task: api.Task, source: random.Random) -> Behaviour:
        """Return the behaviour the environment asks for.

        Raises:
            ExecutorError: a variable cannot be read.
        """
        pairs = (entry.partition("=") for entry in task.spec.container.env)
        values = {name: value for name, _, value in pairs if name.startswith("SIM_")}
        default = Behaviour()
        return Behaviour(
            prepare=_seconds(values, "SIM_PREPARE", default.prepare, source),
            start=_seconds(values, "SIM_START", default.start, source),
            run=_seconds(values, "SIM_RUN", 0.0, source) if "SIM_RUN" in values else None,
            stop=_seconds(values, "SIM_STOP", default.stop, source),
            exit_code=int(_number(values, "SIM_EXIT_CODE", default.exit_code)),
            fails_to_prepare=source.random() < _number(values, "SIM_FAIL_PREPARE", 0.0),
            fails_to_start=source.random() < _number(values, "SIM_FAIL_START", 0.0),
        )


def _number(values: dict[str, str], name: str, default: float) -> float:
    return default if name not in values else _read(name, values[name])


def _seconds(values: dict[str, str], name: str, default: float, source: random.Random) -> float:
    if name not in values:
        return default
    low, dash, high = values[name].partition("-")
    return source.uniform(_read(name, low), _read(name, high)) if dash else _read(name, low)


def _read(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise ExecutorError(f"{name}: {text!r} is not a number of 0 or more")
    return number
