"""Settings that cannot work together are refused with the numbers."""

import pytest

from swarmkit.raft.config import RaftConfig
from swarmkit.raft.errors import RaftConfigError


def test_the_defaults_are_valid() -> None:
    RaftConfig().validate()


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (RaftConfig(heartbeat_seconds=0), "heartbeat of 0 s"),
        (RaftConfig(heartbeat_seconds=0.34), "more than three heartbeats of 0.34 s"),
        (RaftConfig(election_max_seconds=1.0), "must exceed the shortest, 1.0 s"),
        (RaftConfig(max_waiting_proposals=0), "must be positive"),
        (RaftConfig(segment_bytes=100), "at least 4096"),
    ],
)
def test_impossible_settings_are_refused(config: RaftConfig, reason: str) -> None:
    with pytest.raises(RaftConfigError, match=reason):
        config.validate()


def test_the_flags_give_time_outs_between_one_and_two_election_ticks() -> None:
    assert RaftConfig.from_ticks(0.25, 1) == RaftConfig()
    config = RaftConfig.from_ticks(0.5, 2.5)
    config.validate()
    assert (config.heartbeat_seconds, config.election_min_seconds, config.election_max_seconds) == (
        0.5,
        2.5,
        5,
    )


@pytest.mark.parametrize(
    ("heartbeat", "election", "reason"),
    [
        (0, 1, r"^--heartbeat-tick is 0: must be a number of seconds above zero"),
        (-1, 1, r"^--heartbeat-tick is -1: must be"),
        (float("nan"), 1, r"^--heartbeat-tick is nan: must be"),
        (0.25, 0, r"^--election-tick is 0: must be a number"),
        (0.25, float("inf"), r"^--election-tick is inf: must be"),
        (1, 3, r"^--election-tick is 3 s: must be more than three times --heartbeat-tick, 1 s"),
        (0.25, 0.5, r"^--election-tick is 0.5 s: must be more than three times --heartbeat-tick, 0.25 s"),
    ],
)
def test_flags_that_cannot_work_are_refused_by_name(heartbeat: float, election: float, reason: str) -> None:
    with pytest.raises(RaftConfigError, match=reason):
        RaftConfig.from_ticks(heartbeat, election)
