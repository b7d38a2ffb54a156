"""Atomic writes with modes (contract/security.md, 5)."""

import stat
from pathlib import Path

import pytest

from swarmkit.ca import files
from swarmkit.ca.errors import StateDirError


def test_a_write_replaces_the_content_and_sets_the_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o777)
    files.write_atomic(path, b"new", 0o640)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_content_and_no_leftover(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    (target / "inside").touch()
    with pytest.raises(StateDirError, match=r"cannot write .*folder: Is a directory"):
        files.write_atomic(target, b"new", 0o600)
    assert list(tmp_path.iterdir()) == [target]


def test_reading_tells_absent_from_unreadable(tmp_path: Path) -> None:
    assert files.read(tmp_path / "none") is None
    with pytest.raises(StateDirError, match=r"cannot read .*: Is a directory"):
        files.read(tmp_path)


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(files.MAX_FILE_BYTES + 1)
    with pytest.raises(StateDirError, match="is larger than"):
        files.read(tmp_path / "huge")


def test_removing_what_is_not_there_is_fine(tmp_path: Path) -> None:
    files.remove(tmp_path / "none")
    with pytest.raises(StateDirError, match="cannot delete"):
        files.remove(tmp_path)
    with pytest.raises(StateDirError, match="cannot rename"):
        files.rename(tmp_path / "none", tmp_path / "other")
