"""The pause after failures (contract/security.md, 1). Pure."""

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Random pauses that grow: after n failures uniform in [0, min(base + factor x 2^(n-1), limit)).

    Attributes:
        base: seconds.
        factor: seconds.
        limit: seconds.
    """

    base: float
    factor: float
    limit: float

    def bound(self, failures: int) -> float:
        """Return the seconds that the pause after ``failures`` in a row stays below; 0 after none."""
        if failures <= 0:
            return 0.0
        # 2**30 seconds is beyond any limit; larger exponents would only grow the number.
        return min(self.base + self.factor * 2.0 ** min(failures - 1, 30), self.limit)

    def pause(self, failures: int, rng: random.Random) -> float:
        """Draw the pause in seconds."""
        return rng.uniform(0.0, self.bound(failures))


STATUS_POLLING = Backoff(base=1.0, factor=1.0, limit=30.0)
RENEWAL = Backoff(base=5.0, factor=5.0, limit=3600.0)
