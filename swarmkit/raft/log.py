"""The log as the consensus library sees it: a list in memory whose changes wait for the next sync.

The library appends, truncates and votes by calling this object; nothing of that touches the disk. The driver
takes what has collected (``take_pending``), has it written and synced as one batch in the log thread
(``write``), and only then lets out messages and acknowledgements that speak of it.
"""

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from swarmkit.log import get_logger
from swarmkit.raft.errors import WriteFailedError
from swarmkit.raft.records import Entry, Record, Replace, Term, Truncate
from swarmkit.raft.scan import LogState
from swarmkit.raft.wal import WriteAheadLog

log = get_logger(__name__)

#: Entries of an installed snapshot that the library puts into a cleared log.
_REPLACEMENT_ENTRIES = 2


@dataclass(frozen=True)
class Pending:
    """What one sync has to write.

    Attributes:
        records: in order.
        commit: the commit index that goes beside them.
        drop_before: below it old entries may go.
        alone: write the commit index even if there are no records.
    """

    records: list[Record]
    commit: int
    drop_before: int
    alone: bool = False


class Tail(Sequence[Entry]):
    """The entries from an offset on, without copying them; valid until the log changes."""

    def __init__(self, entries: list[Entry], start: int) -> None:
        self._entries = entries
        self._start = min(start, len(entries))

    def __len__(self) -> int:
        return len(self._entries) - self._start

    def __iter__(self) -> Iterator[Entry]:
        for position in range(self._start, len(self._entries)):
            yield self._entries[position]

    @overload
    def __getitem__(self, item: int) -> Entry: ...
    @overload
    def __getitem__(self, item: slice) -> list[Entry]: ...
    def __getitem__(self, item: int | slice) -> Entry | list[Entry]:
        if isinstance(item, slice):
            start, stop, step = item.indices(len(self))
            return self._entries[self._start + start : self._start + stop : step]
        if not -len(self) <= item < len(self):
            raise IndexError(item)
        return self._entries[item if item < 0 else self._start + item]


class EntryList:
    """Consecutive entries in memory, as the library reads them: by offset from the first one."""

    _entries: list[Entry]

    def __len__(self) -> int:
        return len(self._entries)

    def __bool__(self) -> bool:
        return True  # an empty log must not be taken for no log (contract/pysyncobj-hazards.md, H33)

    @overload
    def __getitem__(self, item: int) -> Entry: ...
    @overload
    def __getitem__(self, item: slice) -> Sequence[Entry]: ...
    def __getitem__(self, item: int | slice) -> Entry | Sequence[Entry]:
        if isinstance(item, slice) and item.stop is None and item.start is not None and item.start >= 0:
            return Tail(self._entries, item.start)
        return self._entries[item]

    @property
    def first_index(self) -> int:
        """Index of the oldest entry in memory."""
        return self._entries[0].index

    @property
    def last_index(self) -> int:
        """Index of the newest entry."""
        return self._entries[-1].index

    def term_at(self, index: int) -> int | None:
        """Return the term of the entry with this index; None if it is not in memory."""
        position = index - self._entries[0].index
        return self._entries[position].term if 0 <= position < len(self._entries) else None

    def first_of_term(self, term: int) -> int:
        """Return the index of the first entry in memory whose term is not below ``term``."""
        return self._entries[0].index + bisect.bisect_left(self._entries, term, key=lambda entry: entry.term)

    def between(self, after: int, upto: int) -> list[Entry]:
        """Return the entries with ``after`` < index <= ``upto``."""
        first = self._entries[0].index
        return self._entries[max(after + 1 - first, 0) : max(upto + 1 - first, 0)]


