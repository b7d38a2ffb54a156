"""Services: create, read, update, roll back, remove (contract/control-api.md, 4)."""

import asyncio

from swarmkit.api import messages as api
from swarmkit.api.defaults import service_with_defaults
from swarmkit.api.naming import runtime_name
from swarmkit.clock import timestamp
from swarmkit.manager.allocator.allocation import allocate_if_free
from swarmkit.manager.controlapi import filters
from swarmkit.manager.controlapi.base import ControlBase, fill, handler
from swarmkit.manager.controlapi.errors import (
    PreconditionError,
    TakenError,
    UnsupportedError,
    invalid_argument,
    missing,
)
from swarmkit.manager.controlapi.service_spec import check_service_spec
from swarmkit.manager.controlapi.service_state import (
    check_dependencies,
    check_ingress_exists,
    check_networks,
    check_ports,
)
from swarmkit.manager.controlapi.service_status import service_status
from swarmkit.store import NameConflictError, NotExistError, Tx, by


class ServicesMixin(ControlBase):
    """The RPCs of services."""

    @handler
    async def CreateService(self, request: api.CreateServiceRequest) -> api.CreateServiceResponse:
        """Store a new service; its tasks are the orchestrators' business."""
        spec = check_service_spec(request)
        service = api.Service(id=self._make_id(), spec=spec)
        service.spec_version.SetInParent()
        allocate_if_free(service)

        def create(tx: Tx) -> api.Service:
            check_networks(tx, spec)
            check_ports(tx, spec)
            check_ingress_exists(tx, spec)
            check_dependencies(tx, spec)
            return tx.create(service)

        try:
            return api.CreateServiceResponse(service=await self._store.update(create))
        except NameConflictError as error:
            name = spec.annotations.name
            raise TakenError(f"{error}: service {name} already exists") from error

    @handler
    async def GetService(self, request: api.GetServiceRequest) -> api.GetServiceResponse:
        """Return one service, with its gaps filled in if that is asked for."""
        if not request.service_id:
            raise invalid_argument()
        service = self._store.view().get(api.Service, request.service_id)
        if service is None:
            raise missing("service", request.service_id)
        response = api.GetServiceResponse(service=service)
        if request.insert_defaults:
            response.service.spec.CopyFrom(service_with_defaults(service.spec))
        return response

    @handler
    async def UpdateService(self, request: api.UpdateServiceRequest) -> api.UpdateServiceResponse:
        """Put a new spec in place, or the previous one."""
        if not request.service_id or not request.HasField("service_version"):
            raise invalid_argument()
        spec = check_service_spec(request)

        def update(tx: Tx) -> api.Service:
            check_networks(tx, spec)
            stored = tx.get(api.Service, request.service_id)
            if stored is None:
                raise missing("service", request.service_id)
            _check_change(tx, stored, spec)
            service = api.Service()
            service.CopyFrom(stored)
            if request.rollback == api.UpdateServiceRequest.PREVIOUS:
                self._roll_back(service)
            else:
                _replace_spec(service, spec, request.service_version)
            check_ingress_exists(tx, service.spec)
            allocate_if_free(service)
            service.meta.version.CopyFrom(request.service_version)
            return tx.update(service)

        return api.UpdateServiceResponse(service=await self._store.update(update))

    def _roll_back(self, service: api.Service) -> None:
        if not service.HasField("previous_spec"):
            raise PreconditionError(f"service {service.id} does not have a previous spec")
        before = api.Service()
        before.CopyFrom(service)
        service.spec.CopyFrom(before.previous_spec)
        service.spec_version.CopyFrom(before.previous_spec_version)
        service.previous_spec.CopyFrom(before.spec)
        service.previous_spec_version.CopyFrom(before.spec_version)
        service.update_status.CopyFrom(
            api.UpdateStatus(
                state=api.UpdateStatus.ROLLBACK_STARTED,
                message="manually requested rollback",
                started_at=timestamp(self._clock.now()),
            )
        )

    @handler
    async def RemoveService(self, request: api.RemoveServiceRequest) -> api.RemoveServiceResponse:
        """Delete a service; its tasks are cleaned up by the orchestrators."""
        if not request.service_id:
            raise invalid_argument()
        try:
            await self._store.update(lambda tx: tx.delete(api.Service, request.service_id))
        except NotExistError as error:
            raise missing("service", request.service_id) from error
        return api.RemoveServiceResponse()

    @handler
    async def ListServices(self, request: api.ListServicesRequest) -> api.ListServicesResponse:
        """Return the services that pass the filters."""
        wanted = request.filters
        selectors = filters.narrowest(
            [by.name(name) for name in wanted.names],
            [by.id_prefix(prefix) for prefix in wanted.id_prefixes],
            [by.name_prefix(prefix) for prefix in wanted.name_prefixes],
        )

        def keep(service: api.Service) -> bool:
            annotations = service.spec.annotations
            return (
                filters.one_of(wanted.names, annotations.name)
                and filters.prefixed(wanted.name_prefixes, annotations.name)
                and filters.prefixed(wanted.id_prefixes, service.id)
                and filters.labelled(wanted.labels, annotations.labels)
                and filters.one_of(wanted.runtimes, runtime_name(service.spec.task))
            )

        response = api.ListServicesResponse()
        await fill(response.services, self._store.view().find(api.Service, *selectors), keep)
        return response

    @handler
    async def ListServiceStatuses(
        self, request: api.ListServiceStatusesRequest
    ) -> api.ListServiceStatusesResponse:
        """Return the counts of each service asked for, in that order; of an unknown one zeroes."""
        response = api.ListServiceStatusesResponse()
        for id in request.services:
            reader = self._store.view()
            service = reader.get(api.Service, id)
            if service is None:
                response.statuses.add(service_id=id)
            else:
                tasks = reader.find(api.Task, by.service(id))
                response.statuses.append(service_status(service, tasks))
            await asyncio.sleep(0)
        return response


def _replace_spec(service: api.Service, spec: api.ServiceSpec, version: api.Version) -> None:
    service.previous_spec.CopyFrom(service.spec)
    if service.HasField("spec_version"):
        service.previous_spec_version.CopyFrom(service.spec_version)
    else:
        service.ClearField("previous_spec_version")
    service.spec.CopyFrom(spec)
    service.spec_version.CopyFrom(version)
    service.ClearField("update_status")


def _check_change(tx: Tx, stored: api.Service, spec: api.ServiceSpec) -> None:
    """Check what an update may change; all of it before the version, which is compared last."""
    if spec.HasField("endpoint") and spec.endpoint != stored.spec.endpoint:
        check_ports(tx, spec, stored.id)
    if spec.networks != stored.spec.networks and spec.task.networks == stored.spec.task.networks:
        raise UnsupportedError("networks must be migrated to TaskSpec before being changed")
    check_dependencies(tx, spec)
    if spec.WhichOneof("mode") != stored.spec.WhichOneof("mode"):
        raise UnsupportedError("service mode change is not allowed")
    if spec.annotations.name != stored.spec.annotations.name:
        raise UnsupportedError("renaming services is not supported")
