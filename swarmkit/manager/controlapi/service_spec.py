"""Service specs, whatever the state of the swarm (contract/control-api.md, 4, checks 1 to 12). Pure."""

from swarmkit.api import messages as api
from swarmkit.manager.controlapi.errors import InvalidError, UnsupportedError, invalid_argument
from swarmkit.manager.controlapi.names import check_service_name
from swarmkit.manager.controlapi.task_spec import check_task_spec
from swarmkit.manager.tasks import nanoseconds

#: Counts are signed where they are used.
_MAX_COUNT = (1 << 63) - 1

JOB_MODES = ("replicated_job", "global_job")


def check_service_spec(request: "api.CreateServiceRequest | api.UpdateServiceRequest") -> api.ServiceSpec:
    """Return the spec of a request, which is valid as far as that can be told from itself.

    Raises:
        InvalidError: the first rule that is broken.
        UnsupportedError: it asks for what this manager does not serve.
    """
    if not request.HasField("spec"):
        raise invalid_argument()
    spec = request.spec
    check_service_name(spec.annotations.name)
    check_task_spec(spec.task, dict(spec.annotations.labels))
    _check_mode(spec)
    _check_update(spec)
    _check_endpoint(spec.endpoint)
    _check_supported(spec)
    return spec


def _check_mode(spec: api.ServiceSpec) -> None:
    mode = spec.WhichOneof("mode")
    if mode is None:
        raise InvalidError("Unrecognized service mode")
    if spec.replicated.replicas > _MAX_COUNT:
        raise InvalidError("Number of replicas must be non-negative")
    if spec.replicated_job.max_concurrent > _MAX_COUNT:
        raise InvalidError("Maximum concurrent jobs must not be negative")
    if spec.replicated_job.total_completions > _MAX_COUNT:
        raise InvalidError("Total completed jobs must not be negative")


def _check_update(spec: api.ServiceSpec) -> None:
    if spec.WhichOneof("mode") in JOB_MODES:
        if spec.HasField("update"):
            raise InvalidError("Jobs may not have an update config")
        return
    # The original forgets the rollback config.
    for name, config in (("update", spec.update), ("rollback", spec.rollback)):
        if nanoseconds(config.delay) < 0:
            raise InvalidError(f"TaskSpec: {name}-delay cannot be negative")
        if nanoseconds(config.monitor) < 0:
            raise InvalidError(f"TaskSpec: {name}-monitor cannot be negative")
        if not 0 <= config.max_failure_ratio <= 1:
            raise InvalidError(f"TaskSpec: {name}-maxfailureratio cannot be less than 0 or bigger than 1")


def _check_endpoint(endpoint: api.EndpointSpec) -> None:
    published = set()
    for port in endpoint.ports:
        if endpoint.mode == api.EndpointSpec.DNSRR and port.publish_mode == api.PortConfig.INGRESS:
            raise InvalidError("EndpointSpec: port published with ingress mode can't be used with dnsrr mode")
        key = (port.protocol, port.published_port)
        if port.published_port and key in published:
            raise InvalidError("EndpointSpec: duplicate published ports provided")
        published.add(key)


def _check_supported(spec: api.ServiceSpec) -> None:
    if spec.WhichOneof("mode") in JOB_MODES:
        raise UnsupportedError("this manager does not run jobs: use a replicated or a global service")
    if any(mount.type == api.Mount.CLUSTER for mount in spec.task.container.mounts):
        raise UnsupportedError(
            "this manager does not serve cluster volumes: use a bind, volume or tmpfs mount"
        )
