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
