"""Which sessions are woken."""

import asyncio

import pytest

from swarmkit.api import messages as api
from swarmkit.manager.dispatcher.hub import SessionFeed, SessionHub


@pytest.fixture
def hub() -> SessionHub:
    return SessionHub(lambda: [api.Peer(node_id="m", addr="10.0.0.1:4242")])


def node(version: int, node_id: str = "n") -> api.Node:
    made = api.Node(id=node_id)
    made.meta.version.index = version
    return made


async def rung(feed: SessionFeed) -> bool:
    return await feed.alarm.wait(0)


async def test_a_session_is_woken_by_newer_versions_of_its_own_node_alone(hub: SessionHub) -> None:
    with hub.open(node(5)) as feed:
        for seen in (node(4), node(5), node(9, "other")):
            hub.set_node(seen)
            assert not await rung(feed)
        hub.set_node(node(6))
        assert await rung(feed)


async def test_an_announcement_wakes_every_session_and_a_closed_one_is_forgotten(hub: SessionHub) -> None:
    running = asyncio.get_running_loop().create_task(hub.run())
    with hub.open(node(1)) as first:
        with hub.open(node(1)) as second, hub.open(node(1, "other")) as third:
            hub.announce()
            assert all([await feed.alarm.wait(1) for feed in (first, second, third)])
        hub.set_cluster(api.Cluster())
        assert await first.alarm.wait(1)
        assert not await rung(second)
    assert not hub._feeds
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
