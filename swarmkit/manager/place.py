"""How a manager comes to its place in the raft group, and keeps its address known there.

Source: contract/raft-store-manager.md, 10 and 11.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from swarmkit.ca import files
from swarmkit.ca.errors import StateDirError
from swarmkit.clock import Clock
from swarmkit.log import get_logger
from swarmkit.manager.joining import JoinError, JoinRefusedError, JoinUnavailableError
from swarmkit.net.leaders import Leaders
from swarmkit.net.remotes import Remote
from swarmkit.raft.node import JoinReply

log = get_logger(__name__)

#: How long a start asks for a place in the group before it gives up, in seconds: an election or two.
PATIENCE_SECONDS = 30.0
#: Pause between two rounds of asking, in seconds.
PAUSE_SECONDS = 0.5
#: The same for a member whose address has to be told; it takes part meanwhile.
ADDRESS_PAUSE_SECONDS = 5.0

_RECORD_NAME = "raft-id"
_RECORD_MODE = 0o600


class RaftIdFile:
    """Remembers, beside the certificate, under which raft id this node has written a log.

    Should the log be lost while the certificate stays, the group must not take the node for the same member:
    what it acknowledged and whom it voted for is gone. A node that was never given a log, on the other hand,
    takes up the place that it had asked for. Methods block for a moment.
    """

    def __init__(self, certificates: Path) -> None:
        self._path = certificates / _RECORD_NAME

    def read(self) -> int:
        """Return the raft id; 0: none.

        Raises:
            StateDirError: it cannot be read.
        """
        content = files.read(self._path)
        try:
            return int(content, 16) if content else 0
        except ValueError as error:
            raise StateDirError(
                f"{self._path} is damaged: remove it if this node has its raft log"
            ) from error

    def write(self, raft_id: int) -> None:
        """Remember a raft id.

        Raises:
            StateDirError: it cannot be written.
        """
        if self.read() != raft_id:
            files.write_atomic(self._path, b"%x\n" % raft_id, _RECORD_MODE)

    def forget(self) -> None:
        """Remember none: this node is no manager any more.

        Raises:
            StateDirError: it cannot be removed.
        """
        files.remove(self._path)


#: Asks one manager: who it is, this manager's own address, and the raft id whose log is lost, or 0.
Ask = Callable[[Remote, str, int], Awaitable[JoinReply]]


class Place:
    """A manager's place in the group: asks for it, and keeps it known.

    Args:
        ask: asks one manager.
        contacts: returns the managers to ask, best first.
        record: remembers the raft id.
        clock: time.
    """

    def __init__(
        self, ask: Ask, contacts: Callable[[], Sequence[Remote]], record: RaftIdFile, clock: Clock
    ) -> None:
        self._ask = ask
        self._contacts = contacts
        self._record = record
        self._clock = clock
        #: Where this manager is reached; known once its port is open.
        self.own_address = ""
        self._has_joined = False

    async def join(self) -> JoinReply:
        """Get a place for a node without a log.

        Raises:
            JoinError: refused, or nobody could decide about it for ``PATIENCE_SECONDS``.
            StateDirError: the record of the raft id cannot be read.
        """
        lost = await asyncio.to_thread(self._record.read)
        deadline = self._clock.monotonic() + PATIENCE_SECONDS
        while True:
            failure = JoinUnavailableError(
                "no other manager of the swarm is known: give one with --join-addr"
            )
            for remote in self._contacts():
                try:
                    reply = await self._ask(remote, self.own_address, lost)
                    self._has_joined = True
                    return reply
                except JoinUnavailableError as error:
                    failure = error
                    log.info("cannot join through this manager", addr=remote.addr, error=str(error))
            if self._clock.monotonic() >= deadline:
                raise failure
            await self._clock.sleep(PAUSE_SECONDS)

    async def remember(self, raft_id: int) -> None:
        """Write down under which raft id this node has a log; needed before it takes part in the group.

        Raises:
            StateDirError: it cannot be written.
        """
        await asyncio.to_thread(self._record.write, raft_id)

    async def keep_known(self, leaders: Leaders) -> None:
        """See to it that the group knows where this member is reached.

        A leader announces its address itself, and who has just joined was asked for it. Any other member asks
        the leader once, which changes nothing if the address is known.
        """
        while not (self._has_joined or leaders.leading):
            leader = leaders.leader
            if leader is None:
                await leaders.wait_change()
                continue
            try:
                await self._ask(leader, self.own_address, 0)
                return
            except JoinRefusedError as error:
                log.error("the group does not take this manager's address", error=str(error))
                return
            except JoinError as error:
                log.info("the address of this manager is not confirmed yet", error=str(error))
            await self._clock.sleep(ADDRESS_PAUSE_SECONDS)

    async def forget(self) -> None:
        """Forget the raft id: this node is no manager any more.

        Raises:
            StateDirError: it cannot be forgotten.
        """
        await asyncio.to_thread(self._record.forget)
