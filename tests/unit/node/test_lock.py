from pathlib import Path

import pytest

from swarmkit.node.lock import DirectoryLock, LockedError


def test_a_second_daemon_on_a_directory_is_refused(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path)
    with pytest.raises(LockedError, match="is in use by another swarmd"):
        DirectoryLock(tmp_path)
    lock.release()
    DirectoryLock(tmp_path).release()


def test_the_lock_file_is_private(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path)
    assert (tmp_path / ".lock").stat().st_mode & 0o777 == 0o600
    lock.release()
