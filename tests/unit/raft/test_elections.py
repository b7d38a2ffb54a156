"""contract/pysyncobj-hazards.md, H11, H14, H32 and 11: when a node campaigns."""

import itertools
import random
from dataclasses import replace

import pytest

from swarmkit.raft.elections import Elections, Situation, Step

#: A follower of a group of three whose deadline has just passed.
DUE = Situation(
    now=10.1,
    deadline=10.0,
    term=3,
    is_member=True,
    peers=frozenset({2, 3}),
    any_connected=True,
    unapplied=False,
    stalled=False,
)


@pytest.fixture
def elections() -> Elections:
    return Elections(random.Random(1))


def test_a_deadline_starts_a_question_not_a_campaign(elections: Elections) -> None:
    assert elections.step(replace(DUE, now=9.9)) is Step.WAIT
    assert elections.step(DUE) is Step.ASK


def test_a_majority_of_answers_starts_the_campaign_above_all_their_terms(elections: Elections) -> None:
    waiting = replace(DUE, deadline=12.0, peers=frozenset({2, 3, 4, 5}))
    number = elections.open_round(3)
    elections.granted(2, number, 3)
    elections.granted(2, number, 3)  # doubled on the way
    assert elections.step(waiting) is Step.WAIT
    elections.granted(3, number, 9)
    assert elections.step(waiting) is Step.CAMPAIGN
    assert elections.base_term == 9
    assert not elections.transferring
    assert elections.step(waiting) is Step.WAIT


def test_answers_to_an_earlier_question_do_not_count(elections: Elections) -> None:
    old = elections.open_round(3)
    elections.granted(2, elections.open_round(3) + 1, 3)
    elections.granted(3, old, 3)
    assert elections.step(replace(DUE, deadline=12.0)) is Step.WAIT


def test_answers_of_who_is_no_member_do_not_count(elections: Elections) -> None:
    elections.granted(8, elections.open_round(3), 3)
    assert elections.step(replace(DUE, deadline=12.0)) is Step.WAIT


def test_a_leader_that_is_heard_makes_the_question_moot(elections: Elections) -> None:
    number = elections.open_round(3)
    elections.heard_leader(10.0)
    elections.granted(2, number, 3)
    assert elections.step(replace(DUE, deadline=12.0)) is Step.WAIT


def test_a_new_term_makes_the_question_moot(elections: Elections) -> None:
    elections.granted(2, elections.open_round(3), 3)
    assert elections.step(replace(DUE, deadline=12.0, term=4)) is Step.WAIT


def test_silence_is_counted_from_the_arrival_of_the_last_message(elections: Elections) -> None:
    assert elections.silence(1e9) == float("inf")
    elections.heard_leader(4.0)
    elections.heard_leader(3.0)
    assert elections.silence(4.5) == 0.5
    elections.forget_leader()
    assert elections.silence(4.5) == float("inf")


def test_a_stall_is_no_silence_of_the_leader(elections: Elections) -> None:
    assert elections.step(replace(DUE, stalled=True)) is Step.POSTPONE


def test_who_is_connected_to_nobody_does_not_even_ask(elections: Elections) -> None:
    assert elections.step(replace(DUE, any_connected=False)) is Step.POSTPONE


def test_who_is_no_member_never_campaigns_but_is_heard(elections: Elections) -> None:
    elections.force(3)
    stranger = replace(DUE, is_member=False)
    assert elections.step(stranger) is Step.KNOCK
    assert elections.step(replace(stranger, now=9.0)) is Step.WAIT
    assert elections.step(replace(DUE, now=9.0)) is Step.WAIT  # the wish of the leader is forgotten


def test_an_answer_to_no_question_counts_for_none(elections: Elections) -> None:
    for voter in (2, 3):
        elections.granted(voter, 0, 9)
    assert elections.step(DUE) is Step.ASK
    elections.open_round(3)
    assert elections.base_term == 3
    assert elections.step(replace(DUE, now=9.0)) is Step.WAIT


def test_a_lone_member_is_left_to_its_own_deadline(elections: Elections) -> None:
    assert elections.step(replace(DUE, peers=frozenset())) is Step.WAIT


def test_committed_entries_are_applied_before_any_candidacy(elections: Elections) -> None:
    assert elections.step(replace(DUE, unapplied=True)) is Step.HOLD
    elections.force(3)
    waiting = replace(DUE, deadline=12.0)
    assert elections.step(replace(waiting, unapplied=True)) is Step.HOLD
    assert elections.step(waiting) is Step.CAMPAIGN


def test_the_leaders_wish_needs_no_question_and_marks_the_campaign(elections: Elections) -> None:
    elections.heard_leader(10.0)
    elections.force(3)
    assert elections.step(replace(DUE, deadline=12.0)) is Step.CAMPAIGN
    assert elections.transferring
    assert elections.base_term == 0
    assert elections.step(replace(DUE, deadline=12.0)) is Step.WAIT


def test_the_wish_of_a_leader_is_void_in_another_term(elections: Elections) -> None:
    """Kept, it would depose a later leader that relies on a lease."""
    elections.force(3)
    later = replace(DUE, deadline=12.0, term=4)
    assert elections.step(replace(later, unapplied=True)) is Step.WAIT
    assert elections.step(later) is Step.WAIT


@pytest.mark.parametrize("begun", ["nothing", "a question", "a wish of the leader"])
@pytest.mark.parametrize("now", [9.9, 10.0, 10.1])
def test_an_idle_node_would_wait_whatever_else_it_sees(elections: Elections, begun: str, now: float) -> None:
    if begun == "a question":
        elections.open_round(3)
    elif begun == "a wish of the leader":
        elections.force(3)
    idle = elections.is_idle(now, DUE.deadline)
    assert idle == (begun == "nothing" and now <= DUE.deadline)
    for is_member, peers, stalled in itertools.product(
        (True, False), (DUE.peers, frozenset()), (True, False)
    ):
        seen = replace(DUE, now=now, is_member=is_member, peers=peers, stalled=stalled)
        assert not idle or elections.step(seen) is Step.WAIT
