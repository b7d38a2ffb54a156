"""The pause between sessions (contract/dispatcher-agent.md, 1; case 41)."""

import random

import pytest

from swarmkit.agent.backoff import Backoff


def test_the_bound_grows_to_eight_seconds_and_a_registration_resets_it() -> None:
    backoff = Backoff(random.Random(1))
    bounds = []
    for _ in range(9):
        backoff.failed()
        bounds.append(backoff.bound)
    assert bounds == pytest.approx([0.1, 0.3, 0.7, 1.5, 3.1, 6.3, 8.0, 8.0, 8.0])
    backoff.registered()
    assert backoff.delay() == 0.0
    backoff.failed()
    assert backoff.bound == pytest.approx(0.1)


def test_a_delay_is_drawn_evenly_below_the_bound() -> None:
    backoff = Backoff(random.Random(2))
    for _ in range(9):
        backoff.failed()
    delays = [backoff.delay() for _ in range(1000)]
    assert 0 <= min(delays) < 0.1
    assert 7.9 < max(delays) <= 8.0
    assert 3.7 < sum(delays) / 1000 < 4.3
