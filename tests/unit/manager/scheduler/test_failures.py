from swarmkit.manager.scheduler.failures import FailureLog

KEY = ("service", 1)


def test_a_node_is_faulty_from_five_failures_in_five_minutes_on() -> None:
    log = FailureLog()
    assert [log.record(KEY, "n", now) for now in (0.0, 10.0, 20.0, 30.0)] == [1, 2, 3, 4]
    assert log.faulty(KEY, 30.0) == {}
    assert log.record(KEY, "n", 40.0) == 5
    assert log.faulty(KEY, 299.0) == {"n": 5}
    assert log.faulty(KEY, 300.0) == {}, "the first one is out of the window"


def test_failures_of_another_version_or_node_are_counted_apart() -> None:
    log = FailureLog()
    for now in range(5):
        log.record(KEY, "n", now)
    log.record(KEY, "m", 5.0)
    assert log.faulty(("service", 2), 5.0) == {}
    assert log.faulty(KEY, 5.0) == {"n": 5}


def test_old_failures_are_dropped_when_a_new_one_is_noted() -> None:
    log = FailureLog()
    for now in range(4):
        log.record(KEY, "n", now)
    assert log.record(KEY, "n", 302.0) == 2


def test_a_deleted_node_loses_its_failures() -> None:
    log = FailureLog()
    for now in range(6):
        log.record(KEY, "n", now)
    log.drop_node("n")
    assert log.faulty(KEY, 6.0) == {}


def test_the_clean_up_forgets_what_is_out_of_the_window_every_five_minutes() -> None:
    log = FailureLog()
    log.record(KEY, "n", 10.0)
    log.record(("other", 0), "n", 250.0)
    log.clean(299.0)
    assert len(log._failures) == 2
    log.clean(310.0)
    assert list(log._failures) == [("other", 0)]
    log.clean(600.0)
    assert len(log._failures) == 1, "the last clean-up is less than five minutes ago"
    log.clean(610.0)
    assert not log._failures
