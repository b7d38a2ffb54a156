"""The dispatcher's constants (contract/dispatcher-agent.md, 1)."""

from dataclasses import dataclass

#: Heartbeat period while the cluster object names none, in seconds.
DEFAULT_HEARTBEAT_SECONDS = 5.0

#: No worker is told to beat more often than this, whatever the cluster object says: a period of zero makes
#: a worker spin.
MIN_HEARTBEAT_SECONDS = 0.1

#: Weight of each manager in a session message.
MANAGER_WEIGHT = 10


@dataclass(frozen=True)
class DispatcherConfig:
    """What tests shorten and operators leave alone. Times are in seconds.

    PARITY: the original writes statuses on a fixed beat of 100 ms and waits for 100 quiet ms before it sends
    assignments; half of the time from a service to its running task went there. Here the first status after a
    quiet time is written at once, and assignments wait for 20 quiet ms. Batches under load are as large.

    Attributes:
        heartbeat_epsilon_seconds: half the width of the window each period is drawn from.
        grace_multiplier: periods without a beat until a registered node is DOWN.
        unknown_grace_multiplier: the same for a node not heard of since this manager leads.
        rate_limit_count: counted registrations accepted within ``rate_limit_seconds``.
        rate_limit_seconds: silence after which the count starts again.
        orphan_seconds: how long a node is DOWN before its tasks count as lost.
        flush_seconds: shortest time between two writes; so also the longest wait of a status.
        gather_seconds: what a status waits for others at the least, also after a quiet time.
        flush_entries: pending tasks or nodes that cause a write at once; bounds the memory they take.
        quiet_seconds: a stream sends when nothing has changed for this long ...
        max_changes: ... or when so many changes have come together.
        stop_seconds: how long stopping waits for streams to say good-bye.
    """

    heartbeat_epsilon_seconds: float = 0.5
    grace_multiplier: int = 3
    unknown_grace_multiplier: int = 6
    rate_limit_count: int = 3
    rate_limit_seconds: float = 8.0
    orphan_seconds: float = 24 * 3600.0
    flush_seconds: float = 0.1
    gather_seconds: float = 0.005
    flush_entries: int = 10_000
    quiet_seconds: float = 0.02
    max_changes: int = 100
    stop_seconds: float = 5.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 0 or (value == 0 and name != "heartbeat_epsilon_seconds"):
                raise ValueError(f"{name} must be positive, not {value}")
