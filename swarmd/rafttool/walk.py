"""The records of a log one by one, from the oldest on. Only reads. Blocks."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from swarmd.rafttool.folder import RaftFolder
from swarmkit.raft.records import Batch, Entry, Record, Replace
from swarmkit.raft.scan import LogState, ScannedSegment, follow, open_record, scan_log


@dataclass(frozen=True)
class Summary:
    """What a whole log adds up to.

    Attributes:
        first: oldest entry; 0 if there is none.
        last: newest entry.
        term: current term.
        vote: raft id voted for in it, as text; empty: none.
        commit: highest entry known to be committed.
        torn: the segment whose tail is torn, or None.
    """

    first: int
    last: int
    term: int
    vote: str
    commit: int
    torn: ScannedSegment | None


Item: TypeAlias = ScannedSegment | Batch | Record | Summary


def bare(record: Record) -> Record:
    """Return a record without its data: what has to be kept of it to check those that follow."""
    if isinstance(record, Entry):
        return record._replace(data=b"")
    if isinstance(record, Replace):
        return Replace(tuple(entry._replace(data=b"") for entry in record.entries))
    return record


def summary_of(state: LogState, torn: ScannedSegment | None) -> Summary:
    """Return what a replayed log adds up to."""
    first = state.entries[0].index if state.entries else 0
    return Summary(first, state.next_index - 1, state.term, state.vote, state.clamped_commit, torn)


def walk_log(folder: RaftFolder) -> Iterator[Item]:
    """Yield each segment, its batches and their records, in order, and a summary at the end.

    One segment is in memory at a time.

    Raises:
        StorageError: a record cannot be trusted or decrypted; those before it were yielded.
        OSError: a file cannot be read.
    """
    state: LogState | None = None
    for file in scan_log(folder.files, folder.log):
        state = state or LogState.begin(file.segment.header)
        state.commit = file.segment.header.commit
        yield file
        for batch in file.segment.batches:
            yield batch
            for found in batch.frames:
                record = open_record(file.path, found, folder.cipher)
                follow(state, bare(record), file.path, found.offset)
                yield record
            state.commit = max(state.commit, batch.commit)
    if state is not None:
        yield summary_of(state, file if file.segment.torn is not None else None)
