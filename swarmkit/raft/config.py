"""Settings of a raft node."""

import math
from dataclasses import dataclass
from typing import Self

from swarmkit.raft.errors import RaftConfigError

#: Entries applied in one pass at most, so that the loop is never held for long
#: (contract/pysyncobj-hazards.md, H25 and R8): 500 entries of a real store take a few milliseconds.
MAX_ENTRIES_PER_PASS = 500

#: Bytes of proposals appended in one pass at most; bounds the buffer of one sync.
MAX_BYTES_PER_PASS = 4 << 20


@dataclass(frozen=True)
class RaftConfig:
    """Timing and limits, fixed for the life of a process.

    Attributes:
        heartbeat_seconds: time between two messages of a leader to an idle follower.
        election_min_seconds: shortest time without a leader before a node campaigns; also how long a leader
            keeps leading without hearing from a majority.
        election_max_seconds: longest such time; each wait is random between the two.
        max_waiting_proposals: proposals accepted and not yet decided at most.
        max_waiting_bytes: the same in bytes.
        segment_bytes: size at which the log goes on in a new file.
    """

    heartbeat_seconds: float = 0.25
    election_min_seconds: float = 1.0
    election_max_seconds: float = 2.0
    max_waiting_proposals: int = 20_000
    max_waiting_bytes: int = 64 << 20
    segment_bytes: int = 4 << 20

    @classmethod
    def from_ticks(cls, heartbeat_seconds: float, election_seconds: float) -> Self:
        """Return the timing that the flags ``--heartbeat-tick`` and ``--election-tick`` ask for.

        Election time-outs are random between the election tick and twice that (contract/pysyncobj-hazards.md,
        12). Members may differ in them. Who makes its election tick shorter starts again no sooner than the
        longer one after it stopped: it may have promised a leader to be loyal for that long (``lease.py``).

        Raises:
            RaftConfigError: a sentence that names the flag.
        """
        ticks = (("--heartbeat-tick", heartbeat_seconds), ("--election-tick", election_seconds))
        for flag, seconds in ticks:
            if not (math.isfinite(seconds) and seconds > 0):
                raise RaftConfigError(f"{flag} is {seconds:g}: must be a number of seconds above zero")
        if election_seconds <= 3 * heartbeat_seconds:
            raise RaftConfigError(
                f"--election-tick is {election_seconds:g} s: must be more than three times --heartbeat-tick, "
                f"{heartbeat_seconds:g} s, or one late message costs a leader its office"
            )
        return cls(
            heartbeat_seconds=heartbeat_seconds,
            election_min_seconds=election_seconds,
            election_max_seconds=2 * election_seconds,
        )

    def validate(self) -> None:
        """Refuse settings that cannot work together.

        Raises:
            RaftConfigError: says which and why.
        """
        if self.heartbeat_seconds <= 0:
            raise RaftConfigError(f"heartbeat of {self.heartbeat_seconds} s: must be positive")
        if self.election_min_seconds <= 3 * self.heartbeat_seconds:
            raise RaftConfigError(
                f"election time-out of {self.election_min_seconds} s: must be more than three heartbeats "
                f"of {self.heartbeat_seconds} s, or one late message costs a leader its office"
            )
        if self.election_max_seconds <= self.election_min_seconds:
            raise RaftConfigError(
                f"longest election time-out of {self.election_max_seconds} s: must exceed the shortest, "
                f"{self.election_min_seconds} s, or candidates collide again and again"
            )
        if self.max_waiting_proposals < 1 or self.max_waiting_bytes < 1:
            raise RaftConfigError("limits of waiting proposals must be positive")
        if self.segment_bytes < 4096:
            raise RaftConfigError(f"log segments of {self.segment_bytes} bytes: at least 4096 are needed")


@dataclass(frozen=True)
class SnapshotPolicy:
    """When snapshots are taken and what is kept; read from the cluster object whenever needed.

    Attributes:
        interval: entries between two snapshots; 0 = never.
        keep_entries: entries before a snapshot that stay in the log for slow followers.
        keep_old: snapshots kept besides the newest.
    """

    interval: int = 10_000
    keep_entries: int = 500
    keep_old: int = 0
