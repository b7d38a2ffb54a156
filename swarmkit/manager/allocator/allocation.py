"""What a service and a task get, as pure functions (contract/allocator-volumes.md, 4 to 6).

Host-mode ports are the service's own affair and are copied as they are. Everything else, ports of the routing
mesh and networks, has to be allocated; there is no provider of networks, so a service that needs any of it
stays unallocated, and its tasks stay NEW.
"""

from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp

from swarmkit.api import messages as api

#: The status message of a task that was passed on (contract/allocator-volumes.md, 1).
PENDING_TEXT = "pending task scheduling"
NO_NETWORKS_TEXT = "network support is unavailable"
NO_INGRESS_TEXT = "ingress network is missing"


@dataclass(frozen=True, slots=True)
class Blocked:
    """Something cannot be allocated now.

    Attributes:
        reason: the sentence for the log.
        service_id: the service whose change may let it be allocated; empty for none.
    """

    reason: str
    service_id: str


def allocate_service(service: api.Service) -> api.Endpoint | Blocked:
    """Return the endpoint a service is to have; if it has it already, it is allocated."""
    if service.spec.task.networks or service.spec.networks:
        return Blocked(NO_NETWORKS_TEXT, service.id)
    wanted = service.spec.endpoint
    if any(port.publish_mode == api.PortConfig.INGRESS for port in wanted.ports):
        return Blocked(NO_INGRESS_TEXT, service.id)
    endpoint = api.Endpoint(ports=wanted.ports)
    if service.spec.HasField("endpoint"):
        endpoint.spec.CopyFrom(wanted)
    return endpoint


def allocate_if_free(service: api.Service) -> None:
    """Give a service its endpoint in place, if that takes nothing that has to be allocated.

    So most services are stored complete: one log entry and one event instead of two. Those that wait for
    something are left to the allocator.
    """
    endpoint = allocate_service(service)
    if not isinstance(endpoint, Blocked):
        service.endpoint.CopyFrom(endpoint)


def is_allocated(service: api.Service) -> bool:
    """Tell whether a service has the endpoint that its spec asks for."""
    return service.HasField("endpoint") and allocate_service(service) == service.endpoint


def allocate_task(
    task: api.Task, service: api.Service | None, moment: Timestamp
) -> api.Task | Blocked | None:
    """Return a task as it is passed on to the scheduler, what it waits for, or None if nothing is to be done.

    Args:
        task: the task.
        service: its service as stored; None if it has none or that is gone.
        moment: when this happens.
    """
    if task.status.state != api.TaskState.NEW:
        return None
    if task.service_id and service is None:
        return Blocked("service of the task is missing", "")
    if task.networks or task.spec.networks:
        return Blocked(NO_NETWORKS_TEXT, task.service_id)
    if service is not None and not is_allocated(service):
        wanted = allocate_service(service)
        reason = wanted.reason if isinstance(wanted, Blocked) else "service is not allocated yet"
        return Blocked(reason, service.id)
    passed = api.Task()
    passed.CopyFrom(task)
    if service is not None:
        passed.endpoint.CopyFrom(service.endpoint)
    passed.status.state = api.TaskState.PENDING
    passed.status.message = PENDING_TEXT
    passed.status.timestamp.CopyFrom(moment)
    return passed
