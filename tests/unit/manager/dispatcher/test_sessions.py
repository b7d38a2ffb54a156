"""Sessions and registration (contract/dispatcher-agent.md, 3.2 and 3.3; cases 1 to 6, 11 to 15)."""

import asyncio

from swarmkit.api import messages as api
from tests.unit.manager.dispatcher.bench import Bench


async def test_registering_again_without_an_id_gives_another_session(bench: Bench) -> None:
    worker = await bench.worker()
    await worker.register()
    first = worker.session_id
    await worker.register()
    assert len(first) == 25
    assert worker.session_id != first


async def test_first_message_comes_within_the_flush_time_and_shows_the_node_ready(bench: Bench) -> None:
    worker = await bench.worker()
    stream = worker.open_session(hostname="box")
    message = await stream.next()
    assert 0 < bench.clock.monotonic() <= 0.2
    assert message.node.status.state == api.NodeStatus.READY
    assert message.node.status.addr == "10.0.0.7"
    assert message.node.description.hostname == "box"
    assert message.node == bench.node("worker")
    assert [(m.peer.node_id, m.peer.addr, m.weight) for m in message.managers] == [
        ("leader", "10.0.0.1:4242", 10)
    ]
    assert message.RootCA == b"-----BEGIN CERTIFICATE-----\nfirst\n"
    assert message.network_bootstrap_keys[0].subsystem == "networking:gossip"
    await asyncio.sleep(1)
    assert stream.received == [message]
