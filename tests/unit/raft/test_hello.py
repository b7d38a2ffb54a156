"""Who may open a stream, and which of two counts (contract/raft-store-manager.md, 13; hazards, 6)."""

import random

import pytest

from swarmkit.api import messages as api
from swarmkit.raft.hello import (
    CROSSING_SECONDS,
    MAX_STRANGERS,
    AddressBook,
    Objection,
    Present,
    examine_answer,
    examine_hello,
    may_follow,
    may_take,
    next_number,
)
from swarmkit.raft.links import REDIAL

OWN, PEER, STRANGER, REMOVED = 1, 2, 3, 4


def member(raft_id: int, addr: str = "10.0.0.1:4242", node_id: str = "") -> api.RaftMember:
    return api.RaftMember(raft_id=raft_id, node_id=node_id or f"node-{raft_id}", addr=addr)


BOOK = AddressBook.of([member(OWN), member(PEER)], [REMOVED])


def objection(source: int, target: int = OWN, node_id: str = "", strangers: int = 0) -> Objection | None:
    refusal = examine_hello(BOOK, OWN, source, target, node_id or f"node-{source}", strangers)
    return None if refusal is None else refusal.objection


@pytest.mark.parametrize("source", [PEER, STRANGER, REMOVED, 1 << 63])
def test_members_strangers_and_removed_ones_may_open_a_stream(source: int) -> None:
    assert objection(source) is None


@pytest.mark.parametrize("source", [0, OWN, (1 << 63) + 1])
def test_a_raft_id_that_nobody_else_can_have_is_refused(source: int) -> None:
    assert objection(source) is Objection.INVALID


def test_a_caller_without_a_node_id_is_refused() -> None:
    refusal = examine_hello(BOOK, OWN, PEER, OWN, "", 0)
    assert refusal is not None
    assert refusal.objection is Objection.INVALID


def test_a_call_for_somebody_else_is_refused() -> None:
    assert objection(PEER, target=9) is Objection.WRONG_TARGET


def test_a_members_raft_id_belongs_to_its_node() -> None:
    assert objection(PEER, node_id="node-9") is Objection.FOREIGN_ID


def test_strangers_are_bounded_and_members_are_not() -> None:
    assert objection(STRANGER, strangers=MAX_STRANGERS - 1) is None
    assert objection(STRANGER, strangers=MAX_STRANGERS) is Objection.CROWDED
    assert objection(PEER, strangers=MAX_STRANGERS) is None


def test_what_answers_must_be_the_member_that_was_dialled() -> None:
    assert examine_answer(OWN, PEER, PEER, OWN) is None
    for source, target in ((STRANGER, OWN), (PEER, STRANGER)):
        refusal = examine_answer(OWN, PEER, source, target)
        assert refusal is not None
        assert refusal.objection is Objection.WRONG_TARGET


def test_dialled_is_who_has_an_address_and_a_node_and_was_not_removed() -> None:
    book = AddressBook.of(
        [
            member(OWN),
            member(PEER),
            member(5, addr=""),
            member(REMOVED),
            api.RaftMember(raft_id=6, addr="10.0.0.6:1"),
        ],
        [REMOVED],
    )
    assert set(book.to_dial(OWN)) == {PEER}


def test_who_dials_anew_has_lost_its_stream_unless_the_dial_crossed_the_taking() -> None:
    present = Present(number=5, taken_at=10.0)
    assert may_take(None, dialled=True, now=10.0) is None
    assert may_take(None, dialled=False, now=10.0) is None
    assert may_take(present, dialled=False, now=10.0 + CROSSING_SECONDS) is None
    assert may_take(present, dialled=False, now=10.0 + CROSSING_SECONDS / 2) is not None
    assert may_take(present, dialled=True, now=99.0) is not None  # it got one while it dialled


def test_a_stream_is_followed_only_to_a_higher_number() -> None:
    assert may_follow(None, 0) is None
    assert may_follow(Present(5, 0.0), 6) is None
    assert may_follow(Present(5, 0.0), 5) is not None
    assert may_follow(Present(5, 0.0), 4) is not None


def test_numbers_grow_within_a_process_and_over_restarts() -> None:
    first = next_number(0, 1_700_000_000.0)
    assert next_number(first, 1_700_000_000.0) == first + 1
    assert next_number(first, 1.0) == first + 1  # the clock was set back
    assert next_number(0, 1_700_000_001.0) > first
    assert next_number(0, 4_000_000_000.0) < 1 << 64


def test_pauses_between_dials_begin_at_a_fifth_of_a_second_and_end_at_two() -> None:
    rng = random.Random(1)
    assert all(REDIAL.pause(1, rng) <= 0.2 for _ in range(100))
    assert [round(REDIAL.bound(failures), 1) for failures in (1, 2, 3, 4, 5, 6, 60)] == [
        0.2,
        0.3,
        0.5,
        0.9,
        1.7,
        2.0,
        2.0,
    ]
