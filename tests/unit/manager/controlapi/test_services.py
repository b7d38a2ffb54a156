"""The RPCs of services (contract/control-api.md, 4)."""

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from swarmkit.api import messages as api
from tests.fakes.loop import EPOCH
from tests.unit.manager.controlapi.conftest import Control
from tests.unit.manager.controlapi.specs import (
    HOST,
    INGRESS,
    ingress_network,
    published,
    service_spec,
    with_ports,
)

Code = grpc.StatusCode


async def create(control: Control, spec: api.ServiceSpec | None = None) -> api.Service:
    response = await control.call("CreateService", api.CreateServiceRequest(spec=spec or service_spec()))
    service: api.Service = response.service
    return service


def update_of(
    service: api.Service, spec: api.ServiceSpec | None = None, **fields: Any
) -> api.UpdateServiceRequest:
    return api.UpdateServiceRequest(
        service_id=service.id, service_version=service.meta.version, spec=spec or service.spec, **fields
    )


async def update(control: Control, request: api.UpdateServiceRequest) -> api.Service:
    service: api.Service = (await control.call("UpdateService", request)).service
    return service


def edited(spec: api.ServiceSpec, image: str) -> api.ServiceSpec:
    copy = api.ServiceSpec()
    copy.CopyFrom(spec)
    copy.task.container.image = image
    return copy


async def test_create_stores_the_spec_as_given_under_a_new_id(control: Control) -> None:
    spec = service_spec()
    spec.task.container.hostname = "{{.Service.Name}}-{{.Task.Slot}}"
    service = await create(control, spec)
    assert service.id == "id0001"
    assert service.spec == spec
    assert service.HasField("spec_version")
    assert service.spec_version.index == 0
    assert control.store.view().get(api.Service, service.id) == service


async def test_a_name_is_taken_in_any_case(control: Control) -> None:
    await create(control, service_spec("web"))
    request = api.CreateServiceRequest(spec=service_spec("WEB"))
    text = "name conflicts with an existing object: service WEB already exists"
    await control.refused("CreateService", request, Code.ALREADY_EXISTS, text)


async def test_get_needs_an_id_that_exists(control: Control) -> None:
    await control.refused("GetService", api.GetServiceRequest(), Code.INVALID_ARGUMENT, "invalid argument")
    request = api.GetServiceRequest(service_id="x")
    await control.refused("GetService", request, Code.NOT_FOUND, "service x not found")


async def test_defaults_are_shown_and_not_stored(control: Control) -> None:
    service = await create(control)
    request = api.GetServiceRequest(service_id=service.id, insert_defaults=True)
    shown = (await control.call("GetService", request)).service
    assert shown.spec.task.restart.delay.seconds == 5
    plain = (await control.call("GetService", api.GetServiceRequest(service_id=service.id))).service
    assert plain.spec == service.spec
    assert not plain.spec.task.HasField("restart")


async def test_update_keeps_the_previous_spec_and_clears_the_status(control: Control) -> None:
    first = await create(control)
    running = api.Service()
    running.CopyFrom(first)
    running.update_status.state = api.UpdateStatus.UPDATING
    stored = await control.put(running)
    second = await update(control, update_of(stored, edited(first.spec, "redis:2")))
    assert second.spec.task.container.image == "redis:2"
    assert second.spec_version == stored.meta.version
    assert second.previous_spec == first.spec
    assert second.HasField("previous_spec_version")
    assert not second.HasField("update_status")
    assert second.meta.version.index > stored.meta.version.index
    third = await update(control, update_of(second, edited(first.spec, "redis:3")))
    assert third.previous_spec_version == second.spec_version


