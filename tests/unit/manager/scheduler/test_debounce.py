from swarmkit.manager.scheduler.debounce import Debounce


def test_a_change_is_acted_on_after_fifty_quiet_milliseconds() -> None:
    debounce = Debounce()
    assert not debounce.changed(10.0)
    assert debounce.deadline == 10.05
    assert not debounce.changed(10.04)
    assert debounce.deadline == 10.04 + 0.05
    debounce.expire()
    assert debounce.deadline is None


def test_changes_without_a_pause_are_acted_on_after_a_second() -> None:
    debounce = Debounce()
    assert not debounce.changed(1.0)
    assert not debounce.changed(2.0)
    assert debounce.changed(2.01)
    assert debounce.deadline is None


def test_the_limit_counts_from_the_first_change_that_was_not_acted_on() -> None:
    debounce = Debounce()
    debounce.changed(0.0)
    debounce.expire()
    assert not debounce.changed(5.0)
    assert not debounce.changed(5.9)
