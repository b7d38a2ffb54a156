"""Looking at every byte of log and snapshots. Only reads. Blocks.

What a start would accept is accepted here, and everything it would refuse is named, each file by itself: one
that is damaged does not hide another.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf.message import DecodeError

from swarmd.rafttool.folder import RaftFolder
from swarmd.rafttool.render import torn_tail
from swarmd.rafttool.walk import bare, summary_of
from swarmkit.raft.entries import read_command
from swarmkit.raft.errors import ForeignStateError, LogDamagedError, StorageError
from swarmkit.raft.records import Entry, Record, Replace
from swarmkit.raft.replica import read_payload
from swarmkit.raft.scan import LogState, ScannedSegment, follow, open_record, scan_segment, segment_names
from swarmkit.raft.snapshots import Image, read_snapshot, snapshot_names
from swarmkit.raft.storage import missing_replacement
from swarmkit.store.codec import decode_entry, decode_snapshot
from swarmkit.store.errors import DivergenceError


@dataclass
class _Count:
    """What a segment holds."""

    records: int = 0
    entries: list[int] = field(default_factory=list)

    def take(self, record: Record) -> None:
        self.records += 1
        if isinstance(record, Entry):
            self.entries.append(record.index)
        elif isinstance(record, Replace):
            self.entries += [entry.index for entry in record.entries]


@dataclass
class _Log:
    """What the segments add up to; ``whole`` until one of them is damaged."""

    state: LogState | None = None
    torn: ScannedSegment | None = None
    whole: bool = True


class Verification:
    """One look at a raft folder.

    Attributes:
        problems: what is wrong, in sentences; complete when ``lines`` has ended.
    """

    def __init__(self, folder: RaftFolder) -> None:
        self._folder = folder
        self.problems: list[str] = []

    def lines(self) -> Iterator[str]:
        """Yield what is found, file by file, and then what it adds up to.

        Raises:
            OSError: a file cannot be read.
        """
        log = _Log()
        yield from self._log_lines(log)
        newest = None
        for name in snapshot_names(self._folder.files, self._folder.snapshots):
            newest = None
            try:
                newest = read_snapshot(self._folder.files, self._folder.snapshots / name, self._folder.cipher)
                yield self._snapshot(self._folder.snapshots / name, newest)
            except StorageError as error:
                yield self._problem(str(error))
        if not self.problems:
            yield from self._sum(log, newest)

    def _log_lines(self, log: _Log) -> Iterator[str]:
        folder = self._folder
        names = segment_names(folder.files, folder.log)
        if not names:
            yield self._problem(f"there is no raft log: {folder.log}")
        before: ScannedSegment | None = None
        for name in names:
            try:
                file = scan_segment(folder.files, folder.log / name, name == names[-1], before)
                header = file.segment.header
                if folder.node_id not in (None, header.node_id):
                    reason = f"the raft log belongs to node {header.node_id}, this is node {folder.node_id}"
                    raise ForeignStateError(reason, file.path)
                if log.whole:
                    log.state = log.state or LogState.begin(header)
                yield self._segment(file, log.state if log.whole else None)
            except StorageError as error:
                yield self._problem(str(error))
                before, log.whole = None, False
                continue
            if file.segment.torn is not None:
                log.torn = file
                yield f"  {torn_tail(file)}"
            before = file

    def _problem(self, text: str) -> str:
        self.problems.append(text)
        return f"DAMAGED {text}"

    def _segment(self, file: ScannedSegment, state: LogState | None) -> str:
        """Decrypt and parse the records of a segment; check that they follow if ``state`` is what precedes.

        Raises:
            StorageError: one of them is wrong.
        """
        count = _Count()
        if state is not None:
            state.commit = file.segment.header.commit
        for batch in file.segment.batches:
            for found in batch.frames:
                record = open_record(file.path, found, self._folder.cipher)
                _check_content(record, file.path, found.offset)
                count.take(record)
                if state is not None:
                    follow(state, bare(record), file.path, found.offset)
            if state is not None:
                state.commit = max(state.commit, batch.commit)
        entries = f"entries {min(count.entries)} to {max(count.entries)}" if count.entries else "no entries"
        return (
            f"{file.path}: {file.size} bytes, {len(file.segment.batches)} batches,"
            f" {count.records} records, {entries}"
        )

    def _snapshot(self, path: Path, image: Image) -> str:
        try:
            payload = read_payload(image)
            objects = sum(len(table) for table in decode_snapshot(payload.store).values())
        except (ValueError, DecodeError, DivergenceError) as error:
            return self._problem(f"snapshot cannot be restored ({error}): {path}")
        members = len(payload.membership.members)
        return (
            f"{path}: {len(image.payload)} bytes, up to entry {image.index} of term {image.term},"
            f" {members} members, {objects} objects"
        )

    def _sum(self, log: _Log, image: Image | None) -> Iterator[str]:
        assert log.state is not None
        try:
            if missing_replacement(log.state, image, self._folder.log) is not None:
                yield "The newest snapshot was being installed; the next start finishes that"
        except StorageError as error:
            yield self._problem(str(error))
        found = summary_of(log.state, log.torn)
        commit = max(found.commit, image.index if image is not None else 0)
        last_term = log.state.entries[-1].term if log.state.entries else 0
        # By the last entry's term, then its index, a group or an operator knows the newest of its logs.
        yield (
            f"Entries {found.first} to {found.last}, the last one of term {last_term},"
            f" committed up to {commit}, current term {found.term}"
        )


def _check_content(record: Record, path: Path, offset: int) -> None:
    """Refuse an entry that could not be applied whatever the state.

    Raises:
        LogDamagedError: says why.
    """
    if not isinstance(record, Entry):
        return
    try:
        content = read_command(record.data)
        if content is not None and content.WhichOneof("content") == "store":
            for _ in decode_entry(content.store):
                pass
    except (ValueError, DecodeError, DivergenceError) as error:
        raise LogDamagedError(f"entry {record.index} cannot be read ({error})", path, offset) from error
