"""Pure computations over many objects, written so that whoever drives them may pause.

A computation of type ``Steps[T]`` is a generator that yields (nothing) after each small piece of work and
returns its result. ``pacing.Pacer.drive`` runs one on the event loop, ``finish`` runs one in one go.
"""

from collections.abc import Generator
from typing import TypeAlias, TypeVar

T = TypeVar("T")

Steps: TypeAlias = Generator[None, None, T]


def finish(steps: Steps[T]) -> T:
    """Run a computation to its end without a pause and return its result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
