"""A task as an engine's create request, and an engine's answers as task status; pure.

Source: contract/executor.md, 2 to 5, 10 and 11.
"""

import math
from typing import Any

from swarmkit.agent.exec import ExecutorError
from swarmkit.api import messages as api
from swarmkit.api.naming import task_name
from swarmkit.executors.docker.mounts import engine_mounts

Json = dict[str, Any]

LABEL = "com.docker.swarm"
TASK_ID_LABEL = f"{LABEL}.task.id"
NODE_ID_LABEL = f"{LABEL}.node.id"
DEFAULT_GRACE_SECONDS = 10
CPU_PERIOD_US = 100_000
_ISOLATION = {
    api.ContainerSpec.ISOLATION_DEFAULT: "default",
    api.ContainerSpec.ISOLATION_PROCESS: "process",
    api.ContainerSpec.ISOLATION_HYPERV: "hyperv",
}


class UnsupportedTaskError(ExecutorError):
    """A task this executor cannot run; it is rejected with the text."""


def check_supported(task: api.Task) -> None:
    """Refuse at once what would otherwise run without something it was promised.

    Raises:
        UnsupportedTaskError: with the sentence the task is rejected with.
    """
    if task.spec.WhichOneof("runtime") != "container":
        raise UnsupportedTaskError("exec: unsupported runtime")
    spec = task.spec.container
    if not spec.image:
        raise UnsupportedTaskError("dockerexec: image required")
    if spec.secrets or spec.configs:
        raise UnsupportedTaskError("dockerexec: this node cannot give secrets or configs to containers")
    if task.networks:
        raise UnsupportedTaskError("dockerexec: this node cannot attach containers to swarm networks")
    if spec.privileges.credential_spec.config:
        raise UnsupportedTaskError("dockerexec: this node cannot take a credential spec from a config")
    if spec.isolation not in _ISOLATION:
        raise UnsupportedTaskError(f"dockerexec: this node does not know isolation {spec.isolation}")


def labels(task: api.Task) -> dict[str, str]:
    """Merge spec labels, task labels and the system's own, later ones winning."""
    merged = {**task.spec.container.labels, **task.annotations.labels}
    return {
        **merged,
        f"{LABEL}.task": "",
        TASK_ID_LABEL: task.id,
        f"{LABEL}.task.name": task_name(task),
        NODE_ID_LABEL: task.node_id,
        f"{LABEL}.service.id": task.service_id,
        f"{LABEL}.service.name": task.service_annotations.name,
    }


def generic_resource_env(task: api.Task) -> list[str]:
    """Return ``DOCKER_RESOURCE_KIND=v1,v2`` for each generic resource kind of the task, sorted by kind."""
    values: dict[str, list[str]] = {}
    for resource in task.assigned_generic_resources:
        if resource.WhichOneof("resource") == "named_resource_spec":
            named = resource.named_resource_spec
            values.setdefault(named.kind, []).append(named.value)
        else:
            counted = resource.discrete_resource_spec
            values.setdefault(counted.kind, []).append(str(counted.value))
    return [f"DOCKER_RESOURCE_{kind.upper()}={','.join(values[kind])}" for kind in sorted(values)]


def grace_seconds(spec: api.ContainerSpec) -> int:
    """Return the stop grace period in whole seconds, rounded up; 10 if unset."""
    if not spec.HasField("stop_grace_period"):
        return DEFAULT_GRACE_SECONDS
    period = spec.stop_grace_period
    return math.ceil(period.seconds + period.nanos / 1e9)


def _nanoseconds(spec: api.HealthConfig, name: str) -> int:
    period = getattr(spec, name)
    return int(period.seconds) * 1_000_000_000 + int(period.nanos)


def health_config(spec: api.HealthConfig) -> Json:
    """Return the engine's health check; durations in nanoseconds, 0 = inherit."""
    return {
        "Test": list(spec.test) or None,
        "Interval": _nanoseconds(spec, "interval"),
        "Timeout": _nanoseconds(spec, "timeout"),
        "StartPeriod": _nanoseconds(spec, "start_period"),
        "StartInterval": _nanoseconds(spec, "start_interval"),
        "Retries": spec.retries,
    }


def host_ports(task: api.Task) -> tuple[Json, Json]:
    """Return exposed ports and port bindings of the host-mode ports; an engine accepts several per target."""
    exposed: Json = {}
    bindings: dict[str, list[Json]] = {}
    for port in task.endpoint.ports:
        if port.publish_mode != api.PortConfig.HOST:
            continue
        key = f"{port.target_port}/{api.PortConfig.Protocol.Name(port.protocol).lower()}"
        exposed[key] = {}
        bindings.setdefault(key, []).append({"HostPort": str(port.published_port or "")})
    return exposed, dict(bindings)


def extra_hosts(entries: list[str]) -> list[str]:
    """Turn ``IP name [alias…]`` into ``name:IP``; aliases and entries with one field are dropped."""
    split = [entry.split() for entry in entries]
    return [f"{fields[1]}:{fields[0]}" for fields in split if len(fields) >= 2]


def security_options(privileges: api.Privileges) -> list[str]:
    """Return the engine's security options."""
    options = []
    credentials = privileges.credential_spec
    if credentials.file:
        options.append(f"credentialspec=file://{credentials.file}")
    if credentials.registry:
        options.append(f"credentialspec=registry://{credentials.registry}")
    selinux = privileges.selinux_context
    if privileges.HasField("selinux_context"):
        if selinux.disable:
            options.append("label=disable")
        keys = ("user", "role", "type", "level")
        options += [f"label={key}:{getattr(selinux, key)}" for key in keys if getattr(selinux, key)]
    if privileges.seccomp.mode == api.Privileges.SeccompOpts.UNCONFINED:
        options.append("seccomp=unconfined")
    elif privileges.seccomp.mode == api.Privileges.SeccompOpts.CUSTOM:
        options.append(f"seccomp={privileges.seccomp.profile.decode(errors='replace')}")
    if privileges.apparmor.mode == api.Privileges.AppArmorOpts.DISABLED:
        options.append("apparmor=unconfined")
    if privileges.no_new_privileges:
        options.append("no-new-privileges")
    return options


