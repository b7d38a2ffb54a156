"""The pause before a new session (contract/dispatcher-agent.md, 1: Session backoff). Pure."""

import random

#: First step, factor and bound of the backoff, in seconds.
FIRST = 0.1
FACTOR = 2.0
LIMIT = 8.0


class Backoff:
    """Grows with each failure, 0.1, 0.3, 0.7, 1.5 ... 8 s; a registration sets it back to 0."""

    def __init__(self, source: random.Random) -> None:
        self._random = source
        self._current = 0.0

    @property
    def bound(self) -> float:
        """The next delay is below this, in seconds."""
        return self._current

    def failed(self) -> None:
        """Note that a session failed."""
        self._current = min(FIRST + FACTOR * self._current, LIMIT)

    def registered(self) -> None:
        """Note that a manager took this node in."""
        self._current = 0.0

    def delay(self) -> float:
        """Return how long to wait now, in seconds, drawn evenly from 0 up to the bound."""
        return self._random.uniform(0.0, self._current)
