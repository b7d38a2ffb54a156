"""A state directory as the tool sees it: log, snapshots and what decrypts them. Only reads. Blocks."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf.message import DecodeError

from swarmkit.api import messages as api
from swarmkit.ca import files as ca_files
from swarmkit.ca.credentials import Credentials, CredentialsError
from swarmkit.ca.keyfile import CERTIFICATE_NAME, KEY_NAME, KeyFile
from swarmkit.ca.statedir import CERTIFICATES
from swarmkit.clock import SystemClock
from swarmkit.raft import ApplyError, MembershipError, RecordCipher
from swarmkit.raft.files import OsFiles, Readable
from swarmkit.raft.log_pb2 import SnapshotPayload
from swarmkit.raft.replica import Replica, read_payload
from swarmkit.raft.scan import LogState, replay, scan_log
from swarmkit.raft.snapshots import Image, read_snapshot, snapshot_names
from swarmkit.raft.storage import LOG_FOLDER, SNAPSHOT_FOLDER, missing_replacement
from swarmkit.store.errors import DivergenceError
from swarmkit.store.store import Store

#: What ``decrypt`` writes, below its output directory (contract/cli.md, 11).
PLAIN_LOG = "wal-decrypted"
PLAIN_SNAPSHOTS = "snap-decrypted"


class ToolError(Exception):
    """The tool cannot do what it was asked to; the text says why and what to do."""


@dataclass(frozen=True)
class RaftFolder:
    """Log and snapshots of one manager.

    Attributes:
        log: the folder of segments.
        snapshots: the folder of snapshots.
        cipher: opens their records.
        node_id: of the certificate beside them; None: there is none.
        in_use: whether a running swarmd holds the directory.
        files: the disk; nothing on it can be changed through this.
    """

    log: Path
    snapshots: Path
    cipher: RecordCipher
    node_id: str | None = None
    in_use: bool = False
    files: Readable = field(default_factory=OsFiles)


def open_folder(state_dir: Path, unlock_key: bytes) -> RaftFolder:
    """Find log, snapshots and data keys below a state directory, or what ``decrypt`` has made of them.

    Raises:
        ToolError: there is no raft log, or no key for it.
        NodeLockedError: the unlock key does not open the key file.
        StateDirError: the key file cannot be read.
    """
    try:
        names = set(os.listdir(state_dir))
    except NotADirectoryError:
        raise ToolError(f"{state_dir} is not a directory: --state-dir must name one of swarmd") from None
    except OSError as error:
        raise ToolError(f"cannot read the state directory {state_dir}: {error.strerror}") from error
    if PLAIN_LOG in names:
        return RaftFolder(state_dir / PLAIN_LOG, state_dir / PLAIN_SNAPSHOTS, RecordCipher(None))
    folder = RaftFolder(state_dir / LOG_FOLDER, state_dir / SNAPSHOT_FOLDER, RecordCipher(None))
    if not folder.files.names(folder.log) and not folder.files.names(folder.snapshots):
        raise ToolError(
            f"{state_dir} holds no raft log: --state-dir must name the state directory of a manager"
        )
    certificates = state_dir / CERTIFICATES
    headers = KeyFile(certificates, unlock_key).peek()
    keys = [] if headers is None else [headers.pending_data_key, headers.data_key]
    known = [key for key in keys if key is not None]
    if not known:
        raise ToolError(
            f"{certificates / KEY_NAME} holds no data key, and nothing else decrypts the raft log beside it"
        )
    cipher = RecordCipher(*known)
    return RaftFolder(folder.log, folder.snapshots, cipher, _node_id(certificates), _is_in_use(state_dir))


def _node_id(certificates: Path) -> str | None:
    certificate = ca_files.read(certificates / CERTIFICATE_NAME)
    if certificate is None:
        return None
    try:
        return Credentials.from_pem(b"", certificate, b"").node_id
    except (CredentialsError, ValueError) as error:
        raise ToolError(f"{certificates / CERTIFICATE_NAME} cannot be read: {error}") from error


def _is_in_use(state_dir: Path) -> bool:
    """Tell whether somebody holds the directory's lock. To try it would stop a swarmd that is starting."""
    try:
        inode = (state_dir / ".lock").stat().st_ino
        locks = Path("/proc/locks").read_text()
    except OSError:
        return False
    return any(f":{inode} " in line for line in locks.splitlines())


def newest_snapshot(folder: RaftFolder) -> Image | None:
    """Read the newest snapshot; None if there is none.

    Raises:
        StorageError: it cannot be trusted.
        OSError: it cannot be read.
    """
    names = snapshot_names(folder.files, folder.snapshots)
    return read_snapshot(folder.files, folder.snapshots / names[-1], folder.cipher) if names else None


def parse_snapshot(image: Image) -> tuple[SnapshotPayload, api.StoreSnapshot]:
    """Return what a snapshot carries, and the objects in it.

    Raises:
        ToolError: it cannot be parsed.
    """
    try:
        payload = read_payload(image)
        return payload, api.StoreSnapshot.FromString(payload.store)
    except (ValueError, DecodeError) as error:
        raise ToolError(f"the snapshot up to entry {image.index} cannot be read: {error}") from error


def latest_state(folder: RaftFolder) -> Store:
    """Return the objects after the newest snapshot and the committed entries behind it.

    Raises:
        StorageError: log or snapshot cannot be trusted.
        ApplyError: an entry cannot be applied.
        DivergenceError, ToolError: the snapshot cannot be restored.
        OSError: a file cannot be read.
    """
    # The log first: a manager that runs may make a snapshot meanwhile, and delete what it covers.
    state: LogState | None = None
    for file in scan_log(folder.files, folder.log):
        state = state or LogState.begin(file.segment.header)
        replay(file, state, folder.cipher)
    image = newest_snapshot(folder)
    store = Store(SystemClock())
    replica = Replica(store)
    if image is not None:
        parse_snapshot(image)
        replica.restore(image)
    if state is None or missing_replacement(state, image, folder.log) is not None:
        return store
    covered = 0 if image is None else image.index
    for entry in state.entries:
        if covered < entry.index <= state.clamped_commit:
            try:
                replica.apply(entry.index, entry.data)
            except MembershipError:
                continue  # it was refused on all members alike
            except (ValueError, DecodeError, DivergenceError) as error:
                raise ApplyError(entry.index, error) from error
    return store
