"""Changing an object of the swarm: read it, change a copy of its spec, write that at the version read."""

from collections.abc import Callable
from typing import Any, TypeVar

from swarmctl.client import OutOfSequence

T = TypeVar("T")
R = TypeVar("R")

#: Tries while the swarm itself writes to the object in between.
ATTEMPTS = 10


def edit(read: Callable[[], T], write: Callable[[T], R]) -> R:
    """Read and write; again if the swarm itself wrote in between, which moves the version, not the spec.

    The version keeps one user from undoing what another has done (contract/cli.md, 2.2). The progress of an
    update or a new certificate is no such thing, and no reason to refuse a user's next command.

    Args:
        read: returns the object as it is now, with ``id`` and ``spec``.
        write: changes it, and sends it at that version.

    Raises:
        OutOfSequence: somebody else has changed the spec, or the swarm wrote each time.
        Failure: whatever else the two raise.
    """
    found: Any = read()
    for _ in range(ATTEMPTS - 1):
        try:
            return write(found)
        except OutOfSequence:
            before, found = found, read()
            if (found.id, found.spec) != (before.id, before.spec):
                raise
    return write(found)
