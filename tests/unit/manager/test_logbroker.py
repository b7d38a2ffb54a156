"""The log broker's side towards workers (contract/dispatcher-agent.md, 11)."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from swarmkit.api import messages as api
from swarmkit.manager.logbroker import LogBroker
from swarmkit.net.caller import WORKER_ROLE, Caller, as_caller
from swarmkit.net.errors import RpcError

WORKER = Caller("worker", frozenset({WORKER_ROLE}), "swarm", "10.0.0.7:1")


@pytest.fixture
async def broker() -> AsyncIterator[LogBroker]:
    made = LogBroker()
    running = asyncio.get_running_loop().create_task(made.run())
    await asyncio.sleep(0)
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def listen(broker: LogBroker, caller: Caller = WORKER) -> list[api.SubscriptionMessage]:
    with as_caller(caller):
        return [m async for m in broker.ListenSubscriptions(api.ListenSubscriptionsRequest(), None)]


async def publish(broker: LogBroker, *messages: api.PublishLogsMessage) -> api.PublishLogsResponse:
    async def requests() -> AsyncIterator[api.PublishLogsMessage]:
        for message in messages:
            yield message

    with as_caller(WORKER):
        return await broker.PublishLogs(requests(), None)


async def test_listening_stays_open_until_the_broker_stops_and_then_ends_cleanly() -> None:
    broker = LogBroker()
    running = asyncio.get_running_loop().create_task(broker.run())
    await asyncio.sleep(0)
    listening = asyncio.get_running_loop().create_task(listen(broker))
    await asyncio.sleep(24 * 3600)
    assert not listening.done()
    running.cancel()
    assert await listening == []


async def test_a_listener_may_leave(broker: LogBroker) -> None:
    listening = asyncio.get_running_loop().create_task(listen(broker))
    await asyncio.sleep(1)
    listening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listening


async def test_a_broker_that_does_not_run_refuses_listeners_and_publishers() -> None:
    broker = LogBroker()
    for call in (listen(broker), publish(broker)):
        with pytest.raises(RpcError, match="broker is not running") as caught:
            await call
        assert caught.value.code == grpc.StatusCode.UNKNOWN


async def test_the_broker_runs_again_after_it_stopped() -> None:
    broker = LogBroker()
    for _ in range(2):
        running = asyncio.get_running_loop().create_task(broker.run())
        await asyncio.sleep(0)
        listening = asyncio.get_running_loop().create_task(listen(broker))
        await asyncio.sleep(0)
        running.cancel()
        assert await listening == []


async def test_running_twice_at_once_is_an_error(broker: LogBroker) -> None:
    with pytest.raises(RuntimeError):
        await broker.run()


async def test_publishing_for_an_unknown_subscription_is_not_found(broker: LogBroker) -> None:
    with pytest.raises(RpcError, match="unknown subscription ID") as caught:
        await publish(broker, api.PublishLogsMessage(subscription_id="nobody", close=True))
    assert caught.value.code == grpc.StatusCode.NOT_FOUND


async def test_publishing_without_a_subscription_id_is_an_invalid_argument(broker: LogBroker) -> None:
    with pytest.raises(RpcError) as caught:
        await publish(broker, api.PublishLogsMessage())
    assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT


async def test_publishing_nothing_gets_the_empty_answer(broker: LogBroker) -> None:
    assert await publish(broker) == api.PublishLogsResponse()


async def test_a_caller_without_a_certificate_is_refused(broker: LogBroker) -> None:
    with pytest.raises(RpcError, match="no client certificates in request") as caught:
        await listen(broker, Caller())
    assert caught.value.code == grpc.StatusCode.PERMISSION_DENIED
