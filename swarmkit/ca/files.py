"""Files of the state directory: atomic writes with modes, and errors that say what to do. Blocks."""

import contextlib
import os
import secrets
from pathlib import Path

from swarmkit.ca.errors import StateDirError

#: Begins the name of a file that is being written.
TEMPORARY_PREFIX = ".tmp-"
#: Larger files than this are not certificates or keys.
MAX_FILE_BYTES = 1024 * 1024


def write_atomic(path: Path, content: bytes, mode: int) -> None:
    """Replace ``path``: after a crash it holds the old content or the new one, never a part.

    Raises:
        StateDirError: it cannot be written.
    """
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name}-{secrets.token_hex(4)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        temporary.rename(path)
        sync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise StateDirError(f"cannot write {path}: {error.strerror}") from error


def rename(source: Path, target: Path) -> None:
    """Rename durably.

    Raises:
        StateDirError: it cannot be done.
    """
    try:
        source.rename(target)
        sync_directory(target.parent)
    except OSError as error:
        raise StateDirError(f"cannot rename {source} to {target.name}: {error.strerror}") from error


def remove(path: Path) -> None:
    """Delete a file; one that is not there is fine.

    Raises:
        StateDirError: it cannot be deleted.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StateDirError(f"cannot delete {path}: {error.strerror}") from error


def read(path: Path) -> bytes | None:
    """Return a file's content, or None if there is no such file.

    Raises:
        StateDirError: it is there and cannot be read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateDirError(f"cannot read {path}: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise StateDirError(f"{path} is larger than {MAX_FILE_BYTES} bytes: it is not a certificate or key")
    return content


def sync_directory(directory: Path) -> None:
    """Make names that were created or renamed in ``directory`` durable; raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