async def test_a_rollback_swaps_and_a_second_one_swaps_back(control: Control) -> None:
    first = await create(control)
    second = await update(control, update_of(first, edited(first.spec, "redis:2")))
    back = await update(control, update_of(second, rollback=api.UpdateServiceRequest.PREVIOUS))
    assert (back.spec, back.previous_spec) == (second.previous_spec, second.spec)
    assert (back.spec_version, back.previous_spec_version) == (
        second.previous_spec_version,
        second.spec_version,
    )
    assert back.update_status.state == api.UpdateStatus.ROLLBACK_STARTED
    assert back.update_status.message == "manually requested rollback"
    assert back.update_status.started_at.ToDatetime(EPOCH.tzinfo) == EPOCH
    forth = await update(control, update_of(back, rollback=api.UpdateServiceRequest.PREVIOUS))
    assert (forth.spec, forth.spec_version) == (second.spec, second.spec_version)


async def test_a_rollback_needs_a_previous_spec(control: Control) -> None:
    service = await create(control)
    request = update_of(service, rollback=api.UpdateServiceRequest.PREVIOUS)
    text = "does not have a previous spec"
    await control.refused("UpdateService", request, Code.FAILED_PRECONDITION, text)


async def test_an_update_needs_id_version_and_an_existing_service(control: Control) -> None:
    spec, version = service_spec(), api.Version(index=1)
    for request in (
        api.UpdateServiceRequest(service_version=version, spec=spec),
        api.UpdateServiceRequest(service_id="x", spec=spec),
        api.UpdateServiceRequest(service_id="x", service_version=version),
    ):
        await control.refused("UpdateService", request, Code.INVALID_ARGUMENT, "invalid argument")
    request = api.UpdateServiceRequest(service_id="x", service_version=version, spec=spec)
    await control.refused("UpdateService", request, Code.NOT_FOUND, "service x not found")


async def test_a_stale_or_future_version_is_out_of_sequence(control: Control) -> None:
    first = await create(control)
    second = await update(control, update_of(first))
    await control.refused("UpdateService", update_of(first), Code.ABORTED, "update out of sequence")
    second.meta.version.index += 1
    await control.refused("UpdateService", update_of(second), Code.ABORTED, "update out of sequence")


async def test_of_twelve_racing_updates_exactly_one_wins(control: Control) -> None:
    service = await create(control)
    racing = [
        control.call("UpdateService", update_of(service, edited(service.spec, f"redis:{n}")))
        for n in range(12)
    ]
    outcomes = await asyncio.gather(*racing, return_exceptions=True)
    assert sum(isinstance(outcome, api.UpdateServiceResponse) for outcome in outcomes) == 1


async def test_every_other_refusal_wins_over_a_stale_version(control: Control) -> None:
    first = await create(control)
    await update(control, update_of(first))
    renamed = service_spec("other")
    await control.refused(
        "UpdateService", update_of(first, renamed), Code.UNIMPLEMENTED, "renaming services is not supported"
    )
    global_mode = api.ServiceSpec(annotations=renamed.annotations, task=renamed.task)
    getattr(global_mode, "global").SetInParent()
    await control.refused(
        "UpdateService",
        update_of(first, global_mode),
        Code.UNIMPLEMENTED,
        "service mode change is not allowed",
    )
    ports = with_ports("web", [published(0)])
    await control.refused(
        "UpdateService", update_of(first, ports), Code.FAILED_PRECONDITION, "ingress network"
    )


async def test_service_level_networks_move_to_the_task_only(control: Control) -> None:
    old = service_spec()
    old.networks.add(target="n1")
    service = await create(control, old)
    changed = service_spec()
    changed.networks.add(target="n2")
    text = "networks must be migrated to TaskSpec before being changed"
    await control.refused("UpdateService", update_of(service, changed), Code.UNIMPLEMENTED, text)
    moved = service_spec()
    moved.task.networks.add(target="n1")
    await update(control, update_of(service, moved))


