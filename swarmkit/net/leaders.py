"""Who leads: the seam between the API and the group of managers.

The API asks before every call of a leader's service where it runs; whoever knows the group implements it.
"""

import asyncio
from typing import Protocol

from swarmkit.net.remotes import Remote


class NotLeadingError(Exception):
    """This manager does not lead (any more), or cannot make sure that it does."""


class Leaders(Protocol):
    """What the API must know of the group. All members are used on the event loop, none may block it."""

    @property
    def leading(self) -> bool:
        """Whether calls run here: this manager leads and its leader parts run."""
        ...

    @property
    def taking_over(self) -> bool:
        """Whether this manager was elected and its leader parts are starting.

        Calls that others pass on wait for them here, where a mere follower would refuse.
        """
        ...

    @property
    def leader(self) -> Remote | None:
        """Another manager that is known to lead and connected to this one; None while there is none."""
        ...

    @property
    def leaderless_since(self) -> float | None:
        """Since when no manager, this one included, is known to lead; None while one is.

        On the monotonic clock that the API was given.
        """
        ...

    async def wait_change(self) -> None:
        """Return when any of the above may have changed since the call.

        It must not return at once again and again without a change.
        """
        ...

    async def confirm(self) -> None:
        """Return once it is certain that this manager led at a moment after the call began.

        A leader that was deposed and does not know it yet must never answer a read: another may have
        acknowledged writes meanwhile. Cheap while a lease holds, for it is asked before every Control call;
        otherwise it lasts no longer than a leader without followers takes to notice.

        Raises:
            NotLeadingError: it is not certain.
        """
        ...


class AlwaysLeading:
    """The only manager of a swarm: every call runs here."""

    leading = True
    taking_over = False
    leader = None
    leaderless_since = None

    async def wait_change(self) -> None:
        """Never return: nothing ever changes."""
        await asyncio.get_running_loop().create_future()

    async def confirm(self) -> None:
        """Return at once."""
