"""Processes of this machine that tests did not start themselves."""

from collections.abc import Iterable
from pathlib import Path

from tests.integration.harness import eventually


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):  # the second if it ends between opening and reading
        return False


def wait_gone(pids: Iterable[int]) -> None:
    """Wait until none of them runs."""

    def check() -> None:
        running = [pid for pid in pids if alive(pid)]
        assert not running, running

    eventually(check, 30, "processes end")
