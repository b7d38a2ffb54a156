import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from swarmkit.api import messages as api
from swarmkit.manager.allocator.allocation import (
    NO_INGRESS_TEXT,
    NO_NETWORKS_TEXT,
    PENDING_TEXT,
    Blocked,
    allocate_service,
    allocate_task,
    is_allocated,
)

NOW = Timestamp(seconds=1_800_000_000)
HOST = api.PortConfig.HOST
INGRESS = api.PortConfig.INGRESS


def service(
    *ports: api.PortConfig, mode: api.EndpointSpec.ResolutionMode.ValueType | None = None
) -> api.Service:
    made = api.Service(id="s")
    if ports or mode is not None:
        made.spec.endpoint.ports.extend(ports)
        made.spec.endpoint.mode = mode or api.EndpointSpec.VIP
    return made


def port(published: int, mode: api.PortConfig.PublishMode.ValueType = HOST) -> api.PortConfig:
    return api.PortConfig(name="web", target_port=80, published_port=published, publish_mode=mode)


def allocated(of: api.Service) -> api.Service:
    endpoint = allocate_service(of)
    assert isinstance(endpoint, api.Endpoint)
    copy = api.Service()
    copy.CopyFrom(of)
    copy.endpoint.CopyFrom(endpoint)
    return copy


def test_host_mode_ports_are_copied_as_they_are_with_the_endpoint_spec() -> None:
    of = service(port(8080), port(0), mode=api.EndpointSpec.DNSRR)
    endpoint = allocate_service(of)
    assert endpoint == api.Endpoint(spec=of.spec.endpoint, ports=[port(8080), port(0)])


def test_a_service_without_an_endpoint_spec_gets_an_empty_endpoint() -> None:
    endpoint = allocate_service(service())
    assert endpoint == api.Endpoint()
    assert isinstance(endpoint, api.Endpoint)
    assert not endpoint.HasField("spec")


@pytest.mark.parametrize("ports", [[port(80, INGRESS)], [port(0, INGRESS)], [port(1), port(80, INGRESS)]])
def test_a_port_of_the_routing_mesh_waits_for_an_ingress_network(ports: list[api.PortConfig]) -> None:
    assert allocate_service(service(*ports)) == Blocked(NO_INGRESS_TEXT, "s")


@pytest.mark.parametrize("deprecated", [False, True])
def test_a_service_with_networks_is_blocked(deprecated: bool) -> None:
    of = service()
    (of.spec if deprecated else of.spec.task).networks.add(target="n")
    assert allocate_service(of) == Blocked(NO_NETWORKS_TEXT, "s")


def test_a_service_is_allocated_if_it_has_the_endpoint_its_spec_asks_for() -> None:
    of = service(port(8080))
    assert not is_allocated(of)
    done = allocated(of)
    assert is_allocated(done)
    done.spec.endpoint.ports[0].published_port = 9090
    assert not is_allocated(done)
    done.spec.endpoint.ports[0].publish_mode = INGRESS
    assert not is_allocated(done)


def new_task(state: api.TaskState.ValueType = api.TaskState.NEW, service_id: str = "s") -> api.Task:
    made = api.Task(id="t", service_id=service_id, desired_state=api.TaskState.RUNNING)
    made.status.state = state
    made.status.err = "kept"
    return made


def test_a_task_of_an_allocated_service_is_passed_on_with_its_endpoint() -> None:
    of = allocated(service(port(8080)))
    task = new_task()
    passed = allocate_task(task, of, NOW)
    assert isinstance(passed, api.Task)
    assert passed.status == api.TaskStatus(
        state=api.TaskState.PENDING, message=PENDING_TEXT, timestamp=NOW, err="kept"
    )
    assert passed.endpoint == of.endpoint
    assert task.status.state == api.TaskState.NEW, "a stored message is never changed"


def test_a_task_without_a_service_and_networks_is_passed_on() -> None:
    passed = allocate_task(new_task(service_id=""), None, NOW)
    assert isinstance(passed, api.Task)
    assert passed.status.state == api.TaskState.PENDING
    assert not passed.HasField("endpoint")


@pytest.mark.parametrize("state", [api.TaskState.PENDING, api.TaskState.RUNNING, api.TaskState.SHUTDOWN])
def test_a_task_that_is_past_new_is_left_alone(state: api.TaskState.ValueType) -> None:
    assert allocate_task(new_task(state), allocated(service()), NOW) is None


def test_a_task_waits_for_its_service() -> None:
    assert isinstance(allocate_task(new_task(), service(), NOW), Blocked)
    assert allocate_task(new_task(), None, NOW) == Blocked("service of the task is missing", "")
    assert allocate_task(new_task(), service(port(80, INGRESS)), NOW) == Blocked(NO_INGRESS_TEXT, "s")


def test_a_task_with_networks_of_its_own_waits() -> None:
    attached = new_task(service_id="")
    attached.spec.networks.add(target="n")
    assert allocate_task(attached, None, NOW) == Blocked(NO_NETWORKS_TEXT, "")
    attached = new_task()
    attached.networks.add()
    assert allocate_task(attached, allocated(service()), NOW) == Blocked(NO_NETWORKS_TEXT, "s")
