"""Validation of task specs, whatever the state of the swarm (contract/control-api.md, 4, checks 3 to 9)."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from google.protobuf.duration_pb2 import Duration

from swarmkit.api import messages as api
from swarmkit.api.expansion import expand_container
from swarmkit.api.template import Context, TemplateError
from swarmkit.manager import constraint
from swarmkit.manager.controlapi.errors import InvalidError, UnsupportedError
from swarmkit.manager.controlapi.image import is_image_reference
from swarmkit.manager.tasks import nanoseconds

_MIN_NANO_CPUS = 1_000_000
_MIN_MEMORY_BYTES = 4 << 20
_MIN_HEALTH_NANOSECONDS = 1_000_000
_MIN_GENERIC_KIND = 3
_RESERVED_KINDS = ("container", "attachment")

#: What templates are tried with, besides the labels of the service itself.
_SAMPLE = Context(
    service_id="serviceID",
    service_name="servicename",
    node_id="nodeID",
    node_hostname="nodeHostname",
    node_architecture="x86_64",
    node_os="linux",
    task_id="taskID",
    task_name="servicename.1.taskID",
    task_slot="1",
)


def check_task_spec(spec: api.TaskSpec, labels: dict[str, str]) -> None:
    """Check resources, restart policy, constraints, references and runtime.

    Args:
        spec: of a service.
        labels: of the service; templates may ask for them.

    Raises:
        InvalidError: the first rule that is broken.
        UnsupportedError: the runtime cannot be asked for.
    """
    for resources in (spec.resources.limits, spec.resources.reservations):
        _check_resources(resources)
    if spec.HasField("restart"):
        _check_not_negative(spec.restart.delay, "restart-delay")
        _check_not_negative(spec.restart.window, "restart-window")
    try:
        constraint.parse(spec.placement.constraints)
    except constraint.ConstraintError as error:
        raise InvalidError(str(error)) from error
    container = spec.container
    _check_references("secret", container.secrets)
    _check_references("config", container.configs)
    _check_credential_spec(container)
    match spec.WhichOneof("runtime"):
        case None:
            raise InvalidError("TaskSpec: missing runtime")
        case "attachment":
            raise UnsupportedError("RuntimeSpec: unimplemented runtime in service spec")
        case "generic":
            _check_generic(spec.generic)
        case "container":
            _check_container(container, labels)


def _check_not_negative(duration: Duration, what: str) -> None:
    if nanoseconds(duration) < 0:
        raise InvalidError(f"TaskSpec: {what} cannot be negative")


def _check_resources(resources: api.Resources) -> None:
    if resources.nano_cpus and resources.nano_cpus < _MIN_NANO_CPUS:
        raise InvalidError(f"invalid cpu value {resources.nano_cpus / 1e9:g}: Must be at least 0.001")
    if resources.memory_bytes and resources.memory_bytes < _MIN_MEMORY_BYTES:
        raise InvalidError(f"invalid memory value {resources.memory_bytes}: Must be at least 4MiB")
    for generic in resources.generic:
        # The original finds this error and throws it away.
        if generic.WhichOneof("resource") == "named_resource_spec":
            kind = generic.named_resource_spec.kind
            raise InvalidError(f"invalid generic resource {kind}: only an amount of it can be asked for")


def _check_references(kind: str, references: Iterable[Any]) -> None:
    """Check secret or config references, which have the same shape."""
    owners: dict[str, str] = {}
    for reference in references:
        id = getattr(reference, f"{kind}_id")
        name = getattr(reference, f"{kind}_name")
        if not id or not name:
            raise InvalidError(f"malformed {kind} reference")
        target = reference.WhichOneof("target")
        if target is None:
            raise InvalidError(f"malformed {kind} reference, no target provided")
        if target != "file":
            continue
        file = reference.file.name
        if not file:
            raise InvalidError(f"malformed file {kind} reference, invalid target file name provided")
        if file in owners:
            raise InvalidError(
                f"{kind} references '{owners[file]}' and '{name}' have a conflicting target: '{file}'"
            )
        owners[file] = name


def _check_credential_spec(container: api.ContainerSpec) -> None:
    wanted = container.privileges.credential_spec.config
    if wanted and not any(
        reference.config_id == wanted and reference.HasField("runtime") for reference in container.configs
    ):
        raise InvalidError(
            f"CredentialSpec references config '{wanted}', but that config isn't in config references with"
            " RuntimeTarget"
        )


def _check_generic(generic: api.GenericRuntimeSpec) -> None:
    if len(generic.kind) < _MIN_GENERIC_KIND:
        raise InvalidError(f'Generic runtime: Invalid name "{generic.kind}"')
    if generic.kind.lower() in _RESERVED_KINDS:
        raise InvalidError(f"Generic runtime: {generic.kind} is a reserved name")
    if not generic.HasField("payload"):
        raise InvalidError("Generic runtime is missing payload")
    if not generic.payload.type_url:
        raise InvalidError("Generic runtime is missing payload type")
    if not generic.payload.value:
        raise InvalidError("Generic runtime has an empty payload")


def _check_container(container: api.ContainerSpec, labels: dict[str, str]) -> None:
    # Most specs hold no template at all, and parsing is the dearest of all checks.
    if b"{{" in container.SerializeToString():
        try:
            expand_container(container, dataclasses.replace(_SAMPLE, service_labels=labels))
        except TemplateError as error:
            raise InvalidError(str(error)) from error
    if not container.image:
        raise InvalidError("ContainerSpec: image reference must be provided")
    if not is_image_reference(container.image):
        raise InvalidError(f'ContainerSpec: "{container.image}" is not a valid repository/tag')
    _check_mounts(container.mounts)
    if container.HasField("healthcheck"):
        _check_health(container.healthcheck)


def _check_mounts(mounts: Sequence[api.Mount]) -> None:
    targets = set()
    for mount in mounts:
        if mount.target in targets:
            raise InvalidError(f"ContainerSpec: duplicate mount point: {mount.target}")
        targets.add(mount.target)


def _check_health(health: api.HealthConfig) -> None:
    for name, duration in (
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ):
        value = nanoseconds(duration)
        if value and value < _MIN_HEALTH_NANOSECONDS:
            raise InvalidError(f"ContainerSpec: {name} in HealthConfig cannot be less than 1ms")
    if health.retries < 0:
        raise InvalidError("ContainerSpec: Retries in HealthConfig cannot be negative")
