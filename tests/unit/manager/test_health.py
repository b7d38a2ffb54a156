"""contract/dispatcher-agent.md, 13 and test 83."""

import grpc
import pytest

from swarmkit.api import messages as api
from swarmkit.manager.health import CONTROL_API, RAFT, HealthService
from swarmkit.net.errors import RpcError


async def check(health: HealthService, service: str) -> api.HealthCheckResponse.ServingStatus.ValueType:
    return (await health.Check(api.HealthCheckRequest(service=service), None)).status


async def test_the_process_itself_is_serving_and_raft_is_when_it_is_said_to() -> None:
    health = HealthService([RAFT])
    assert await check(health, "") == api.HealthCheckResponse.SERVING
    assert await check(health, "Raft") == api.HealthCheckResponse.NOT_SERVING
    health.set_serving(RAFT, True)
    assert await check(health, "Raft") == api.HealthCheckResponse.SERVING
    health.set_serving(RAFT, False)
    assert await check(health, "Raft") == api.HealthCheckResponse.NOT_SERVING


@pytest.mark.parametrize("service", ["nope", CONTROL_API])
async def test_a_service_of_the_other_side_or_of_nobody_is_unknown(service: str) -> None:
    with pytest.raises(RpcError, match=r"^unknown service$") as caught:
        await check(HealthService([RAFT]), service)
    assert caught.value.code is grpc.StatusCode.NOT_FOUND


def test_only_a_service_of_its_own_can_be_set() -> None:
    with pytest.raises(KeyError):
        HealthService([RAFT]).set_serving(CONTROL_API, True)
