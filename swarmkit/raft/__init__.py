"""Replication: PySyncObj driven by the event loop, with this project's own log, snapshots and cycle.

``README.md`` in this folder explains the words, the states and the order of a cycle.
"""

from swarmkit.ca.cipher import InvalidKeyError, RecordCipher
from swarmkit.raft.config import RaftConfig, SnapshotPolicy
from swarmkit.raft.errors import (
    ApplyError,
    DiskFullError,
    ForeignStateError,
    LibraryError,
    LogDamagedError,
    MembershipError,
    ProposalQueueFullError,
    QuorumRiskError,
    RaftConfigError,
    RaftError,
    RecoveryError,
    SnapshotDamagedError,
    SnapshotGapError,
    StorageError,
    TransferError,
    WriteFailedError,
    WrongKeyError,
)
from swarmkit.raft.node import JoinReply, RaftNode, RaftStatus

__all__ = [
    "ApplyError",
    "DiskFullError",
    "ForeignStateError",
    "InvalidKeyError",
    "JoinReply",
    "LibraryError",
    "LogDamagedError",
    "MembershipError",
    "ProposalQueueFullError",
    "QuorumRiskError",
    "RaftConfig",
    "RaftConfigError",
    "RaftError",
    "RaftNode",
    "RaftStatus",
    "RecordCipher",
    "RecoveryError",
    "SnapshotDamagedError",
    "SnapshotGapError",
    "SnapshotPolicy",
    "StorageError",
    "TransferError",
    "WriteFailedError",
    "WrongKeyError",
]
