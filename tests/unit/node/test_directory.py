import stat
from pathlib import Path

import pytest

from swarmkit.node.directory import DirectoryError, check_directory


@pytest.mark.parametrize("names", [[], [".lock"], ["lost+found"]])
def test_an_empty_directory_may_be_taken(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).mkdir()
    check_directory(tmp_path)


def test_one_that_is_not_there_yet_may_be_made(tmp_path: Path) -> None:
    check_directory(tmp_path / "new")


@pytest.mark.parametrize("name", ["certificates", "raft", "worker", "state.json"])
def test_one_of_swarmd_is_known_by_what_it_holds(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / "notes.txt").touch()
    check_directory(tmp_path)


def test_one_that_holds_something_else_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for name in ("passwd", "hosts", "fstab", "shadow"):
        (tmp_path / name).touch()
    with pytest.raises(
        DirectoryError, match=r"in use for something else \(fstab, hosts, passwd, \.\.\.\): --state-dir"
    ):
        check_directory(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DirectoryError, match="is not a directory: --state-dir must name a new one"):
        check_directory(tmp_path / "file")
