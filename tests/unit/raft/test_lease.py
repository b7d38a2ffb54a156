"""contract/pysyncobj-hazards.md, 10; raft dissertation, 6.4: when a majority of echoes proves leadership."""

import pytest

from swarmkit.raft.lease import LEASE_FRACTION, ROUND_SECONDS, Lease

PROMISE = 1.0
LENGTH = LEASE_FRACTION * PROMISE
THREE = frozenset({2, 3})
FIVE = frozenset({2, 3, 4, 5})


@pytest.fixture
def lease() -> Lease:
    return Lease(PROMISE)


def test_a_lease_begins_when_the_round_was_sent_not_when_it_is_answered(lease: Lease) -> None:
    number = lease.stamp(10.0, False)
    assert not lease.holds(10.0, THREE)
    lease.echoed(2, number, PROMISE)  # whenever that is
    assert lease.holds(10.0 + LENGTH - 0.001, THREE)
    assert not lease.holds(10.0 + LENGTH, THREE)


def test_a_majority_of_five_are_two_others(lease: Lease) -> None:
    first = lease.stamp(10.0, False)
    second = lease.stamp(10.5, False)
    lease.echoed(2, second, PROMISE)
    assert lease.confirmed(FIVE) == 0
    assert not lease.holds(10.5, FIVE)
    lease.echoed(3, first, PROMISE)
    assert lease.confirmed(FIVE) == first
    assert lease.holds(10.0 + LENGTH - 0.001, FIVE)
    assert not lease.holds(10.0 + LENGTH, FIVE)
    lease.echoed(4, second, PROMISE)
    assert lease.confirmed(FIVE) == second
    assert lease.holds(10.0 + LENGTH, FIVE)


def test_the_members_of_the_moment_count(lease: Lease) -> None:
    number = lease.stamp(10.0, False)
    lease.echoed(2, number, PROMISE)
    assert lease.holds(10.1, THREE)
    assert not lease.holds(10.1, frozenset({3, 4}))  # 2 was removed meanwhile
    assert not lease.holds(10.1, THREE | {4})  # a fourth came


def test_a_lone_member_needs_nobody(lease: Lease) -> None:
    assert lease.holds(10.0, frozenset())
    assert lease.confirmed(frozenset()) > lease.number


def test_what_is_sent_at_once_shares_a_round_unless_somebody_asked_since(lease: Lease) -> None:
    assert lease.stamp(10.0, False) == lease.stamp(10.0, False) == 1
    assert lease.stamp(10.0, True) == 2
    assert lease.stamp(10.0 + ROUND_SECONDS / 2, False) == 2
    assert lease.stamp(10.0 + ROUND_SECONDS, False) == 3


def test_a_shared_round_counts_from_its_beginning(lease: Lease) -> None:
    lease.stamp(10.0, False)
    lease.echoed(2, lease.stamp(10.0 + ROUND_SECONDS / 2, False), PROMISE)
    assert not lease.holds(10.0 + LENGTH, THREE)


def test_an_echo_of_a_round_that_was_never_sent_or_is_old_changes_nothing(lease: Lease) -> None:
    lease.stamp(10.0, False)
    newest = lease.stamp(10.5, False)
    for number in (0, newest + 1, 1 << 62):
        lease.echoed(2, number, PROMISE)
    assert lease.confirmed(THREE) == 0
    lease.echoed(2, newest, PROMISE)
    lease.echoed(2, newest - 1, PROMISE)  # overtaken on the way
    assert lease.confirmed(THREE) == newest
    assert lease.holds(10.5 + LENGTH - 0.001, THREE)


def test_an_echo_that_is_too_late_for_a_lease_still_proves_leadership(lease: Lease) -> None:
    number = lease.stamp(10.0, False)
    lease.stamp(15.0, False)
    lease.echoed(2, number, PROMISE)
    assert lease.confirmed(THREE) == number
    assert not lease.holds(15.0, THREE)


def test_a_member_with_a_shorter_time_out_makes_the_lease_shorter(lease: Lease) -> None:
    number = lease.stamp(10.0, False)
    lease.echoed(2, number, 0.5)
    assert not lease.holds(10.0 + LEASE_FRACTION * 0.5, THREE)
    lease.echoed(3, number, 3600.0)  # no longer than the own
    assert lease.holds(10.0 + LENGTH - 0.001, THREE)
    assert not lease.holds(10.0 + LENGTH, THREE)


def test_after_a_handover_was_begun_there_is_no_lease_in_this_term_but_rounds_still_prove(
    lease: Lease,
) -> None:
    lease.echoed(2, lease.stamp(10.0, False), PROMISE)
    lease.void()
    assert not lease.holds(10.1, THREE)
    number = lease.stamp(20.0, True)
    lease.echoed(2, number, PROMISE)
    assert not lease.holds(20.0, THREE)
    assert lease.confirmed(THREE) == number
    lease.begin()
    lease.echoed(2, lease.stamp(30.0, False), PROMISE)
    assert lease.holds(30.1, THREE)


def test_a_new_leadership_begins_with_nothing(lease: Lease) -> None:
    lease.echoed(2, lease.stamp(10.0, False), PROMISE)
    lease.begin()
    assert not lease.holds(10.1, THREE)
    assert lease.confirmed(THREE) == 0


def test_rounds_that_can_give_no_lease_any_more_are_forgotten(lease: Lease) -> None:
    for step in range(10_000):
        lease.stamp(step * ROUND_SECONDS, False)
    assert len(lease._begun) <= PROMISE / ROUND_SECONDS + 2
