"""Flags onto a service spec; pure (contract/cli.md, 7). A flag that was not given leaves its field alone."""

from collections.abc import Mapping
from typing import Any

from swarmctl.flags import specs, values
from swarmkit.api import messages as api

RESTART_CONDITIONS = {
    "any": api.RestartPolicy.ANY,
    "failure": api.RestartPolicy.ON_FAILURE,
    "none": api.RestartPolicy.NONE,
}
UPDATE_FAILURE_ACTIONS = {
    "pause": api.UpdateConfig.PAUSE,
    "continue": api.UpdateConfig.CONTINUE,
    "rollback": api.UpdateConfig.ROLLBACK,
}
ORDERS = {"stop-first": api.UpdateConfig.STOP_FIRST, "start-first": api.UpdateConfig.START_FIRST}

Flags = Mapping[str, Any]


class FlagError(ValueError):
    """Flags that do not go together, or a value that is wrong; the text says which."""


def new_spec(flags: Flags) -> api.ServiceSpec:
    """Return the spec of a new service.

    Raises:
        FlagError: flags that do not go together.
    """
    if not flags.get("name") or not flags.get("image"):
        raise FlagError("--name and --image are mandatory")
    spec = api.ServiceSpec()
    spec.task.container.SetInParent()
    if flags.get("mode") == "global":
        getattr(spec, "global").SetInParent()
    else:
        spec.replicated.replicas = 1
    return merge(spec, flags)


def merge(stored: api.ServiceSpec, flags: Flags) -> api.ServiceSpec:
    """Return a copy of a spec with the given flags applied; ``flags`` maps names to values, None = not given.

    Raises:
        FlagError: flags that do not go together, or a value that is wrong.
    """
    spec = api.ServiceSpec()
    spec.CopyFrom(stored)
    given = {name: value for name, value in flags.items() if value not in (None, ())}
    try:
        _annotations(spec, given)
        _replicas(spec, given)
        _container(spec.task.container, given)
        _mounts(spec.task.container, given)
        _capabilities(spec.task.container, given)
        _resources(spec.task, given)
        _placement(spec.task, given)
        _restart(spec.task, given)
        _updates(spec, given)
        _ports(spec, given)
        _logging(spec.task, given)
    except FlagError:
        raise
    except ValueError as error:
        raise FlagError(str(error)) from error
    if given.get("force"):
        spec.task.force_update += 1
    return spec


def _annotations(spec: api.ServiceSpec, given: Flags) -> None:
    if "name" in given:
        spec.annotations.name = given["name"]
    if "label" in given:
        spec.annotations.labels.clear()
        spec.annotations.labels.update(values.mapping(values.words(given["label"])))


def _replicas(spec: api.ServiceSpec, given: Flags) -> None:
    counts = {given[name] for name in ("instances", "replicas") if name in given}
    if len(counts) > 1:
        raise FlagError("--instances and --replicas mean the same: give one of them")
    if counts:
        if not spec.HasField("replicated"):
            raise FlagError("--instances can only be specified in --mode replicated")
        spec.replicated.replicas = counts.pop()
    if "replicas_max_per_node" in given:
        if not spec.HasField("replicated"):
            raise FlagError("--replicas-max-per-node can only be specified in --mode replicated")
        spec.task.placement.max_replicas = given["replicas_max_per_node"]


def _container(container: api.ContainerSpec, given: Flags) -> None:
    for name in ("image", "hostname", "tty", "open_stdin", "oom_score_adj"):
        if name in given:
            setattr(container, name, given[name])
    for name in ("args", "command", "env"):
        if name in given:
            field = getattr(container, name)
            del field[:]
            field.extend(values.words(given[name]))
    if "init" in given:
        container.init.value = given["init"]
    if "ulimit" in given:
        del container.ulimits[:]
        container.ulimits.extend(specs.ulimit(word) for word in values.words(given["ulimit"]))


def _mounts(container: api.ContainerSpec, given: Flags) -> None:
    for name, parse in (("bind", specs.bind), ("volume", specs.volume), ("tmpfs", specs.tmpfs)):
        container.mounts.extend(parse(word) for word in values.words(given.get(name, ())))


def _capabilities(container: api.ContainerSpec, given: Flags) -> None:
    for name, into, out_of in (
        ("add_capability", container.capability_add, container.capability_drop),
        ("rm_capability", container.capability_drop, container.capability_add),
    ):
        for capability in values.words(given.get(name, ())):
            if capability in out_of:
                out_of.remove(capability)
            if capability not in into:
                into.append(capability)


def _resources(task: api.TaskSpec, given: Flags) -> None:
    for name, side in (("reservation", "reservations"), ("limit", "limits")):
        if f"memory_{name}" in given:
            getattr(task.resources, side).memory_bytes = given[f"memory_{name}"]
        if f"cpu_{name}" in given:
            getattr(task.resources, side).nano_cpus = given[f"cpu_{name}"]


def _placement(task: api.TaskSpec, given: Flags) -> None:
    if "constraint" in given:
        del task.placement.constraints[:]
        task.placement.constraints.extend(values.words(given["constraint"]))


def _restart(task: api.TaskSpec, given: Flags) -> None:
    names = ("restart_condition", "restart_delay", "restart_window", "restart_max_attempts")
    if not any(name in given for name in names):
        return
    if not task.HasField("restart"):
        # A policy that is present and leaves its condition unset would mean "never".
        task.restart.condition = api.RestartPolicy.ANY
    if "restart_condition" in given:
        task.restart.condition = RESTART_CONDITIONS[given["restart_condition"]]
    if "restart_delay" in given:
        task.restart.delay.FromNanoseconds(given["restart_delay"])
    if "restart_window" in given:
        task.restart.window.FromNanoseconds(given["restart_window"])
    if "restart_max_attempts" in given:
        task.restart.max_attempts = given["restart_max_attempts"]


def _updates(spec: api.ServiceSpec, given: Flags) -> None:
    for prefix in ("update", "rollback"):
        config = getattr(spec, prefix)
        if f"{prefix}_parallelism" in given:
            config.parallelism = given[f"{prefix}_parallelism"]
        if f"{prefix}_delay" in given:
            config.delay.FromNanoseconds(given[f"{prefix}_delay"])
        if f"{prefix}_on_failure" in given:
            config.failure_action = UPDATE_FAILURE_ACTIONS[given[f"{prefix}_on_failure"]]
        if f"{prefix}_order" in given:
            config.order = ORDERS[given[f"{prefix}_order"]]
        if any(name.startswith(f"{prefix}_") for name in given):
            # Zero values alone would leave the message absent, which means the defaults.
            config.SetInParent()


def _ports(spec: api.ServiceSpec, given: Flags) -> None:
    if "ports" in given:
        del spec.endpoint.ports[:]
        spec.endpoint.ports.extend(specs.port(word) for word in values.words(given["ports"]))


def _logging(task: api.TaskSpec, given: Flags) -> None:
    driver, options = given.get("log_driver"), given.get("log_opt")
    if driver is None and options is None:
        return
    if driver is None and not task.HasField("log_driver"):
        raise FlagError("--log-opt needs --log-driver: the service has no log driver of its own")
    if driver is not None and driver != task.log_driver.name:
        task.log_driver.Clear()
        task.log_driver.name = driver
    for word in values.words(options or ()):
        key, _, value = word.partition("=")
        task.log_driver.options[key] = value
