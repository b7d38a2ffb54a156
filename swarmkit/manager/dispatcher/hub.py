"""What sessions are told (contract/dispatcher-agent.md, 3.3).

All are told the managers, the network keys and the root certificate, each its own node.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence

from swarmkit.api import messages as api
from swarmkit.manager.dispatcher.alarm import Alarm
from swarmkit.manager.dispatcher.config import MANAGER_WEIGHT

#: Sessions woken together; between two slices other tasks get their turn.
SLICE = 50


class SessionFeed:
    """One open session stream: the node it shows, and the bell that says there is something new."""

    def __init__(self, node: api.Node) -> None:
        self.node = node
        self.alarm = Alarm()


class SessionHub:
    """Knows the open session streams and wakes those that have something to say.

    PARITY: a stream that is slow to take a message gets the newest state with its next one, where the
    original queues one message for each change.
    """

    def __init__(self, managers: Callable[[], Sequence[api.Peer]]) -> None:
        self._managers = managers
        self._cluster = api.Cluster()
        self._feeds: dict[str, dict[SessionFeed, None]] = {}
        self._news = Alarm()

    @contextlib.contextmanager
    def open(self, node: api.Node) -> Iterator[SessionFeed]:
        """Keep a feed that starts with ``node`` for the length of the block."""
        feed = SessionFeed(node)
        self._feeds.setdefault(node.id, {})[feed] = None
        try:
            yield feed
        finally:
            del self._feeds[node.id][feed]
            if not self._feeds[node.id]:
                del self._feeds[node.id]

    def message(self, session_id: str, node: api.Node) -> api.SessionMessage:
        """Make a session message; all five fields are always filled."""
        return api.SessionMessage(
            session_id=session_id,
            node=node,
            managers=[api.WeightedPeer(peer=peer, weight=MANAGER_WEIGHT) for peer in self._managers()],
            network_bootstrap_keys=self._cluster.network_bootstrap_keys,
            RootCA=self._cluster.root_ca.ca_cert,
        )

    def set_cluster(self, cluster: api.Cluster) -> None:
        """Tell every session about the cluster object."""
        self._cluster = cluster
        self.announce()

    def set_node(self, node: api.Node) -> None:
        """Tell the node's own sessions about its object, unless they have shown this version already."""
        for feed in self._feeds.get(node.id, ()):
            if node.meta.version.index > feed.node.meta.version.index:
                feed.alarm.ring()

    def announce(self) -> None:
        """Have every session send a message. Returns at once."""
        self._news.ring()

    def close(self) -> None:
        """Wake every session now, for its last message."""
        for feeds in self._feeds.values():
            for feed in feeds:
                feed.alarm.ring()

    async def run(self) -> None:
        """Wake all sessions after each announcement, a slice at a time, until cancelled."""
        while True:
            await self._news.wait()
            feeds = [feed for feeds in self._feeds.values() for feed in feeds]
            for start in range(0, len(feeds), SLICE):
                for feed in feeds[start : start + SLICE]:
                    feed.alarm.ring()
                await asyncio.sleep(0)
