"""A disk in memory that can lose power, fill up, and fail. Implements ``swarmkit.raft.files.FileSystem``.

It keeps apart what a program sees and what would survive. ``after_power_cut`` returns a new disk holding what
survived: all that was synced, and of the rest anything from nothing to everything, sector by sector.
"""

import asyncio
import errno
import random
from pathlib import Path

SECTOR_BYTES = 512


class PowerCut(BaseException):
    """The machine is off. Not an Exception: no error handling of the program may run to an end."""


class _Inode:
    def __init__(self, content: bytes = b"") -> None:
        self.content = bytearray(content)
        self.durable = bytes(content)
        #: Lengths of the file, if it is longer than its content: the rest are zeros.
        self.reserved = 0
        self.durably_reserved = 0

    def seen(self) -> bytes:
        return bytes(self.content).ljust(self.reserved, b"\0")


class _FakeFile:
    def __init__(self, disk: "FakeDisk", inode: _Inode) -> None:
        self._disk = disk
        self._inode = inode
        self.is_open = True

    def write(self, data: bytes) -> None:
        assert self.is_open
        self._disk.write(self._inode, data)

    def sync(self) -> None:
        assert self.is_open
        self._disk.sync(self._inode)

    def reserve(self, size: int) -> None:
        assert self.is_open
        self._disk.reserve(self._inode, size)

    def trim(self) -> None:
        assert self.is_open
        self._disk.trim(self._inode)

    def close(self) -> None:
        assert self.is_open, "a descriptor that is closed twice may be somebody else's by then"
        self.is_open = False


