"""The errors of replication.

RaftError
├── RaftConfigError             settings that cannot work together (also a ValueError)
├── LibraryError                the consensus library is not the one this code was written for
├── StorageError                something is wrong with the files; carries ``path`` and ``offset``
│   ├── LogDamagedError         a record of the log cannot be trusted
│   ├── SnapshotDamagedError    a snapshot cannot be trusted
│   ├── SnapshotGapError        the log does not reach back to the snapshot, or the snapshot is missing
│   ├── WrongKeyError           no known data key opens a record
│   ├── ForeignStateError       the files belong to another node
│   └── WriteFailedError        writing or syncing failed; never retried
│       └── DiskFullError       ... because the disk is full
├── ApplyError                  the state machine refused a committed entry: managers have diverged
├── MembershipError             an invalid change of the group; nothing was changed
│   └── QuorumRiskError         the group might not be able to decide any more afterwards
├── RecoveryError               no new group can be forced from what is on this disk
├── TransferError               the leadership was not handed over
└── ProposalQueueFullError      too many proposals wait (also a ProposalError); try again later
"""

import errno
from pathlib import Path

from swarmkit.store.proposer import ProposalError


class RaftError(Exception):
    """Root of this package's errors."""


class RaftConfigError(RaftError, ValueError):
    """Settings that cannot work together; the text holds the numbers."""


class LibraryError(RaftError):
    """The installed consensus library lacks something this code reaches into."""


class StorageError(RaftError):
    """Something is wrong with the files of the raft directory.

    Attributes:
        path: the file.
        offset: the byte in it, or None if the file as a whole is meant.
    """

    def __init__(self, reason: str, path: Path, offset: int | None = None) -> None:
        place = f"{path}" if offset is None else f"{path} at byte {offset}"
        super().__init__(f"{reason}: {place}")
        self.path = path
        self.offset = offset


class LogDamagedError(StorageError):
    """A record of the log cannot be trusted. Nothing was changed; restore the file or rejoin this manager."""


class SnapshotDamagedError(StorageError):
    """A snapshot cannot be trusted. Nothing was changed; restore the file or rejoin this manager."""


class SnapshotGapError(StorageError):
    """The log does not reach back to the newest snapshot, or begins behind a snapshot that is missing."""


class WrongKeyError(StorageError):
    """No known data key opens a record."""


class ForeignStateError(StorageError):
    """The raft directory was written by another node."""


class WriteFailedError(StorageError):
    """Writing or syncing failed. What was to be written is not acknowledged, and nothing is retried."""


class DiskFullError(WriteFailedError):
    """There is no room left for the log or a snapshot."""


class ApplyError(RaftError):
    """The state machine failed on a committed entry. The managers have diverged; this node must stop."""

    def __init__(self, index: int, cause: BaseException) -> None:
        super().__init__(f"cannot apply log entry {index}: {cause}")
        self.index = index


class MembershipError(RaftError):
    """A change of the group that is not valid now; nothing was changed."""


class QuorumRiskError(MembershipError):
    """A removal after which the reachable members might not be a majority; nothing was changed."""


class RecoveryError(RaftError):
    """No new group can be forced from what is on this disk; the text says why. Nothing was changed."""


class TransferError(RaftError):
    """The leadership was not handed over to whom it was meant for; the text says why."""


class ProposalQueueFullError(RaftError, ProposalError):
    """Too many proposals wait for the log. Nothing was appended; try again later."""

    def __init__(self, waiting: int) -> None:
        super().__init__(f"raft: too many proposals are waiting ({waiting})")


def write_failure(error: OSError, what: str, path: Path) -> WriteFailedError:
    """Turn an operating system's error into one that says what an operator can do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(f"no space left to write {what}; free some and start again", path)
    return WriteFailedError(f"cannot write {what} ({error.strerror or error})", path)
