"""Signs of life while a cycle waits for its disk.

A cycle that waits for a sync neither sends heartbeats nor answers them, and a disk may take seconds. That is
no reason to elect another leader: until the disk has had long enough, the leader goes on sending what it may
send unsynced, and a follower answers that it is there, and nothing about its log.
"""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from swarmkit.raft.library import Library
from swarmkit.raft.log import RaftLog
from swarmkit.raft.messages import Envelope, Reply
from swarmkit.raft.transport import Mailbox, PeerLinks

T = TypeVar("T")

#: A disk that takes longer is as good as dead: others take over, or look for a quorum without this node.
PATIENCE_SECONDS = 10.0


class Contact:
    """Keeps the contact to the group alive during waits of one node."""

    def __init__(
        self,
        raft_id: int,
        library: Library,
        log: RaftLog,
        mailbox: Mailbox,
        links: PeerLinks,
        period_seconds: float,
    ) -> None:
        self._raft_id = raft_id
        self._library = library
        self._log = log
        self._mailbox = mailbox
        self._links = links
        self._period_seconds = period_seconds
        self._beats_left = 0
        self._timer: asyncio.TimerHandle | None = None

    async def during(self, work: Awaitable[T]) -> T:
        """Await ``work``, with signs of life once a heartbeat has passed."""
        self._beats_left = int(PATIENCE_SECONDS / self._period_seconds)
        self._set_timer()
        try:
            return await work
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def _set_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._period_seconds, self._beat)

    def _beat(self) -> None:
        library, mailbox = self._library, self._mailbox
        leader, term = library.leader, library.term
        if library.leading:
            library.send_appends()
            for envelope in mailbox.take_early():
                self._links.send(envelope)
        elif leader is not None and mailbox.hears(leader, term):
            present = Reply(self._log.last_index + 1)
            self._links.send(Envelope(self._raft_id, leader, term, present))
        self._beats_left -= 1
        if self._beats_left > 0:
            self._set_timer()
