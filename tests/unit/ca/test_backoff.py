"""The pause after failures (contract/security.md, 1)."""

import random

from swarmkit.ca.backoff import RENEWAL, STATUS_POLLING


def test_the_bounds_are_those_of_the_contract() -> None:
    assert [RENEWAL.bound(n) for n in range(6)] == [0, 10, 15, 25, 45, 85]
    assert [STATUS_POLLING.bound(n) for n in range(8)] == [0, 2, 3, 5, 9, 17, 30, 30]
    assert RENEWAL.bound(10_000) == 3600


def test_a_pause_lies_below_the_bound() -> None:
    rng = random.Random(1)
    pauses = [RENEWAL.pause(1, rng) for _ in range(1000)]
    assert min(pauses) >= 0
    assert 9 < max(pauses) < 10
    assert RENEWAL.pause(0, rng) == 0
