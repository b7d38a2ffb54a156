"""One daemon per state directory: an advisory lock that ends with the process."""

import fcntl
import os
from pathlib import Path


class LockedError(Exception):
    """Another process uses the state directory."""


class DirectoryLock:
    """Holds ``<state>/.lock`` from construction to ``release``; a crash releases it too."""

    def __init__(self, directory: Path) -> None:
        """Take the lock.

        Raises:
            LockedError: another process holds it.
            OSError: the file cannot be made.
        """
        self._file = os.open(directory / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise LockedError(
                f"the state directory {directory} is in use by another swarmd: stop it, or use another one"
            ) from None

    def release(self) -> None:
        """Give the lock back."""
        os.close(self._file)
