"""The node table (contract/dispatcher-agent.md, 3.2, 3.4, 3.6; cases 2 to 4, 6 to 11)."""

import random

import pytest

from swarmkit.manager.dispatcher.config import DispatcherConfig
from swarmkit.manager.dispatcher.errors import NodeNotRegisteredError, RateLimitError, SessionInvalidError
from swarmkit.manager.dispatcher.nodes import Expiry, NodeTable


@pytest.fixture
def table() -> NodeTable:
    return NodeTable(DispatcherConfig(), random.Random(1))


def register(table: NodeTable, now: float, session_id: str = "s") -> None:
    table.count_attempt("n", now)
    table.register("n", session_id, now)


def test_a_node_known_before_leader_start_registers_three_times_and_fails_the_fourth(
    table: NodeTable,
) -> None:
    table.add_unknown("n", 0.0)
    for now in (1.0, 2.0, 3.0):
        register(table, now)
    with pytest.raises(RateLimitError, match="node n exceeded rate limit count of registrations"):
        register(table, 4.0)


def test_a_new_node_registers_four_times_and_fails_the_fifth(table: NodeTable) -> None:
    for now in (1.0, 2.0, 3.0, 4.0):
        register(table, now)
    with pytest.raises(RateLimitError):
        register(table, 5.0)


def test_refused_attempts_do_not_prolong_the_refusal(table: NodeTable) -> None:
    for now in (0.0, 0.0, 0.0, 0.0):
        register(table, now)
    for now in (1.0, 4.0, 7.9, 8.0):
        with pytest.raises(RateLimitError):
            register(table, now)
    register(table, 8.1)


def test_registrations_within_the_limit_add_up_while_none_is_eight_seconds_old(table: NodeTable) -> None:
    for now in (0.0, 7.0, 14.0, 21.0):
        register(table, now)
    with pytest.raises(RateLimitError):
        register(table, 28.0)
    register(table, 29.5)


def test_expiry_forgets_the_count(table: NodeTable) -> None:
    for _ in range(4):
        register(table, 0.0)
    assert table.expire(20.0) == [Expiry("n", unknown=False)]
    for _ in range(4):
        register(table, 20.0)


def test_a_registered_node_expires_after_three_periods_without_a_beat(table: NodeTable) -> None:
    table.register("n", "s", 100.0)
    assert table.expire(113.4) == []
    assert table.expire(116.5) == [Expiry("n", unknown=False)]
    with pytest.raises(NodeNotRegisteredError, match="node not registered"):
        table.heartbeat("n", "s", 116.6)


def test_an_unknown_node_expires_after_six_periods(table: NodeTable) -> None:
    table.add_unknown("n", 0.0)
    assert table.expire(26.9) == []
    assert table.expire(33.0) == [Expiry("n", unknown=True)]


def test_a_beat_gives_three_more_periods_of_the_length_it_is_told(table: NodeTable) -> None:
    table.register("n", "s", 0.0)
    for beat in range(1, 50):
        period = table.heartbeat("n", "s", beat * 13.0)
        assert 4.5 <= period < 5.5
        assert table.expire(beat * 13.0 + 3 * period - 0.001) == []
        table.check_invariants()
    assert table.expire(49 * 13.0 + 16.5) == [Expiry("n", unknown=False)]


def test_periods_are_spread_over_the_whole_window(table: NodeTable) -> None:
    periods = [table.choose_period() for _ in range(1000)]
    assert min(periods) < 4.55
    assert max(periods) > 5.45


@pytest.mark.parametrize("session_id", ["", "other"])
def test_a_beat_with_a_wrong_id_is_invalid(table: NodeTable, session_id: str) -> None:
    table.register("n", "s", 0.0)
    with pytest.raises(SessionInvalidError, match="session invalid"):
        table.heartbeat("n", session_id, 1.0)


@pytest.mark.parametrize("session_id", ["", "s"])
def test_a_beat_of_an_unknown_node_is_invalid(table: NodeTable, session_id: str) -> None:
    table.add_unknown("n", 0.0)
    with pytest.raises(SessionInvalidError):
        table.heartbeat("n", session_id, 1.0)


def test_only_the_present_session_resumes(table: NodeTable) -> None:
    table.add_unknown("n", 0.0)
    assert not table.has_session("n", "")
    table.register("n", "first", 0.0)
    table.register("n", "second", 0.0)
    assert table.has_session("n", "second")
    assert not table.has_session("n", "first")
    assert not table.has_session("other", "second")


def test_registration_cancels_the_orphan_timer(table: NodeTable) -> None:
    table.add_down("n", 0.0)
    table.add_down("m", 1.0)
    table.register("n", "s", 86_399.0)
    assert table.orphaned(86_400.9) == []
    assert table.orphaned(86_401.0) == ["m"]


@pytest.mark.parametrize("stored", [0.0, -3.0])
def test_a_stored_period_that_is_not_positive_means_the_default(table: NodeTable, stored: float) -> None:
    table.set_period(stored)
    assert 4.5 <= table.choose_period() < 5.5


@pytest.mark.parametrize("stored", [1e-9, 0.01, 0.2, 0.7, 1.0, 60.0])
def test_every_period_is_positive_and_near_the_stored_one(table: NodeTable, stored: float) -> None:
    table.set_period(stored)
    for _ in range(100):
        assert 0.1 <= table.choose_period() <= max(0.2, 1.5 * stored)


def test_the_next_deadline_is_the_earliest_of_all(table: NodeTable) -> None:
    assert table.next_deadline() is None
    table.add_down("down", 0.0)
    assert table.next_deadline() == 86_400.0
    table.register("n", "s", 0.0)
    deadline = table.next_deadline()
    assert deadline is not None
    assert 13.5 <= deadline < 16.5
