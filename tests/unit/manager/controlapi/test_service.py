"""The service as a whole: every RPC of Control answers, and errors carry the contract's codes."""

import grpc
import pytest

from swarmkit.api import control_pb2
from swarmkit.api import messages as api
from swarmkit.manager.controlapi import ControlService
from swarmkit.store import Store
from tests.fakes.loop import VirtualClock
from tests.fakes.proposer import FakeProposer
from tests.unit.manager.controlapi.conftest import Control, refuses
from tests.unit.manager.controlapi.specs import service_spec

Code = grpc.StatusCode
METHODS = list(control_pb2.DESCRIPTOR.services_by_name["Control"].methods)
UNSERVED = ("Network", "Secret", "Config", "Extension", "Resource", "Volume")


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
async def test_every_rpc_answers(control: Control, method: object) -> None:
    name: str = method.name  # type: ignore[attr-defined]
    request = getattr(api, method.input_type.name)()  # type: ignore[attr-defined]
    kind = next((kind for kind in UNSERVED if kind in name), None)
    if kind is not None:
        text = f"this manager does not serve {kind.lower()}s"
        await control.refused(name, request, Code.UNIMPLEMENTED, text)
    elif name.startswith("List"):
        assert type(await control.call(name, request)).__name__ == f"{name}Response"
    else:
        await control.refused(name, request, Code.INVALID_ARGUMENT, "invalid argument")


async def test_what_replication_refuses_keeps_its_text() -> None:
    store = Store(VirtualClock())
    proposer = FakeProposer(store)
    store.attach(proposer)
    service = ControlService(store, VirtualClock(), list)
    large = service_spec("large")
    large.task.container.args.append("x" * 1_600_000)
    request = api.CreateServiceRequest(spec=large)
    await refuses(service.CreateService(request, None), Code.UNKNOWN, "raft message is too large")
    proposer.lose_leadership()
    request = api.CreateServiceRequest(spec=service_spec())
    await refuses(service.CreateService(request, None), Code.UNKNOWN, "node lost leader status")


async def test_a_new_join_token_is_a_real_one_by_default() -> None:
    store = Store(VirtualClock())
    service = ControlService(store, VirtualClock(), list)
    cluster = api.Cluster(id="c", spec=api.ClusterSpec(annotations=api.Annotations(name="default")))
    cluster.root_ca.ca_cert = b"PEM"
    stored = await store.update(lambda tx: tx.create(cluster))
    request = api.UpdateClusterRequest(
        cluster_id="c",
        cluster_version=stored.meta.version,
        spec=stored.spec,
        rotation=api.KeyRotation(worker_join_token=True),
    )
    response = await service.UpdateCluster(request, None)
    assert response.cluster.root_ca.join_tokens.worker.startswith("SWMTKN-1-")
    assert response.cluster.root_ca.join_tokens.manager == ""