class RaftLog(EntryList):
    """Entries, term, vote and commit index, with the method names the library calls.

    Invariant: entries are consecutive, there is at least one once the library has been constructed, and
    ``pending`` turns what is on disk into what is in memory.

    Args:
        wal: where batches go.
        state: what was read from it.
    """

    def __init__(self, wal: WriteAheadLog, state: LogState) -> None:
        self._wal = wal
        self._entries = state.entries
        self._term = state.term
        self._vote = state.vote
        self._commit = state.clamped_commit
        self._pending: list[Record] = []
        self._replacing: list[Entry] | None = None
        self._drop_before = 0
        self._record_commit = False
        #: Entries before a snapshot that stay for slow followers; set by the driver.
        self.keep_entries = 500
        #: Entries from here on stay on disk although memory may drop them: an older snapshot is kept.
        self.disk_floor: int | None = None

    # -- What the library calls ---------------------------------------------------------------------------

    def add(self, command: bytes, index: int, term: int) -> None:
        """Append an entry."""
        entry = Entry(command, index, term)
        if self._replacing is not None:
            self._replacing.append(entry)
            if len(self._replacing) == _REPLACEMENT_ENTRIES:
                self._pending.append(Replace(tuple(self._replacing)))
                self._entries, self._replacing = self._replacing, None
            return
        if self._entries and index != self._entries[-1].index + 1:
            raise ValueError(f"entry {index} appended behind entry {self._entries[-1].index}")
        self._entries.append(entry)
        self._pending.append(entry)

    def clear(self) -> None:
        """Begin to replace the log; two ``add`` calls complete it, and all three become one record."""
        self._replacing = []

    def deleteEntriesFrom(self, offset: int) -> None:
        """Truncate: drop the entries from ``offset`` on."""
        if offset < len(self._entries):
            self._pending.append(Truncate(self._entries[offset].index))
            del self._entries[offset:]

    def deleteEntriesTo(self, offset: int) -> None:
        """Drop the first ``offset`` entries, which a durable snapshot covers, except the last few of them."""
        surplus = offset - self.keep_entries
        if surplus <= 0:
            return
        del self._entries[:surplus]
        first = self._entries[0].index
        self._drop_before = first if self.disk_floor is None else min(first, self.disk_floor)

    def setRaftCommitIndex(self, index: int) -> None:
        """Note the commit index; it is written with the next sync, alone only after ``record_commit``."""
        self._commit = index

    def getRaftCommitIndex(self) -> int:
        """Return the commit index, never beyond the last entry."""
        return min(self._commit, self._entries[-1].index) if self._entries else self._commit

    def setCurrentTerm(self, term: int, vote: str | None) -> None:
        """Note term and vote for the next sync."""
        if (term, vote or "") != (self._term, self._vote):
            self._term, self._vote = term, vote or ""
            self._pending.append(Term(self._term, self._vote))

    def getCurrentTerm(self) -> int:
        """Return the current term."""
        return self._term

    def getVotedForNodeId(self) -> str | None:
        """Return whom this node voted for in the current term."""
        return self._vote or None

    def onOneSecondTimer(self) -> None:
        """Do nothing: the library's own journal stores its commit index here, ours with each sync."""

    def _destroy(self) -> None:
        """Do nothing: the node closes the files."""

    # -- What the driver calls ----------------------------------------------------------------------------

    def record_commit(self) -> None:
        """Have the next sync write the commit index in any case."""
        self._record_commit = True

    @property
    def has_pending(self) -> bool:
        """Whether there is something to write or to delete."""
        return bool(self._pending or self._drop_before or self._record_commit)

    def take_pending(self) -> Pending | None:
        """Take what has collected since the last call; None if there is nothing to write or to delete."""
        if self._replacing is not None:
            raise RuntimeError("the log was cleared and not filled again")
        if not self.has_pending:
            return None
        commit = self.getRaftCommitIndex()
        pending = Pending(self._pending, commit, self._drop_before, self._record_commit)
        self._pending, self._drop_before, self._record_commit = [], 0, False
        return pending

    def write(self, pending: Pending) -> None:
        """Write and sync ``pending``. Blocks; call in the log thread, one call at a time.

        Raises:
            WriteFailedError: nothing of it may be acknowledged; the node must stop.
        """
        if pending.records or pending.alone:
            self._wal.append(pending.records, pending.commit)
        if pending.drop_before:
            try:
                self._wal.drop_before(pending.drop_before)
            except WriteFailedError as error:
                # Nothing depends on it but space; the next snapshot tries again.
                log.warning("cannot delete old segments of the raft log", error=error)

    def close(self) -> None:
        """Write the commit index, so that a restart replays all of it at once, and close. Blocks.

        Raises:
            WriteFailedError: the files are closed nevertheless.
        """
        try:
            self._wal.append(self._pending, self.getRaftCommitIndex())
            self._wal.trim()
        finally:
            self._wal.close()

    def abandon(self) -> None:
        """Close the files and write nothing. Blocks."""
        self._wal.close()