def _resources(task: api.Task) -> Json:
    wanted = task.spec.resources
    host: Json = {}
    memory = wanted.limits.memory_bytes
    if memory > 0:
        host["Memory"] = memory
    if wanted.limits.nano_cpus > 0:
        host["CpuPeriod"] = CPU_PERIOD_US
        host["CpuQuota"] = wanted.limits.nano_cpus * CPU_PERIOD_US // 1_000_000_000
    if wanted.HasField("swap_bytes"):
        swap = wanted.swap_bytes.value
        host["MemorySwap"] = -1 if swap < 0 else memory + swap
    if wanted.HasField("memory_swappiness"):
        host["MemorySwappiness"] = wanted.memory_swappiness.value
    return host


def _host_config(task: api.Task, spec: api.ContainerSpec, version: str) -> Json:
    mounts, tmpfs = engine_mounts(list(spec.mounts), version)
    host: Json = {
        **_resources(task),
        "PortBindings": host_ports(task)[1],
        "GroupAdd": list(spec.groups),
        "CapAdd": list(spec.capability_add),
        "CapDrop": list(spec.capability_drop),
        "ExtraHosts": extra_hosts(list(spec.hosts)),
        "Ulimits": [{"Name": u.name, "Soft": u.soft, "Hard": u.hard} for u in spec.ulimits],
        "Dns": list(spec.dns_config.nameservers),
        "DnsSearch": list(spec.dns_config.search),
        "DnsOptions": list(spec.dns_config.options),
        "Sysctls": dict(spec.sysctls),
        "SecurityOpt": security_options(spec.privileges),
        "Mounts": mounts,
        "Tmpfs": tmpfs,
        "Isolation": _ISOLATION[spec.isolation],
        "RestartPolicy": {"Name": "no"},
    }
    if spec.HasField("init"):
        host["Init"] = spec.init.value
    if spec.read_only:
        host["ReadonlyRootfs"] = True
    if spec.pidsLimit > 0:
        host["PidsLimit"] = spec.pidsLimit
    if spec.oom_score_adj:
        host["OomScoreAdj"] = spec.oom_score_adj
    if task.HasField("log_driver"):
        host["LogConfig"] = {"Type": task.log_driver.name, "Config": dict(task.log_driver.options)}
    return {key: value for key, value in host.items() if value not in ([], {})}


def create_request(task: api.Task, spec: api.ContainerSpec, version: str) -> Json:
    """Return the body of the engine's create call.

    Args:
        task: the task as assigned.
        spec: its container spec with the templates expanded.
        version: the engine's API version.

    Raises:
        MountError: a mount that cannot be made here.
    """
    config: Json = {
        "Image": spec.image,
        "Labels": labels(task),
        "Env": [*spec.env, *generic_resource_env(task)],
        "Tty": spec.tty,
        "OpenStdin": spec.open_stdin,
        "HostConfig": _host_config(task, spec, version),
    }
    optional = {
        "Entrypoint": list(spec.command),
        "Cmd": list(spec.args),
        "WorkingDir": spec.dir,
        "User": spec.user,
        "Hostname": spec.hostname,
        "StopSignal": spec.stop_signal,
        "ExposedPorts": host_ports(task)[0],
    }
    config.update({key: value for key, value in optional.items() if value})
    if spec.HasField("healthcheck"):
        config["Healthcheck"] = health_config(spec.healthcheck)
    return config


def container_status(inspected: Json) -> api.ContainerStatus:
    """Return id, process id (0 when stopped) and exit code of an inspected container."""
    state = inspected["State"]
    return api.ContainerStatus(
        container_id=inspected["Id"], pid=state.get("Pid") or 0, exit_code=state.get("ExitCode") or 0
    )


def port_status(inspected: Json) -> api.PortStatus | None:
    """Return every binding in effect once: engines report each for 0.0.0.0 and for ``::``.

    A port that the engine chose may differ between the two families; the one of IPv4 is told.
    """
    ports = inspected.get("NetworkSettings", {}).get("Ports") or {}
    found = set()
    for key, bindings in ports.items():
        target, _, protocol = key.partition("/")
        reported = bindings or []
        of_ipv4 = [binding for binding in reported if ":" not in binding.get("HostIp", "")]
        for binding in of_ipv4 or reported:
            found.add((int(target), protocol.upper() or "TCP", int(binding["HostPort"])))
    if not found:
        return None
    return api.PortStatus(
        ports=[
            api.PortConfig(
                protocol=api.PortConfig.Protocol.Value(protocol),
                target_port=target,
                published_port=published,
                publish_mode=api.PortConfig.HOST,
            )
            for target, protocol, published in sorted(found)
        ]
    )


def has_health_check(inspected: Json) -> bool:
    """Tell whether the container (its image's check included) is checked for health."""
    test = (inspected.get("Config", {}).get("Healthcheck") or {}).get("Test") or []
    return bool(test) and test[0] != "NONE"


def health(inspected: Json) -> str:
    """Return ``starting``, ``healthy`` or ``unhealthy``; empty if there is no check."""
    return str((inspected["State"].get("Health") or {}).get("Status", ""))
