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

    def close(self) -> None:
        assert self.is_open, "a descriptor that is closed twice may be somebody else's by then"
        self.is_open = False


class FakeDisk:
    """Files by path; folders exist by themselves.

    Attributes:
        calls: calls so far that change something.
        cut_at: the number of the call during which the power goes, or None.
        space: bytes that still fit, or None for any number.
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
        return bytes(self._names[path].content)

    def create(self, path: Path) -> _FakeFile:
        self._step("create")
        inode = _Inode()
        self._rename_to(path, inode)
        return _FakeFile(self, inode)

    def reopen(self, path: Path, size: int) -> _FakeFile:
        inode = self._names[path]
        if len(inode.content) > size:
            self._step("truncate")
            del inode.content[size:]
            inode.durable = bytes(inode.content)
        return _FakeFile(self, inode)

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
        if self.space is not None and len(data) > self.space:
            self._step("write")
            inode.content += data[: self.space]
            self.space = 0
            raise OSError(errno.ENOSPC, "No space left on device")
        if self.space is not None:
            self.space -= len(data)
        inode.content += data  # a cut during the call may leave any part of it
        self._step("write")

    def sync(self, inode: _Inode) -> None:
        self._step("sync")
        if self.sync_error is not None:
            raise self.sync_error
        inode.durable = bytes(inode.content)

    # -- The test's side ----------------------------------------------------------------------------------

    def paths(self, suffix: str) -> list[Path]:
        """Return the files whose names end so, in order."""
        return sorted(path for path in self._names if path.name.endswith(suffix))

    def overwrite(self, path: Path, content: bytes) -> None:
        """Damage a file, durably."""
        self._names[path].content[:] = content
        self._names[path].durable = bytes(content)

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
            survived._names[path] = survived._durable_names[path] = _Inode(bytes(inode.content))
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
    durable, content = inode.durable, bytes(inode.content)
    choice = rng.randrange(4)
    if choice == 0 or len(content) <= len(durable):
        return durable
    if choice == 1:
        return content[: rng.randint(len(durable), len(content))]
    if choice == 2:
        return content
    # The size reached the disk, and some of the sectors.
    result = bytearray(durable + bytes(len(content) - len(durable)))
    start = len(durable) - len(durable) % SECTOR_BYTES
    for sector in range(start, len(content), SECTOR_BYTES):
        if rng.random() < 0.5:
            result[sector : sector + SECTOR_BYTES] = content[sector : sector + SECTOR_BYTES]
    return bytes(result)
