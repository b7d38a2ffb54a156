"""Managers whose state directories are small file systems of their own, which can be full or hang."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.managers import Managers

MEGABYTES = 48


def _succeeds(*words: str | Path) -> bool:
    try:
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def _unmount(folder: Path) -> None:
    # Somebody may still look at it; then it goes once nobody does.
    if not _succeeds("umount", folder):
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextlib.contextmanager
def volume(folder: Path) -> Iterator[None]:
    """Mount a file system of its own at an empty folder: ext4 on a loop device, or in memory.

    Where neither can be, nothing is mounted. The image lies beside the folder, and is removed with it.
    """
    image = folder.with_suffix(".img")
    with image.open("wb") as file:
        file.truncate(MEGABYTES << 20)
    # Without blocks that are kept for root: it must be able to fill it.
    formatted = os.geteuid() == 0 and _succeeds("mkfs.ext4", "-q", "-F", "-m", "0", image)
    mounted = formatted and _succeeds("mount", "-o", "loop,noatime", image, folder)
    if not mounted and os.geteuid() == 0:
        mounted = _succeeds("mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", folder)
    try:
        if mounted:
            shutil.rmtree(folder / "lost+found", ignore_errors=True)
            folder.chmod(0o700)
        yield
    finally:
        if mounted:
            _unmount(folder)


def skip_unless_freezable(folder: Path) -> None:
    """Skip the test unless the file system that is mounted at a folder can be made to hang."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    mounted = (str(folder), "ext4") in {(words[1], words[2]) for words in mounts}
    if not mounted or not shutil.which("fsfreeze"):
        pytest.skip("needs root, loop devices, ext4 and fsfreeze to make a disk hang")


@contextlib.contextmanager
def hanging(folder: Path) -> Iterator[None]:
    """For the length of the block let nothing that is written to a file system come to an end."""
    subprocess.run(["fsfreeze", "--freeze", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", folder], check=True)


@contextlib.contextmanager
def managers_on_volumes(count: int) -> Iterator[Managers]:
    """A swarm of managers, each on a volume where that can be made."""
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="swk-", dir="/tmp"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        for number in range(1, count + 1):
            own = folder / f"node-{number}"
            own.mkdir(mode=0o700)
            stack.enter_context(volume(own))
        made = Managers(folder, "simulated")
        stack.callback(made.stop)
        made.grow(count)
        yield made
