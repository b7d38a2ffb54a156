"""The replicated object store: tables, selectors, transactions, watches (docs/architecture.md, The store)."""

from swarmkit.store import by
from swarmkit.store.batch import Batch
from swarmkit.store.errors import (
    CompactedError,
    DivergenceError,
    ExistsError,
    InUseError,
    InvalidObjectError,
    InvalidSelectorError,
    NameConflictError,
    NotExistError,
    SequenceError,
    StoreError,
    VersionAheadError,
)
from swarmkit.store.events import Action, Commit, Event, Watch
from swarmkit.store.objects import O, StoreObject
from swarmkit.store.proposer import (
    MAX_PROPOSAL_BYTES,
    LeadershipLostError,
    ProposalError,
    ProposalTooLargeError,
    Proposer,
    StateMachine,
    StoppedError,
)
from swarmkit.store.store import Store
from swarmkit.store.transaction import Reader, Tx
from swarmkit.store.watch import Watcher

__all__ = [
    "MAX_PROPOSAL_BYTES",
    "Action",
    "Batch",
    "Commit",
    "CompactedError",
    "DivergenceError",
    "Event",
    "ExistsError",
    "InUseError",
    "InvalidObjectError",
    "InvalidSelectorError",
    "LeadershipLostError",
    "NameConflictError",
    "NotExistError",
    "O",
    "ProposalError",
    "ProposalTooLargeError",
    "Proposer",
    "Reader",
    "SequenceError",
    "StateMachine",
    "StoppedError",
    "Store",
    "StoreError",
    "StoreObject",
    "Tx",
    "VersionAheadError",
    "Watch",
    "Watcher",
    "by",
]
