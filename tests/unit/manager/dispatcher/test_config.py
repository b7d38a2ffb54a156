import pytest

from swarmkit.manager.dispatcher import DispatcherConfig


def test_the_daemons_windows() -> None:
    config = DispatcherConfig()
    assert config.flush_seconds == 0.1
    assert config.gather_seconds == 0.005
    assert config.quiet_seconds == 0.02
    assert config.max_changes == 100


@pytest.mark.parametrize("name", ["flush_seconds", "quiet_seconds", "gather_seconds", "orphan_seconds"])
def test_times_that_make_no_sense_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        DispatcherConfig(**{name: 0})