@pytest.mark.parametrize(
    ("existing", "new", "text"),
    [
        (INGRESS, INGRESS, "as an ingress port"),
        (INGRESS, HOST, "as an ingress port"),
        (HOST, INGRESS, "as a host-published port"),
        (HOST, HOST, None),
    ],
)
async def test_the_port_matrix_at_create_and_update(
    control: Control, existing: Any, new: Any, text: str | None
) -> None:
    await control.put(ingress_network())
    await create(control, with_ports("one", [published(80, existing)]))
    spec = with_ports("two", [published(80, new)])
    bystander = await create(control, with_ports("three", [published(80, HOST, api.PortConfig.UDP)]))
    request = update_of(bystander, with_ports("three", [published(80, new)]))
    if text is None:
        await create(control, spec)
        await update(control, request)
        return
    full = f"port '80' is already in use by service 'one' (id0001) {text}"
    await control.refused("CreateService", api.CreateServiceRequest(spec=spec), Code.INVALID_ARGUMENT, full)
    await control.refused("UpdateService", request, Code.INVALID_ARGUMENT, full)


async def test_ports_that_were_allocated_count_too_and_zero_never(control: Control) -> None:
    await control.put(ingress_network())
    service = await create(control, with_ports("one", [published(0)]))
    allocated = api.Service()
    allocated.CopyFrom(service)
    allocated.endpoint.ports.append(published(30000))
    await control.put(allocated)
    await create(control, with_ports("two", [published(0)]))
    request = api.CreateServiceRequest(spec=with_ports("three", [published(30000)]))
    await control.refused("CreateService", request, Code.INVALID_ARGUMENT, "already in use")


async def test_an_update_that_leaves_the_endpoint_alone_never_fails_on_ports(control: Control) -> None:
    await control.put(ingress_network())
    service = await create(control, with_ports("one", [published(80)]))
    await control.put(api.Service(id="other", spec=with_ports("clash", [published(80)])))
    await update(control, update_of(service, edited(service.spec, "redis:9")))


async def test_an_ingress_port_needs_the_ingress_network(control: Control) -> None:
    request = api.CreateServiceRequest(spec=with_ports("one", [published(80)]))
    text = "service needs ingress network, but no ingress network is present"
    await control.refused("CreateService", request, Code.FAILED_PRECONDITION, text)
    await create(control, with_ports("host", [published(80, HOST)]))
    await control.put(ingress_network())
    await create(control, with_ports("one", [published(81)]))


async def test_the_ingress_network_cannot_be_attached_to_and_unknown_ones_pass(control: Control) -> None:
    await control.put(ingress_network())
    unknown = service_spec()
    unknown.task.networks.add(target="unknown")
    service = await create(control, unknown)
    attached = service_spec()
    attached.task.networks.add(target="ingress-id")
    text = 'Service cannot be explicitly attached to the ingress network "ingress"'
    await control.refused("UpdateService", update_of(service, attached), Code.INVALID_ARGUMENT, text)
    attached.annotations.name = "two"
    request = api.CreateServiceRequest(spec=attached)
    await control.refused("CreateService", request, Code.INVALID_ARGUMENT, text)


async def test_secrets_and_configs_exist_under_id_and_name(control: Control) -> None:
    await control.put(api.Secret(id="sid", spec=api.SecretSpec(annotations=api.Annotations(name="s1"))))
    await control.put(api.Config(id="cid", spec=api.ConfigSpec(annotations=api.Annotations(name="c1"))))

    def spec(secrets: list[tuple[str, str]], configs: list[tuple[str, str]]) -> api.ServiceSpec:
        wanted = service_spec()
        for number, (id, name) in enumerate(secrets):
            target = api.FileTarget(name=f"s{number}")
            wanted.task.container.secrets.add(secret_id=id, secret_name=name, file=target)
        for number, (id, name) in enumerate(configs):
            target = api.FileTarget(name=f"c{number}")
            wanted.task.container.configs.add(config_id=id, config_name=name, file=target)
        return wanted

    for wanted, text in (
        (spec([("sid", "other")], []), "secret not found: other"),
        (spec([("x", "a"), ("sid", "s1"), ("y", "b")], [("z", "c")]), "secrets not found: a, b"),
        (spec([], [("z", "c1")]), "config not found: c1"),
    ):
        request = api.CreateServiceRequest(spec=wanted)
        await control.refused("CreateService", request, Code.INVALID_ARGUMENT, text)
    service = await create(control, spec([("sid", "s1")], [("cid", "c1")]))
    changed = update_of(service, spec([("x", "s1")], []))
    await control.refused("UpdateService", changed, Code.INVALID_ARGUMENT, "secret not found: s1")


