"""Groups of managers for fault tests: who leads in which term, killing, freezing, coming back."""

import contextlib
import functools
import os
import re
import signal
import threading
import time
from collections.abc import Collection, Iterator
from datetime import datetime
from pathlib import Path

import grpc

from swarmkit.api import control_pb2_grpc
from swarmkit.api import messages as api
from swarmkit.raft.errors import StorageError
from tests.fault.clients import Trial
from tests.fault.disks import Disk, check_equal, read_disk
from tests.integration.harness import eventually
from tests.integration.managers import Managers

#: A leader is elected one to two seconds after the last; a busy machine adds to that.
ELECTION_SECONDS = 2.0
#: What the swarm may take, after whatever has happened to its leader, until it acknowledges writes again. It
#: promises 3 s, which the benchmark measures on a quiet machine; here others may be at work, the clients are,
#: and so two followers may campaign at once: then it takes a second election.
WRITABLE_SECONDS = 8.0
#: Longest time for which a slowed process does not run at all: a leader may not take it for gone.
LONGEST_REST_SECONDS = 0.5
#: Longest time without an acknowledged write while the leader leads on. Elections show in the terms.
UNDISTURBED_SECONDS = 2.0

_LEADING = re.compile(r'time=(\S+) .*msg="leading the raft group" .*term=(\d+)')
_CONNECTED = re.compile(r'time=(\S+) .*msg="connected to a manager"')


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


def connected_since(swarm: Managers) -> float:
    """Return when, in seconds of the epoch, two managers could first talk in their present lives."""
    found = [_CONNECTED.search(daemon.log) for daemon in swarm.daemons.values()]
    return min(datetime.fromisoformat(line[1]).timestamp() for line in found if line)


def check_one_leader_a_term(swarm: Managers) -> None:
    """Check the logs of all lives of all managers: nobody came to lead in a term that another had led."""
    leaders: dict[int, str] = {}
    for path in sorted(swarm.folder.glob("*.log*")):
        for _, term in _LEADING.findall(path.read_text()):
            assert leaders.setdefault(int(term), path.name) == path.name, f"term {term}"


class Logs:
    """What the daemons of a swarm log from now on, in this life and in others."""

    def __init__(self, swarm: Managers) -> None:
        self._swarm = swarm
        # By file, whatever its name: a daemon that starts again has its former log renamed.
        found = [path.stat() for path in self._paths()]
        self._passed = {stat.st_ino: stat.st_size for stat in found}

    def _paths(self) -> list[Path]:
        return sorted(self._swarm.folder.glob("*.log*"))

    def _read(self, path: Path) -> str:
        with path.open("rb") as file:
            file.seek(self._passed.get(path.stat().st_ino, 0))
            return file.read().decode(errors="replace")

    def of(self, name: str) -> str:
        """Return what the present life of a daemon has logged since."""
        return self._read(self._swarm.daemons[name].log_path)

    def check(self, but: Collection[str] = ()) -> None:
        """Check that nobody reported a defect, but in lines with some words, or led in another's term."""
        for path in self._paths():
            lines = self._read(path).splitlines()
            wrong = [line for line in lines if "level=error" in line or "Traceback" in line]
            wrong = [line for line in wrong if not any(words in line for words in but)]
            assert not wrong, f"{path.name}: {wrong}"
        check_one_leader_a_term(self._swarm)


def diagnosis(swarm: Managers) -> str:
    """Tell of every manager whom it takes for the leader, what is on its disk, and how its log ends."""
    return "\n".join(_diagnosis_of(swarm, name) for name in swarm.daemons)


def _diagnosis_of(swarm: Managers, name: str) -> str:
    daemon = swarm.daemons[name]
    try:
        found = read_disk(swarm.folder / name)
        on_disk = f"term {found.term}, entries to {found.last}, committed to {found.commit}"
    except (OSError, StorageError) as error:
        on_disk = f"disk cannot be read: {error}"
    try:
        with grpc.insecure_channel(
            f"unix:{swarm.path(name)}", [("grpc.default_authority", "localhost")]
        ) as channel:
            nodes = control_pb2_grpc.ControlStub(channel).ListNodes(api.ListNodesRequest(), timeout=1).nodes
        leads = ", ".join(node.description.hostname for node in nodes if node.manager_status.leader)
    except grpc.RpcError as error:
        leads = f"unknown: {error.details()}"
    end = "\n".join(f"  {line[:300]}" for line in daemon.log.splitlines()[-15:])
    return f"{name}: {'runs' if daemon.running else 'has ended'}; {on_disk}; leader: {leads}\n{end}"


def trial(swarm: Managers, name: str, seed: int = 1) -> Trial:
    """Return clients for all managers that run."""
    running = [manager for manager, daemon in swarm.daemons.items() if daemon.running]
    sockets = {manager: swarm.path(manager) for manager in running}
    return Trial(name, sockets, seed, functools.partial(diagnosis, swarm))


def wait_equal(swarm: Managers, clients: Trial, within: float = 10) -> int:
    """Wait until all disks hold what the leader's does now, which must be what the clients were told.

    Returns:
        The newest entry that all have for certain.
    """
    reach = disk(swarm, swarm.leader()).last
    eventually(
        lambda: clients.check_store(check_equal((disk(swarm, name) for name in swarm.daemons), reach)),
        within,
        "all managers have the same on their disks",
    )
    return reach


def check_all(swarm: Managers, clients: Trial, logs: Logs, but: Collection[str] = ()) -> None:
    """Check what the clients saw, that all disks come to hold it, and what the managers have logged."""
    clients.audit()
    wait_equal(swarm, clients)
    logs.check(but)


@contextlib.contextmanager
def frozen(swarm: Managers, name: str) -> Iterator[None]:
    """Stop a manager's process for the length of the block."""
    pid = swarm.daemons[name].pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


class Slowness:
    """How slow a process was made."""

    def __init__(self) -> None:
        self.ran = 0.0
        self.rested = 0.0

    @property
    def share(self) -> float:
        """The share of the time in which it ran."""
        return self.ran / (self.ran + self.rested)


@contextlib.contextmanager
def slowed(swarm: Managers, name: str, run: float = 0.005, share: float = 0.05) -> Iterator[Slowness]:
    """Let a manager's process run only now and then, for seconds each, for the length of the block.

    Args:
        run: how long it runs at a time, at least: this process may be slow to stop it.
        share: of the time, in which it runs.
    """
    daemon = swarm.daemons[name]
    slowness, over = Slowness(), threading.Event()

    def alternate() -> None:
        ran = run
        while not over.is_set() and daemon.running:
            stopped = time.monotonic()
            with frozen(swarm, name):
                over.wait(min(ran / share - ran, LONGEST_REST_SECONDS))
            resumed = time.monotonic()
            over.wait(run)
            ran = time.monotonic() - resumed
            slowness.rested += resumed - stopped
            slowness.ran += ran

    thread = threading.Thread(target=alternate)
    thread.start()
    try:
        yield slowness
    finally:
        over.set()
        thread.join()


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
