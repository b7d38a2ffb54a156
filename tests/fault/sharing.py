"""One group of managers for the tests of a module, another one after a test that failed."""

import contextlib
from collections.abc import Callable
from typing import Generic, TypeVar

from tests.integration.managers import Managers

M = TypeVar("M", bound=Managers)


class SharedGroup(Generic[M]):
    """A group that is made when somebody needs it and lent to one test after the other.

    Who fails leaves it in any state: cut apart, with a manager gone, with a full disk. What comes next would
    fail because of that, so it gets a new group.

    Args:
        make: makes a group, and removes all that belongs to it.
    """

    def __init__(self, make: Callable[[], contextlib.AbstractContextManager[M]]) -> None:
        self._make = make
        self._stack = contextlib.ExitStack()
        self._made: M | None = None

    def get(self) -> M:
        """Return the group."""
        if self._made is None:
            self._made = self._stack.enter_context(self._make())
        return self._made

    def close(self) -> None:
        """Remove the group; ``get`` makes another."""
        self._made = None
        self._stack.close()
