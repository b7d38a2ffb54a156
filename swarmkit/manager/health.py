"""The Health service: may this manager be used?

Source: contract/dispatcher-agent.md, 13. Not grpc.health.v1, but the swarm's own. Each side of the API has
an instance: the remote port knows ``Raft``, the control socket ``ControlAPI``, and both know the empty name,
the process itself.
"""

from collections.abc import Iterable
from typing import Any

from swarmkit.api import messages as api
from swarmkit.api.health_pb2_grpc import HealthServicer
from swarmkit.net.errors import not_found

#: The service name of the remote port: serving just before raft joins or starts.
RAFT = "Raft"
#: The service name of the control socket: serving when raft has joined or started.
CONTROL_API = "ControlAPI"


class HealthService(HealthServicer):
    """Answers for a fixed set of services, each not serving until it is said to."""

    def __init__(self, services: Iterable[str]) -> None:
        self._serving: dict[str, bool] = {"": True} | dict.fromkeys(services, False)

    def set_serving(self, service: str, serving: bool) -> None:
        """Change what is answered for ``service``.

        Raises:
            KeyError: it is not one of the services of this side.
        """
        if service not in self._serving:
            raise KeyError(service)
        self._serving[service] = serving

    async def Check(self, request: api.HealthCheckRequest, _context: Any) -> api.HealthCheckResponse:
        """Tell whether a service is serving.

        Raises:
            RpcError: NOT_FOUND, this side knows no such service.
        """
        serving = self._serving.get(request.service)
        if serving is None:
            raise not_found("unknown service")
        status = api.HealthCheckResponse.SERVING if serving else api.HealthCheckResponse.NOT_SERVING
        return api.HealthCheckResponse(status=status)
