"""When to schedule after changes (contract/scheduler.md, 4)."""

#: A change is acted on after this many quiet seconds ...
#: PARITY: the original waits for 50 ms. Tasks that belong together come in one commit or in quick succession;
#: a pass over what is left costs little here, so a lone task need not wait that long.
GAP_SECONDS = 0.020
#: ... or when a change comes more than this many seconds after the first one that was not acted on.
LIMIT_SECONDS = 1.0


class Debounce:
    """Gathers changes that come in a burst.

    Attributes:
        deadline: when to schedule if no further change comes; None if nothing waits.
    """

    def __init__(self) -> None:
        self.deadline: float | None = None
        self._opened = 0.0

    def changed(self, now: float) -> bool:
        """Note a change; returns whether to schedule at once."""
        if self.deadline is None:
            self._opened = now
        elif now - self._opened > LIMIT_SECONDS:
            self.deadline = None
            return True
        self.deadline = now + GAP_SECONDS
        return False

    def expire(self) -> None:
        """Note that the deadline passed and scheduling was done for it."""
        self.deadline = None
