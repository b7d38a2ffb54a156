"""Plain copies of log and snapshots, for whoever shall look at them without the keys. Blocks."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from swarmd.rafttool.folder import PLAIN_LOG, PLAIN_SNAPSHOTS, RaftFolder, ToolError
from swarmkit.raft import RecordCipher
from swarmkit.raft.files import FILE_MODE, FOLDER_MODE
from swarmkit.raft.records import Kind, batch_frame, frame
from swarmkit.raft.scan import ScannedSegment, open_record, scan_log
from swarmkit.raft.snapshots import encode, read_snapshot, snapshot_names
from swarmkit.raft.wal import Identity, record_frame

_PLAIN = RecordCipher(None)


def decrypt(folder: RaftFolder, state_dir: Path, output: Path) -> None:
    """Write all records in clear below ``output``; what an earlier call wrote is renamed aside.

    Raises:
        ToolError: ``output`` lies in the state directory, which is only read.
        StorageError: something cannot be trusted or decrypted.
        OSError: a file cannot be read or written.
    """
    if output.resolve().is_relative_to(state_dir.resolve()):
        raise ToolError(f"the output directory {output} lies in the state directory: choose another one")
    segments = _fresh(output / PLAIN_LOG)
    identity = Identity(0, "")
    for file in scan_log(folder.files, folder.log):
        identity = Identity(file.segment.header.raft_id, file.segment.header.node_id)
        _write(segments / file.path.name, _plain_segment(file, folder.cipher))
    snapshots = _fresh(output / PLAIN_SNAPSHOTS)
    for name in snapshot_names(folder.files, folder.snapshots):
        image = read_snapshot(folder.files, folder.snapshots / name, folder.cipher)
        _write(snapshots / name, encode(image, identity, _PLAIN))


def _plain_segment(file: ScannedSegment, cipher: RecordCipher) -> Iterator[bytes]:
    yield frame(Kind.SEGMENT, file.segment.header.SerializeToString())
    for batch in file.segment.batches:
        yield batch_frame(batch.number, batch.commit)
        for found in batch.frames:
            yield record_frame(_PLAIN, open_record(file.path, found, cipher))


def _fresh(folder: Path) -> Path:
    """Make an empty folder for this user alone; one that is there gets a number behind its name."""
    if folder.exists():
        number = 1
        while folder.with_name(f"{folder.name}.{number}").exists():
            number += 1
        folder.rename(folder.with_name(f"{folder.name}.{number}"))
    folder.mkdir(mode=FOLDER_MODE, parents=True)
    return folder


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE), "wb") as file:
        file.writelines(pieces)
