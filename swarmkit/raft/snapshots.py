"""Snapshot files: written beside the loop, complete or absent, encrypted piece by piece, verified when read.

A file holds a header, the last two entries it covers (the consensus library wants both), the payload in
sealed chunks, and a trailer with length and digest of the payload. Methods block and raise ``StorageError``.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import DecodeError

from swarmkit.ca.cipher import InvalidKeyError, RecordCipher
from swarmkit.log import get_logger
from swarmkit.raft import records
from swarmkit.raft.errors import SnapshotDamagedError, WrongKeyError, write_failure
from swarmkit.raft.files import FileSystem, Readable, remove_leftovers, write_new
from swarmkit.raft.log_pb2 import SnapshotHeader, SnapshotTrailer
from swarmkit.raft.records import Entry, Kind
from swarmkit.raft.wal import Identity

log = get_logger(__name__)

SUFFIX = ".snap"
FORMAT = 1

#: Payload bytes sealed in one record; bounds what encryption copies at a time.
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Image:
    """A snapshot: the state after ``last``, and the entry before it.

    Attributes:
        previous: the last entry but one that the snapshot covers.
        last: the last entry it covers.
        payload: a serialised ``SnapshotPayload``.
    """

    previous: Entry
    last: Entry
    payload: bytes

    @property
    def index(self) -> int:
        """The index of the last entry it covers."""
        return self.last.index

    @property
    def term(self) -> int:
        """The term of that entry."""
        return self.last.term


class SnapshotStore:
    """The folder of snapshots. One thread at a time."""

    def __init__(self, files: FileSystem, folder: Path, cipher: RecordCipher) -> None:
        self._files = files
        self._folder = folder
        self._cipher = cipher

    def use(self, cipher: RecordCipher) -> None:
        """Write and read with ``cipher`` from now on."""
        self._cipher = cipher

    def save(self, image: Image, identity: Identity) -> None:
        """Write a snapshot durably.

        Raises:
            WriteFailedError: it does not exist; older ones are untouched.
        """
        path = self._folder / _name(image.term, image.index)
        try:
            self._files.make_folder(self._folder)
            write_new(self._files, path, encode(image, identity, self._cipher)).close()
        except OSError as error:
            raise write_failure(error, "a snapshot", path) from error

    def load_newest(self) -> Image | None:
        """Read and verify the newest snapshot; None if there is none.

        Raises:
            SnapshotDamagedError: it cannot be trusted. Older ones are not tried: what was acknowledged since
                would be lost silently.
            WrongKeyError: no known key opens it.
        """
        names = self._names()
        if not names:
            return None
        path = self._folder / names[-1]
        try:
            remove_leftovers(self._files, self._folder)
        except OSError as error:
            log.warning("cannot remove an unfinished snapshot", folder=self._folder, error=error)
        return read_snapshot(self._files, path, self._cipher)

    def prune(self, keep_old: int) -> int | None:
        """Delete all but the newest and ``keep_old`` older ones; return the index of the oldest that stays.

        Raises:
            WriteFailedError: some were not deleted; none that was to be kept is gone.
        """
        names = self._names()
        kept = names[-1 - keep_old :]
        for name in names[: len(names) - len(kept)]:
            path = self._folder / name
            try:
                self._files.remove(path)
            except OSError as error:
                raise write_failure(error, "the snapshots' folder", path) from error
        return _index_of(kept[0]) if kept else None

    def _names(self) -> list[str]:
        return snapshot_names(self._files, self._folder)


def snapshot_names(files: Readable, folder: Path) -> list[str]:
    """Return the names of the snapshots in ``folder``, the newest last."""
    names = [n for n in files.names(folder) if n.endswith(SUFFIX) and not n.startswith(".")]
    return sorted(names, key=lambda name: (_index_of(name), name))


def read_snapshot(files: Readable, path: Path, cipher: RecordCipher) -> Image:
    """Read and verify a snapshot file. Changes nothing.

    Raises:
        SnapshotDamagedError: it cannot be trusted.
        WrongKeyError: no key of ``cipher`` opens it.
        OSError: it cannot be read.
    """
    try:
        return decode(files.read(path), cipher)
    except InvalidKeyError as error:
        raise WrongKeyError("no known data key decrypts the snapshot", path) from error
    except records.BadFrameError as error:
        raise SnapshotDamagedError(f"snapshot is damaged ({error.reason})", path, error.offset) from error
    except (ValueError, DecodeError) as error:
        raise SnapshotDamagedError(f"snapshot is damaged ({error})", path) from error


def encode(image: Image, identity: Identity, cipher: RecordCipher) -> Iterator[bytes]:
    """Yield a snapshot file piece by piece."""
    header = SnapshotHeader(
        format=FORMAT,
        index=image.index,
        term=image.term,
        raft_id=identity.raft_id,
        node_id=identity.node_id,
    )
    yield records.frame(Kind.SNAPSHOT, header.SerializeToString())
    for entry in (image.previous, image.last):
        yield records.entry_frame(entry.index, entry.term, cipher.seal(entry.data))
    digest = hashlib.sha256()
    chunks = 0
    for start in range(0, len(image.payload), CHUNK_BYTES):
        piece = image.payload[start : start + CHUNK_BYTES]
        digest.update(piece)
        chunks += 1
        yield records.frame(Kind.CHUNK, cipher.seal(piece))
    trailer = SnapshotTrailer(chunks=chunks, size=len(image.payload), digest=digest.digest())
    yield records.frame(Kind.TRAILER, cipher.seal(trailer.SerializeToString()))


def decode(data: bytes, cipher: RecordCipher) -> Image:
    """Read a snapshot file.

    Raises:
        BadFrameError: a record is damaged.
        ValueError, DecodeError: something is missing or does not fit.
        InvalidKeyError: no key opens it.
    """
    frames = records.read_frames(data)
    first = next(frames, None)
    if first is None or first.kind != Kind.SNAPSHOT:
        raise ValueError("not a snapshot")
    header = SnapshotHeader.FromString(first.body)
    if header.format != FORMAT:
        raise ValueError(f"snapshot format {header.format} is not known")
    entries: list[Entry] = []
    chunks: list[bytes] = []
    trailer: SnapshotTrailer | None = None
    for found in frames:
        if trailer is not None:
            raise ValueError("something follows the end")
        if found.kind == Kind.ENTRY:
            index, term, sealed = records.split_entry(found.body)
            entries.append(Entry(cipher.open(sealed), index, term))
        elif found.kind == Kind.CHUNK:
            chunks.append(cipher.open(found.body))
        elif found.kind == Kind.TRAILER:
            trailer = SnapshotTrailer.FromString(cipher.open(found.body))
        else:
            raise ValueError(f"record kind {found.kind} in a snapshot")
    if trailer is None:
        raise ValueError("its end is missing")
    payload = b"".join(chunks)
    if (len(chunks), len(payload)) != (trailer.chunks, trailer.size):
        raise ValueError("a piece is missing")
    if hashlib.sha256(payload).digest() != trailer.digest:
        raise ValueError("digest does not match")
    if len(entries) != 2 or entries[1].index != entries[0].index + 1:
        raise ValueError("its last entries are missing")
    if (header.index, header.term) != (entries[1].index, entries[1].term):
        raise ValueError("header and entries do not agree")
    return Image(entries[0], entries[1], payload)


def _name(term: int, index: int) -> str:
    return f"{term:016x}-{index:016x}{SUFFIX}"


def _index_of(name: str) -> int:
    try:
        return int(name.removesuffix(SUFFIX).rpartition("-")[2], 16)
    except ValueError:
        return 0
