from swarmkit.manager.scheduler.debounce import GAP_SECONDS, Debounce


def test_a_change_is_acted_on_after_twenty_quiet_milliseconds() -> None:
    assert GAP_SECONDS == 0.02
    debounce = Debounce()
    assert not debounce.changed(10.0)
    assert debounce.deadline == 10.0 + GAP_SECONDS
    assert not debounce.changed(10.01)
    assert debounce.deadline == 10.01 + GAP_SECONDS
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
