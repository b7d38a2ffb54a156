"""The deadline heap."""

from swarmkit.manager.dispatcher.deadlines import Deadlines


def test_due_keys_come_in_the_order_of_their_deadlines() -> None:
    deadlines = Deadlines()
    for key, moment in (("c", 3.0), ("a", 1.0), ("b", 2.0), ("d", 4.0)):
        deadlines.set(key, moment)
    assert deadlines.next() == 1.0
    assert deadlines.pop_due(3.0) == ["a", "b", "c"]
    assert deadlines.pop_due(3.0) == []
    assert len(deadlines) == 1
    assert "d" in deadlines


def test_a_deadline_moved_to_later_is_not_due_at_its_old_moment() -> None:
    deadlines = Deadlines()
    deadlines.set("a", 1.0)
    deadlines.set("a", 5.0)
    assert deadlines.pop_due(4.9) == []
    assert deadlines.next() == 5.0
    assert deadlines.pop_due(5.0) == ["a"]
    assert deadlines.next() is None


def test_a_deadline_moved_to_earlier_is_due_then_and_only_once() -> None:
    deadlines = Deadlines()
    deadlines.set("a", 5.0)
    deadlines.set("a", 1.0)
    assert deadlines.next() == 1.0
    assert deadlines.pop_due(1.0) == ["a"]
    assert deadlines.pop_due(9.0) == []


def test_a_discarded_key_is_never_due_and_may_be_set_again() -> None:
    deadlines = Deadlines()
    deadlines.set("a", 1.0)
    deadlines.discard("a")
    deadlines.discard("never set")
    assert deadlines.pop_due(2.0) == []
    deadlines.set("a", 3.0)
    assert deadlines.pop_due(2.9) == []
    assert deadlines.pop_due(3.0) == ["a"]


def test_moving_deadlines_to_later_a_million_times_keeps_one_heap_entry_each() -> None:
    deadlines = Deadlines()
    for beat in range(10_000):
        for key in "abc":
            deadlines.set(key, beat + 15.0)
    deadlines.check_invariants()
    assert len(deadlines._heap) == 3
