"""What a node tells those who read from it: whether it leads, and whether that is certain."""

from swarmkit.raft.driver import Driver
from swarmkit.store.proposer import LeadershipLostError, StoppedError


class Reads:
    """The part of ``RaftNode`` that stands before linearizable reads; ``lease.py`` has the reasons."""

    _driver: Driver | None
    _stopped: bool

    def _running(self) -> Driver:
        if self._driver is None or self._stopped:
            raise StoppedError
        return self._driver

    @property
    def may_propose(self) -> bool:
        """Whether leadership is announced here: only then are proposals accepted."""
        return self._driver is not None and self._driver.announced and not self._stopped

    @property
    def has_lease(self) -> bool:
        """Whether this node leads beyond doubt at this moment: what is read next is the newest there is."""
        driver = self._driver
        return driver is not None and self.may_propose and driver.confirmations.holds

    async def confirm_leadership(self) -> None:
        """Return once it is certain that this node led, announced, at some moment after this call began.

        What is read here afterwards contains every write that anybody was told of before the call: those of
        earlier terms were applied before the announcement, which waits for the no-op behind them; those of
        this term are acknowledged by this node alone, and only once applied here; and of a later term there
        was nobody yet. Returns at once with a lease (``has_lease``); otherwise asks the members, which takes
        one round trip, shared by all who wait. The caller brings the deadline.

        Raises:
            LeadershipLostError: this node does not lead, or was deposed while it asked.
            StoppedError: the node is not running, or stopped while it asked.
        """
        driver = self._running()
        if not driver.announced:
            raise LeadershipLostError
        if not driver.confirmations.holds:
            await driver.confirmations.wait()
