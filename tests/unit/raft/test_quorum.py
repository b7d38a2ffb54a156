"""contract/raft-store-manager.md, 12 and D13: majorities, removals, heirs."""

import pytest

from swarmkit.raft.quorum import Heir, choose_heir, majority, survives_removal


@pytest.mark.parametrize(("count", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)])
def test_a_majority_is_more_than_half(count: int, needed: int) -> None:
    assert majority(count) == needed


@pytest.mark.parametrize(
    ("members", "reachable", "removed", "safe"),
    [
        ({1, 2, 3}, {1, 2, 3}, 3, True),
        ({1, 2, 3}, {1, 2}, 3, True),  # the dead one: the cheap case
        ({1, 2, 3}, {1, 2}, 2, False),  # a living one while another is down
        ({1, 2, 3}, {1}, 2, False),  # two down: nothing can be removed
        ({1, 2, 3}, {1}, 3, False),
        ({1, 2}, {1}, 2, True),
        ({1, 2, 3, 4, 5}, {1, 2, 3}, 5, True),
        ({1, 2, 3, 4, 5}, {1, 2, 3}, 3, False),
    ],
)
def test_a_removal_must_leave_a_majority_that_can_be_reached(
    members: set[int], reachable: set[int], removed: int, safe: bool
) -> None:
    assert survives_removal(members, reachable, removed) is safe


def test_the_heir_is_the_farthest_and_of_those_the_longest_connected() -> None:
    assert choose_heir([]) is None
    assert choose_heir([Heir(2, 10, 0.0), Heir(3, 11, 50.0)]) == 3
    assert choose_heir([Heir(2, 10, 7.0), Heir(3, 10, 5.0), Heir(4, 10, 6.0)]) == 3