class FakeDisk:
    """Files by path; folders exist by themselves.

    Attributes:
        calls: calls so far that change something.
        cut_at: the number of the call during which the power goes, or None.
        space: bytes that still fit, or None for any number. Nothing is reserved while it is a number.
        sync_error: raised by every sync while set.
        log: names of the calls, in order.
        dark: set when the power goes.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.cut_at: int | None = None
        self.space: int | None = None
        self.sync_error: OSError | None = None
        self.log: list[str] = []
        self.dark = asyncio.Event()
        self._names: dict[Path, _Inode] = {}
        self._durable_names: dict[Path, _Inode] = {}
        self._unsynced_names: list[tuple[Path, _Inode | None]] = []

    # -- FileSystem ---------------------------------------------------------------------------------------

    def make_folder(self, folder: Path) -> None:
        pass

    def names(self, folder: Path) -> list[str]:
        return sorted(path.name for path in self._names if path.parent == folder)

    def read(self, path: Path) -> bytes:
        if path not in self._names:
            raise FileNotFoundError(errno.ENOENT, "No such file", str(path))
        return self._names[path].seen()

    def create(self, path: Path) -> _FakeFile:
        self._step("create")
        inode = _Inode()
        self._rename_to(path, inode)
        return _FakeFile(self, inode)

    def reopen(self, path: Path, size: int) -> _FakeFile:
        inode = self._names[path]
        assert not any(inode.content[size:])
        inode.reserved = max(inode.reserved, len(inode.content))
        inode.durably_reserved = max(inode.durably_reserved, len(inode.durable))
        del inode.content[size:]
        inode.durable = inode.durable[:size]
        return _FakeFile(self, inode)

    def cut(self, path: Path, size: int) -> None:
        self._step("cut")
        inode = self._names[path]
        del inode.content[size:]
        inode.durable = bytes(inode.content)
        inode.reserved = inode.durably_reserved = 0

    def rename(self, source: Path, target: Path) -> None:
        self._step("rename")
        inode = self._names[source]
        self._rename_to(target, inode)
        self._rename_to(source, None)

    def remove(self, path: Path) -> None:
        self._step("remove")
        if path not in self._names:
            raise FileNotFoundError(errno.ENOENT, "No such file", str(path))
        self._rename_to(path, None)

    def sync_folder(self, folder: Path) -> None:
        self._step("sync_folder")
        for path, inode in self._unsynced_names:
            _set(self._durable_names, path, inode)
        self._unsynced_names.clear()

    # -- Files --------------------------------------------------------------------------------------------

    def write(self, inode: _Inode, data: bytes) -> None:
        wanted = len(data) - max(inode.reserved - len(inode.content), 0)
        if self.space is not None and wanted > self.space:
            self._step("write")
            inode.content += data[: len(data) - wanted + self.space]
            self.space = 0
            raise OSError(errno.ENOSPC, "No space left on device")
        if self.space is not None:
            self.space -= max(wanted, 0)
        inode.content += data  # a cut during the call may leave any part of it
        self._step("write")

    def reserve(self, inode: _Inode, size: int) -> None:
        self._step("reserve")
        if self.space is None:
            inode.reserved = max(inode.reserved, size)

    def trim(self, inode: _Inode) -> None:
        self._step("trim")
        inode.reserved = 0

    def sync(self, inode: _Inode) -> None:
        self._step("sync")
        if self.sync_error is not None:
            raise self.sync_error
        inode.durable = bytes(inode.content)
        inode.durably_reserved = inode.reserved

    # -- The test's side ----------------------------------------------------------------------------------

    def paths(self, suffix: str) -> list[Path]:
        """Return the files whose names end so, in order."""
        return sorted(path for path in self._names if path.name.endswith(suffix))

    def overwrite(self, path: Path, content: bytes) -> None:
        """Damage a file, durably."""
        inode = self._names[path]
        inode.content[:] = content
        inode.durable = bytes(content)
        inode.reserved = inode.durably_reserved = 0

    def written(self, path: Path) -> bytes:
        """Return the content without the zeros behind it, which are only reserved."""
        return bytes(self._names[path].content).rstrip(b"\0")

    def delete(self, path: Path) -> None:
        """Lose a file, durably."""
        del self._names[path]
        self._durable_names.pop(path, None)

    def after_power_cut(self, rng: random.Random) -> "FakeDisk":
        """Return what the disk holds when the power is back."""
        survived = FakeDisk()
        names = dict(self._durable_names)
        # Changes of names reach the disk in order, so that a first part of them survives.
        for path, inode in self._unsynced_names[: rng.randint(0, len(self._unsynced_names))]:
            _set(names, path, inode)
        for path, inode in names.items():
            survived._names[path] = survived._durable_names[path] = _Inode(_surviving(inode, rng))
        return survived

    def after_kill(self) -> "FakeDisk":
        """Return what the disk holds for the next process if only the one that runs is killed."""
        survived = FakeDisk()
        for path, inode in self._names.items():
            survived._names[path] = survived._durable_names[path] = _Inode(inode.seen())
        return survived

    def _rename_to(self, path: Path, inode: _Inode | None) -> None:
        _set(self._names, path, inode)
        self._unsynced_names.append((path, inode))

    def _step(self, name: str) -> None:
        if self.cut_at is not None and self.calls >= self.cut_at:
            raise PowerCut
        self.calls += 1
        self.log.append(name)
        if self.calls == self.cut_at:
            self.dark.set()
            raise PowerCut


def _set(names: dict[Path, _Inode], path: Path, inode: _Inode | None) -> None:
    if inode is None:
        names.pop(path, None)
    else:
        names[path] = inode


def _surviving(inode: _Inode, rng: random.Random) -> bytes:
    """Return what is read after a power cut: one of its lengths, and in each sector old or new."""
    old, new = inode.durable, bytes(inode.content)
    shortest, longest = max(len(old), inode.durably_reserved), max(len(new), inode.reserved)
    lengths = [shortest, longest]
    if len(new) > max(inode.durably_reserved, inode.reserved):  # it grew while it was written
        lengths.append(rng.randint(shortest, len(new)))
    length = rng.choice(lengths)
    result = bytearray(old.ljust(len(new), b"\0"))
    survival = rng.choice((0.0, 0.5, 1.0))
    for sector in range(len(old) - len(old) % SECTOR_BYTES, len(new), SECTOR_BYTES):
        if rng.random() < survival:
            result[sector : sector + SECTOR_BYTES] = new[sector : sector + SECTOR_BYTES]
    return bytes(result[:length]).ljust(length, b"\0")
