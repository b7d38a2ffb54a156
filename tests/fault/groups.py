"""Groups of managers for fault tests: who leads in which term, killing, freezing, coming back."""

import contextlib
import os
import re
import signal
import time
from collections.abc import Collection, Iterator
from datetime import datetime

from swarmkit.raft.errors import StorageError
from tests.fault.disks import Disk, read_disk
from tests.integration.harness import eventually
from tests.integration.managers import Managers

#: A leader is elected one to two seconds after the last; a busy machine adds to that.
ELECTION_SECONDS = 2.0
#: What the swarm may take, after whatever has happened to its leader, until it acknowledges writes again. It
#: promises 3 s, which the benchmark measures on a quiet machine; here others may be at work, the clients are.
WRITABLE_SECONDS = 5.0
#: Longest time without an acknowledged write while the leader leads on. Elections show in the terms.
UNDISTURBED_SECONDS = 2.0

_LEADING = re.compile(r'time=(\S+) .*msg="leading the raft group" .*term=(\d+)')
_LISTENING = re.compile(r'time=(\S+) .*msg="listening for nodes"')


def disk(swarm: Managers, name: str) -> Disk:
    """Read the disk of a manager, which may be running."""

    def look() -> Disk:
        try:
            return read_disk(swarm.folder / name)
        except (FileNotFoundError, StorageError) as error:
            raise AssertionError(str(error)) from error  # it is being written

    return eventually(look, 5, f"the disk of {name} can be read", 0.05)


def terms(swarm: Managers) -> dict[str, int]:
    """Return the term of every manager; who campaigns, or is asked for a vote, raises it."""
    return {name: disk(swarm, name).term for name in swarm.daemons}


def elected(swarm: Managers, name: str) -> list[tuple[float, int]]:
    """Return when, in seconds of the epoch, and in which terms a manager came to lead in its present life."""
    found = _LEADING.findall(swarm.daemons[name].log)
    return [(datetime.fromisoformat(at).timestamp(), int(term)) for at, term in found]


def listening_since(swarm: Managers, name: str) -> float:
    """Return when, in seconds of the epoch, the present life of a manager could be reached by others."""
    found = _LISTENING.search(swarm.daemons[name].log)
    assert found
    return datetime.fromisoformat(found[1]).timestamp()


def check_one_leader_a_term(swarm: Managers) -> None:
    """Check the logs of all lives of all managers: nobody came to lead in a term that another had led."""
    leaders: dict[int, str] = {}
    for path in sorted(swarm.folder.glob("*.log*")):
        for _, term in _LEADING.findall(path.read_text()):
            assert leaders.setdefault(int(term), path.name) == path.name, f"term {term}"


def check_logs(swarm: Managers) -> None:
    """Check that no daemon reported a defect, in any of its lives."""
    for path in swarm.folder.glob("*.log*"):
        text = path.read_text()
        wrong = [line for line in text.splitlines() if "level=error" in line or "Traceback" in line]
        assert not wrong, f"{path.name}: {wrong}"
    check_one_leader_a_term(swarm)


@contextlib.contextmanager
def frozen(swarm: Managers, name: str) -> Iterator[None]:
    """Stop a manager's process for the length of the block."""
    pid = swarm.daemons[name].pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def come_back(swarm: Managers, names: Collection[str]) -> None:
    """Start managers again and wait until all are reachable."""
    for name in names:
        swarm.restart(name)
    for name in names:
        swarm.daemons[name].wait_for_log("listening for control")
    swarm.wait_members(len(swarm.daemons))


def last(seconds: float) -> None:
    """Let a fault, or the work of clients, go on for so long."""
    end = time.monotonic() + seconds

    def over() -> None:
        assert time.monotonic() >= end

    eventually(over, seconds + 1, "it has lasted", 0.02)
