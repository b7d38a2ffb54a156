"""The real disk: modes, durability calls in order, leftovers."""

import errno
import os
import stat
from pathlib import Path

import pytest

from swarmkit.raft.files import OsFiles, remove_leftovers, write_new
from tests.fakes.disk import FakeDisk


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_folders_are_0700_and_files_0600(tmp_path: Path) -> None:
    files = OsFiles()
    folder = tmp_path / "raft" / "wal-v3-encrypted"
    files.make_folder(folder)
    files.make_folder(folder)
    write_new(files, folder / "file", [b"a", b"b"]).close()

    assert mode(folder) == mode(folder.parent) == 0o700
    assert mode(folder / "file") == 0o600
    assert files.read(folder / "file") == b"ab"
    assert files.names(folder) == ["file"]


def test_a_file_is_cut_and_written_at_its_new_end(tmp_path: Path) -> None:
    files = OsFiles()
    write_new(files, tmp_path / "file", [b"0123456789"]).close()
    files.cut(tmp_path / "file", 4)
    file = files.reopen(tmp_path / "file", 4)
    file.write(b"abc")
    file.sync()
    file.close()
    assert files.read(tmp_path / "file") == b"0123abc"


def test_what_is_reserved_reads_as_zeros_and_is_written_next(tmp_path: Path) -> None:
    files = OsFiles()
    file = write_new(files, tmp_path / "file", [b"0123"])
    file.reserve(10_000)
    file.write(b"abc")
    file.sync()
    assert files.read(tmp_path / "file") == b"0123abc".ljust(10_000, b"\0")
    file.close()
    again = files.reopen(tmp_path / "file", 7)
    again.write(b"d")
    again.reserve(8)  # there already
    assert files.read(tmp_path / "file") == b"0123abcd".ljust(10_000, b"\0")
    again.trim()
    again.close()
    assert files.read(tmp_path / "file") == b"0123abcd"


def test_a_file_that_cannot_be_made_longer_grows_with_each_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    file = OsFiles().create(tmp_path / "file")
    file.reserve(10_000)
    file.write(b"abc")
    file.close()
    assert OsFiles().read(tmp_path / "file") == b"abc"


def test_renaming_removing_and_a_missing_folder(tmp_path: Path) -> None:
    files = OsFiles()
    files.create(tmp_path / "a").close()
    files.rename(tmp_path / "a", tmp_path / "b")
    files.sync_folder(tmp_path)
    assert files.names(tmp_path) == ["b"]
    files.remove(tmp_path / "b")
    assert files.names(tmp_path) == []
    assert files.names(tmp_path / "none") == []


def test_a_new_file_is_synced_before_it_gets_its_name_and_the_name_before_it_counts() -> None:
    disk = FakeDisk()
    write_new(disk, Path("/f/file"), [b"a", b"b"])
    assert disk.log == ["create", "write", "write", "sync", "rename", "sync_folder"]


def test_a_file_that_cannot_be_written_leaves_nothing() -> None:
    disk = FakeDisk()
    disk.space = 1
    with pytest.raises(OSError, match="No space"):
        write_new(disk, Path("/f/file"), [b"a", b"b"])
    assert disk.paths("") == []


def test_leftovers_are_removed_and_nothing_else() -> None:
    disk = FakeDisk()
    disk.create(Path("/f/.tmp-file"))
    disk.create(Path("/f/file"))
    remove_leftovers(disk, Path("/f"))
    assert disk.names(Path("/f")) == ["file"]
