"""The node table: who has a session, until when, and who may register.

Contract: dispatcher-agent.md, 3.2, 3.4 and 3.6.

Pure: moments (seconds on the monotonic clock) come in as arguments, random numbers from the injected source.
"""

import random
from dataclasses import dataclass

from swarmkit.manager.dispatcher.config import (
    DEFAULT_HEARTBEAT_SECONDS,
    MIN_HEARTBEAT_SECONDS,
    DispatcherConfig,
)
from swarmkit.manager.dispatcher.deadlines import Deadlines
from swarmkit.manager.dispatcher.errors import NodeNotRegisteredError, RateLimitError, SessionInvalidError


@dataclass
class _Entry:
    """One node of the table.

    Attributes:
        session_id: empty while the node is UNKNOWN: known, but not heard of since this manager leads.
        registered_at: moment of the last accepted registration, or of the entry's creation.
        attempts: counted registrations since the count last started.
    """

    session_id: str
    registered_at: float
    attempts: int = 0


@dataclass(frozen=True)
class Expiry:
    """A node whose heartbeat deadline passed.

    Attributes:
        node_id: the node; its entry is gone.
        unknown: it had not registered with this leader.
    """

    node_id: str
    unknown: bool


class NodeTable:
    """Sessions, rate limit and timers of all nodes, for one time of leadership.

    A node is in one of four situations: no entry; an entry without session id (UNKNOWN); an entry with one
    (READY); no entry, but an orphan timer (DOWN).

    Invariant: exactly the nodes with an entry have a heartbeat deadline, and no node has both an entry with a
    session id and an orphan timer.
    """

    def __init__(self, config: DispatcherConfig, rng: random.Random) -> None:
        self._config = config
        self._random = rng
        self._period = DEFAULT_HEARTBEAT_SECONDS
        self._entries: dict[str, _Entry] = {}
        self._heartbeats = Deadlines()
        self._orphans = Deadlines()

    def set_period(self, seconds: float) -> None:
        """Use ``seconds`` for beats from now on, the default if not positive; armed deadlines stay.

        PARITY: a stored period of zero or less is taken as "not set", and a very short one is lengthened; the
        original arms timers in the past.
        """
        self._period = max(seconds, MIN_HEARTBEAT_SECONDS) if seconds > 0 else DEFAULT_HEARTBEAT_SECONDS

    def choose_period(self) -> float:
        """Draw a heartbeat period, so that the nodes' beats spread out.

        PARITY: the window shrinks with periods under twice the epsilon, where the original turns negative.
        """
        epsilon = min(self._config.heartbeat_epsilon_seconds, self._period / 2)
        period = self._period - epsilon + self._random.random() * 2 * epsilon
        return max(period, MIN_HEARTBEAT_SECONDS)

    def add_unknown(self, node_id: str, now: float) -> None:
        """Give a node known from before this leadership twice the usual time to come forward."""
        self._entries[node_id] = _Entry("", now)
        self._heartbeats.set(node_id, now + self._config.unknown_grace_multiplier * self.choose_period())

    def add_down(self, node_id: str, now: float) -> None:
        """Start the timer after which the tasks of a DOWN node count as lost."""
        self._orphans.set(node_id, now + self._config.orphan_seconds)

    def count_attempt(self, node_id: str, now: float) -> None:
        """Count a registration of a node that has an entry.

        Raises:
            RateLimitError: it is one too many.
        """
        entry = self._entries.get(node_id)
        if entry is None:
            return
        if now - entry.registered_at > self._config.rate_limit_seconds:
            entry.attempts = 0
        entry.attempts += 1
        if entry.attempts > self._config.rate_limit_count:
            raise RateLimitError(node_id)

    def register(self, node_id: str, session_id: str, now: float) -> None:
        """Enter the node with a new session; an earlier session is void from now on."""
        previous = self._entries.get(node_id)
        self._entries[node_id] = _Entry(session_id, now, previous.attempts if previous else 0)
        self._orphans.discard(node_id)
        self._arm(node_id, self.choose_period(), now)

    def has_session(self, node_id: str, session_id: str) -> bool:
        """Tell whether ``session_id`` is the node's present session."""
        entry = self._entries.get(node_id)
        return entry is not None and session_id != "" and entry.session_id == session_id

    def check_session(self, node_id: str, session_id: str) -> None:
        """Refuse a call that does not belong to the node's present session.

        Raises:
            NodeNotRegisteredError: the node has no entry.
            SessionInvalidError: it has, with another session or none yet.
        """
        if node_id not in self._entries:
            raise NodeNotRegisteredError
        if not self.has_session(node_id, session_id):
            raise SessionInvalidError

    def heartbeat(self, node_id: str, session_id: str, now: float) -> float:
        """Accept a beat and return the period until the next.

        Raises:
            NodeNotRegisteredError: the node has no entry.
            SessionInvalidError: it has, with another session or none yet.
        """
        self.check_session(node_id, session_id)
        period = self.choose_period()
        self._arm(node_id, period, now)
        return period

    def expire(self, now: float) -> list[Expiry]:
        """Remove and return the nodes whose heartbeat deadline has come."""
        return [
            Expiry(node_id, not self._entries.pop(node_id).session_id)
            for node_id in self._heartbeats.pop_due(now)
        ]

    def orphaned(self, now: float) -> list[str]:
        """Remove and return the DOWN nodes whose tasks are lost by now."""
        return self._orphans.pop_due(now)

    def next_deadline(self) -> float | None:
        """Return when ``expire`` and ``orphaned`` should be called next; None: nothing is to come."""
        moments = [m for m in (self._heartbeats.next(), self._orphans.next()) if m is not None]
        return min(moments, default=None)

    def check_invariants(self) -> None:
        """Raise AssertionError unless the class's invariant holds."""
        self._heartbeats.check_invariants()
        self._orphans.check_invariants()
        assert len(self._entries) == len(self._heartbeats)
        for node_id, entry in self._entries.items():
            assert node_id in self._heartbeats
            assert not (entry.session_id and node_id in self._orphans)

    def _arm(self, node_id: str, period: float, now: float) -> None:
        self._heartbeats.set(node_id, now + self._config.grace_multiplier * period)
