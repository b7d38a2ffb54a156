"""The log broker's side towards workers (contract/dispatcher-agent.md, 11).

A worker's session lives only as long as its ``ListenSubscriptions`` stream, so this service must be there
and stay open. Subscriptions are made by ``Logs.SubscribeLogs``, which this manager does not serve: there
is none to announce, and what a worker publishes belongs to no subscription.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

import grpc

from swarmkit.api import messages as api
from swarmkit.api.logbroker_pb2_grpc import LogBrokerServicer
from swarmkit.net.caller import current_caller
from swarmkit.net.errors import RpcError, invalid_argument, not_found, permission_denied


class LogBroker(LogBrokerServicer):
    """Serves workers while ``run`` runs; one instance serves all leaderships of a manager."""

    def __init__(self) -> None:
        self._stopped: asyncio.Event | None = None

    async def run(self) -> None:
        """Serve until cancelled, then end all streams cleanly.

        Raises:
            RuntimeError: it runs already.
        """
        if self._stopped is not None:
            raise RuntimeError("the log broker is running")
        stopped = self._stopped = asyncio.Event()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._stopped = None
            stopped.set()

    async def ListenSubscriptions(
        self, request: api.ListenSubscriptionsRequest, context: object
    ) -> AsyncGenerator[api.SubscriptionMessage, None]:
        """Announce subscriptions to the calling node, until the node leaves or this manager stops leading."""
        _check_caller()
        await self._running().wait()
        return
        yield  # type: ignore[unreachable]  # makes this a generator, grpc's form of a stream

    async def PublishLogs(
        self, request_iterator: AsyncIterator[api.PublishLogsMessage], context: object
    ) -> api.PublishLogsResponse:
        """Take in what a node publishes for one subscription.

        PARITY: a stream that ends without naming a subscription gets its empty answer.
        """
        _check_caller()
        self._running()
        async for message in request_iterator:
            if not message.subscription_id:
                raise invalid_argument("missing subscription ID")
            raise not_found("unknown subscription ID")
        return api.PublishLogsResponse()

    def _running(self) -> asyncio.Event:
        if self._stopped is None:
            raise RpcError(grpc.StatusCode.UNKNOWN, "broker is not running")
        return self._stopped


def _check_caller() -> None:
    if current_caller().anonymous:
        raise permission_denied(
            "Permission denied: unauthorized peer role: rpc error: code = PermissionDenied "
            "desc = no client certificates in request"
        )
