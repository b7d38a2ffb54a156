"""The file operations that durability rests on; tests put a disk that loses power behind this seam."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

#: Prefix of files that are being written; whatever carries it at start is left over and removed.
TEMPORARY_PREFIX = ".tmp-"

FILE_MODE = 0o600
FOLDER_MODE = 0o700


class AppendFile(Protocol):
    """A file open at the end of what was written. One thread at a time."""

    def write(self, data: bytes) -> None:
        """Write all of ``data`` at the end; raises OSError, possibly after a part of it."""
        ...

    def reserve(self, size: int) -> None:
        """Make the file ``size`` bytes long with zeros, if the disk can; the end of what was written stays.

        While a file grows with each write, each sync has to put its new length on the disk as well.
        """
        ...

    def trim(self) -> None:
        """Cut off what was reserved and not written, not durably; raises OSError."""
        ...

    def sync(self) -> None:
        """Return once all that was written is on the disk (fdatasync)."""
        ...

    def close(self) -> None:
        """Close; writes nothing."""
        ...


class Readable(Protocol):
    """What reading needs of a disk. All methods block and raise OSError."""

    def names(self, folder: Path) -> list[str]:
        """Return the names in ``folder``, sorted; none if it does not exist."""
        ...

    def read(self, path: Path) -> bytes:
        """Return the whole content."""
        ...


class FileSystem(Readable, Protocol):
    """What the log and the snapshots need of a disk. All methods block and raise OSError."""

    def make_folder(self, folder: Path) -> None:
        """Make ``folder`` and its missing parents, mode 0700, durably."""
        ...

    def create(self, path: Path) -> AppendFile:
        """Open a new, empty file, mode 0600; the name is durable only after ``sync_folder``."""
        ...

    def reopen(self, path: Path, size: int) -> AppendFile:
        """Open an existing file to go on behind its first ``size`` bytes; zeros may follow, nothing else."""
        ...

    def cut(self, path: Path, size: int) -> None:
        """Cut a file to its first ``size`` bytes, durably."""
        ...

    def rename(self, source: Path, target: Path) -> None:
        """Rename atomically; durable only after ``sync_folder``."""
        ...

    def remove(self, path: Path) -> None:
        """Delete a file."""
        ...

    def sync_folder(self, folder: Path) -> None:
        """Make names created, renamed and removed in ``folder`` durable."""
        ...


class _OsFile:
    def __init__(self, descriptor: int, end: int = 0) -> None:
        self._descriptor = descriptor
        self._end = end

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self._descriptor, view, self._end)
            self._end += written
            view = view[written:]

    def reserve(self, size: int) -> None:
        with contextlib.suppress(OSError):  # the file system cannot, or is full: the next write will tell
            os.posix_fallocate(self._descriptor, self._end, size - self._end)

    def trim(self) -> None:
        os.ftruncate(self._descriptor, self._end)

    def sync(self) -> None:
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


class OsFiles:
    """The operating system's files."""

    def make_folder(self, folder: Path) -> None:
        """Make ``folder`` and its missing parents, mode 0700, durably."""
        if folder.is_dir():
            return
        self.make_folder(folder.parent)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=FOLDER_MODE)
        self.sync_folder(folder.parent)

    def names(self, folder: Path) -> list[str]:
        """Return the names in ``folder``, sorted; none if it does not exist."""
        try:
            return sorted(os.listdir(folder))
        except FileNotFoundError:
            return []

    def read(self, path: Path) -> bytes:
        """Return the whole content."""
        return path.read_bytes()

    def create(self, path: Path) -> AppendFile:
        """Open a new, empty file, mode 0600."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        return _OsFile(os.open(path, flags, FILE_MODE))

    def reopen(self, path: Path, size: int) -> AppendFile:
        """Open an existing file to go on behind its first ``size`` bytes; zeros may follow, nothing else."""
        return _OsFile(os.open(path, os.O_WRONLY | os.O_CLOEXEC), size)

    def cut(self, path: Path, size: int) -> None:
        """Cut a file to its first ``size`` bytes, durably."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.ftruncate(descriptor, size)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Rename atomically."""
        os.rename(source, target)

    def remove(self, path: Path) -> None:
        """Delete a file."""
        os.remove(path)

    def sync_folder(self, folder: Path) -> None:
        """Make names created, renamed and removed in ``folder`` durable."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_new(files: FileSystem, path: Path, pieces: Iterable[bytes]) -> AppendFile:
    """Write a file that appears complete or not at all, durably; return it open at its end.

    Raises:
        OSError: nothing appeared at ``path``, except that after a failed sync of the folder it may have.
    """
    temporary = path.with_name(TEMPORARY_PREFIX + path.name)
    file = files.create(temporary)
    try:
        for piece in pieces:
            file.write(piece)
        file.sync()
        files.rename(temporary, path)
        files.sync_folder(path.parent)
    except BaseException:
        file.close()
        with contextlib.suppress(OSError):  # left over: removed at the next start
            files.remove(temporary)
        raise
    return file


def remove_leftovers(files: FileSystem, folder: Path) -> None:
    """Delete files whose writing was interrupted."""
    for name in files.names(folder):
        if name.startswith(TEMPORARY_PREFIX):
            files.remove(folder / name)