async def test_remove_deletes_at_once(control: Control) -> None:
    service = await create(control)
    await control.call("RemoveService", api.RemoveServiceRequest(service_id=service.id))
    assert control.store.view().count(api.Service) == 0
    request = api.RemoveServiceRequest(service_id=service.id)
    await control.refused("RemoveService", request, Code.NOT_FOUND, f"service {service.id} not found")
    await control.refused(
        "RemoveService", api.RemoveServiceRequest(), Code.INVALID_ARGUMENT, "invalid argument"
    )


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, ["id0001", "id0002", "id0003"]),
        ({"names": ["web"]}, ["id0001"]),
        ({"names": ["WEB"]}, []),
        ({"name_prefixes": ["w", "d"]}, ["id0001", "id0002"]),
        ({"id_prefixes": ["id0002", "x"]}, ["id0002"]),
        ({"labels": {"tier": ""}}, ["id0001", "id0002"]),
        ({"labels": {"tier": "front"}}, ["id0001"]),
        ({"labels": {"tier": "front", "none": ""}}, []),
        ({"runtimes": ["container"]}, ["id0001", "id0002"]),
        ({"runtimes": ["wasm"]}, ["id0003"]),
        ({"names": ["web", "db"], "id_prefixes": ["id0002"]}, ["id0002"]),
    ],
)
async def test_list_filters(control: Control, wanted: dict[str, Any], expected: list[str]) -> None:
    web, db, other = service_spec("web"), service_spec("db"), service_spec("other")
    web.annotations.labels["tier"] = "front"
    db.annotations.labels["tier"] = "back"
    other.task.generic.kind = "WASM"
    other.task.generic.payload.type_url = "t"
    other.task.generic.payload.value = b"v"
    for spec in (web, db, other):
        await create(control, spec)
    request = api.ListServicesRequest(filters=api.ListServicesRequest.Filters(**wanted))
    response = await control.call("ListServices", request)
    assert [service.id for service in response.services] == expected


async def test_statuses_come_in_the_order_asked_for(control: Control) -> None:
    replicated = await create(control, service_spec("one", replicas=5))
    spread = service_spec("all")
    getattr(spread, "global").SetInParent()
    everywhere = await create(control, spread)
    for number, (service, desired, state) in enumerate(
        [
            (replicated, api.TaskState.RUNNING, api.TaskState.RUNNING),
            (replicated, api.TaskState.RUNNING, api.TaskState.PREPARING),
            (replicated, api.TaskState.SHUTDOWN, api.TaskState.COMPLETE),
            (everywhere, api.TaskState.RUNNING, api.TaskState.RUNNING),
            (everywhere, api.TaskState.SHUTDOWN, api.TaskState.RUNNING),
        ]
    ):
        task = api.Task(id=f"t{number}", service_id=service.id, desired_state=desired)
        task.status.state = state
        await control.put(task)
    request = api.ListServiceStatusesRequest(services=[everywhere.id, "unknown", replicated.id])
    response = await control.call("ListServiceStatuses", request)
    rows = [(s.service_id, s.desired_tasks, s.running_tasks, s.completed_tasks) for s in response.statuses]
    assert rows == [(everywhere.id, 1, 2, 0), ("unknown", 0, 0, 0), (replicated.id, 5, 1, 0)]


async def test_a_negative_delay_in_the_rollback_config_is_refused(control: Control) -> None:
    spec = service_spec()
    spec.rollback.delay.CopyFrom(Duration(seconds=-1))
    request = api.CreateServiceRequest(spec=spec)
    await control.refused(
        "CreateService", request, Code.INVALID_ARGUMENT, "rollback-delay cannot be negative"
    )
