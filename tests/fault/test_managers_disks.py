"""One manager of three has trouble with its disk, or was away: the others go on, and nothing is lost.

The tests share one group, whose third manager has a small file system of its own where that can be made.
Disks that are slow for seconds are simulated: tests/sim/test_raft_disks.py.
"""

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from swarmkit.api import control_pb2_grpc
from swarmkit.api import messages as api
from swarmkit.raft.files import TEMPORARY_PREFIX
from swarmkit.raft.storage import LOG_FOLDER, SNAPSHOT_FOLDER
from tests.fault.clients import Trial
from tests.fault.disks import check_equal, newest_segment
from tests.fault.groups import WRITABLE_SECONDS, check_one_leader_a_term, come_back, disk, last
from tests.integration.bad_input import assert_ended
from tests.integration.harness import SCALE, eventually
from tests.integration.managers import REACHABLE, Managers
from tests.ports import free_port

pytestmark = pytest.mark.slow

#: Whose disk is damaged.
DAMAGED = "node-2"
#: Who has a small file system.
CRAMPED = "node-3"
#: So many entries are written while a manager is away, and snapshots are so far apart; in a soak, more.
AWAY_ENTRIES, SNAPSHOT_INTERVAL, KEPT_ENTRIES = 1500, 500, 50
LONG_AWAY_ENTRIES = 12_000


@pytest.fixture(scope="module")
def swarm() -> Iterator[Managers]:
    folder = Path(tempfile.mkdtemp(prefix="swk-", dir="/tmp"))
    made = Managers(folder, "simulated")
    cramped = folder / CRAMPED
    cramped.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m,mode=0700", "tmpfs", str(cramped)]
    mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        made.grow(3)
        yield made
    finally:
        made.stop()
        if mounted:
            subprocess.run(["umount", str(cramped)], check=True)
        shutil.rmtree(folder, ignore_errors=True)


def trial(swarm: Managers, name: str) -> Trial:
    """Return clients for all managers that run."""
    running = [manager for manager, daemon in swarm.daemons.items() if daemon.running]
    return Trial(name, {manager: swarm.path(manager) for manager in running})


def audit(swarm: Managers, clients: Trial) -> None:
    """Check what the clients saw, and that all managers have it on their disks."""
    clients.audit()
    eventually(
        lambda: clients.check_store(check_equal(disk(swarm, name) for name in swarm.daemons)),
        10,
        "all managers have the same on their disks",
    )


@contextlib.contextmanager
def others_go_on(swarm: Managers, away: str, name: str) -> Iterator[None]:
    """A manager is killed; for the length of the block clients of the others must not be held up."""
    swarm.daemons[away].kill()
    clients = trial(swarm, name)
    with clients.clients(count=2, pause=0.1):
        clients.wait_for_write(time.monotonic())
        since = time.monotonic()
        yield
        last(0.3)
        assert clients.longest_pause(since) <= WRITABLE_SECONDS * SCALE
    clients.audit()


def set_snapshots(swarm: Managers, interval: int, kept: int) -> None:
    """Have snapshots taken after so many entries, and so many kept before each."""
    control = swarm.at(swarm.leader())
    cluster = control.ask("ListClusters", api.ListClustersRequest()).clusters[0]
    cluster.spec.raft.snapshot_interval = interval
    cluster.spec.raft.log_entries_for_slow_followers = kept
    request = api.UpdateClusterRequest(
        cluster_id=cluster.id, cluster_version=cluster.meta.version, spec=cluster.spec
    )
    control.ask("UpdateCluster", request)


def write_entries(swarm: Managers, count: int, name: str) -> None:
    """Write so many entries, many at a time: updates of one node's label would do, but objects count too."""
    waiting: deque[Any] = deque()
    with grpc.insecure_channel(
        f"unix:{swarm.path(swarm.leader())}", [("grpc.default_authority", "localhost")]
    ) as channel:
        create = control_pb2_grpc.ControlStub(channel).CreateService
        spec = api.ServiceSpec()
        spec.task.container.image = "local:1"
        spec.replicated.replicas = 0
        for number in range(count):
            spec.annotations.name = f"{name}-{number}"
            waiting.append(create.future(api.CreateServiceRequest(spec=spec), timeout=60 * SCALE))
            if len(waiting) >= 200:
                waiting.popleft().result()
        for call in waiting:
            call.result()


def comes_back_with_everything(
    swarm: Managers, entries: int, kept: int, clients: Trial, within: float
) -> None:
    """A follower that was away through a compaction of the log is brought up to date by a snapshot."""
    leader, away = swarm.leader(), swarm.followers()[0]
    swarm.daemons[away].kill()
    write_entries(swarm, entries, f"{away}-away")

    def compacted() -> None:
        image = disk(swarm, leader).image
        assert image is not None
        assert image.index - kept > disk(swarm, away).last

    eventually(compacted, 20, "the leader has forgotten entries that the follower lacks")
    swarm.restart(away).wait_for_log("listening for nodes")
    listening = time.monotonic()
    eventually(
        lambda: clients.check_store(check_equal(disk(swarm, name) for name in swarm.daemons)),
        within,
        f"{away} has what was written while it was away",
    )
    assert time.monotonic() - listening <= within * SCALE
    swarm.daemons[away].wait_for_log("installed the leader's snapshot", 5)
    swarm.wait_members(3)
    assert swarm.leader(away) == leader


def test_a_follower_that_was_away_through_a_compaction_is_brought_up_to_date(swarm: Managers) -> None:
    clients = trial(swarm, "away")
    set_snapshots(swarm, SNAPSHOT_INTERVAL, KEPT_ENTRIES)
    with clients.clients():
        last(0.5)
    comes_back_with_everything(swarm, AWAY_ENTRIES, KEPT_ENTRIES, clients, 10)
    clients.audit()


def test_a_manager_whose_address_has_changed_is_found_again(swarm: Managers) -> None:
    """Once all others are gone but one, that one needs it to decide anything."""
    moved, leader = swarm.followers()[0], swarm.leader()
    daemon = swarm.daemons[moved]
    daemon.kill()
    port = swarm.ports[moved] = free_port()
    daemon.command = re.sub(
        r"--listen-remote-api \S+", f"--listen-remote-api 127.0.0.1:{port}", daemon.command
    )
    swarm.restart(moved)

    def known() -> None:
        status = swarm.standing(leader)[moved]
        assert (status.addr, status.reachability) == (f"127.0.0.1:{port}", REACHABLE)

    eventually(known, 20, "the manager is reachable at its new address")
    gone = next(name for name in swarm.followers() if name != moved)
    with others_go_on(swarm, gone, "moved"):
        last(0.3)
    come_back(swarm, [gone])


def contents(state_dir: Path) -> dict[str, bytes]:
    """Return digests of the files of log and snapshots."""
    folders = (state_dir / LOG_FOLDER, state_dir / SNAPSHOT_FOLDER)
    files = [path for folder in folders for path in folder.iterdir()]
    return {path.name: hashlib.sha256(path.read_bytes()).digest() for path in files}


def is_refused(swarm: Managers, words: str) -> None:
    """Start the damaged manager: it must end at once with a sentence, and change nothing."""
    before = contents(swarm.folder / DAMAGED)
    assert_ended(swarm.restart(DAMAGED), words)
    assert contents(swarm.folder / DAMAGED) == before


def test_a_torn_last_record_is_cut_off_and_what_it_held_comes_from_the_others(swarm: Managers) -> None:
    clients = trial(swarm, "torn")
    with clients.clients():
        last(0.5)
        swarm.daemons[DAMAGED].kill()
    segment = newest_segment(swarm.folder / DAMAGED)
    os.truncate(segment, segment.stat().st_size - 7)
    come_back(swarm, [DAMAGED])
    assert "cut off the torn tail of the raft log" in swarm.daemons[DAMAGED].log
    audit(swarm, clients)


def test_a_damaged_log_or_snapshot_is_refused_and_left_as_it_is(swarm: Managers) -> None:
    write_entries(swarm, 20, "damaged")
    with others_go_on(swarm, DAMAGED, "damaged-disk"):
        state = swarm.folder / DAMAGED
        (snapshot,) = (state / SNAPSHOT_FOLDER).iterdir()
        segment = newest_segment(state)
        for path in (segment, snapshot):
            good = path.read_bytes()
            flipped = bytearray(good)
            flipped[len(good) // 2] ^= 0x10
            path.write_bytes(flipped)
            is_refused(swarm, "damaged")
            assert str(path) in swarm.daemons[DAMAGED].log.splitlines()[-1]
            path.write_bytes(good)
        snapshot.rename(state / "snapshot")
        is_refused(swarm, "but there is no snapshot")
        snapshot.write_bytes((state / "snapshot").read_bytes()[:-20])
        is_refused(swarm, "damaged")
        (state / "snapshot").rename(snapshot)
        # What a crash leaves of a snapshot that is being written has another name.
        (snapshot.parent / f"{TEMPORARY_PREFIX}{snapshot.name}").write_bytes(b"half")
    come_back(swarm, [DAMAGED])
    assert [path.name for path in snapshot.parent.iterdir() if path.name.startswith(".")] == []
    audit(swarm, trial(swarm, "sound-again"))


@pytest.mark.root
def test_a_manager_whose_disk_is_full_ends_and_comes_back_when_there_is_space(swarm: Managers) -> None:
    cramped = swarm.folder / CRAMPED
    if not cramped.is_mount():
        pytest.skip("needs root to mount a small file system")
    clients = trial(swarm, "full")
    filler = cramped / "filler"
    with clients.clients():
        last(0.3)
        with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        since = time.monotonic()
        assert_ended(swarm.daemons[CRAMPED], "no space left to write the raft log; free some and start again")
        last(0.5)
        others = [name for name in swarm.daemons if name != CRAMPED]
        assert clients.wait_for_write(since, via=others) <= WRITABLE_SECONDS * SCALE
        again = swarm.restart(CRAMPED)
        assert_ended(again, "")
        assert re.search("is full|[Nn]o space left", again.log.splitlines()[-1]), again.log
        filler.unlink()
        come_back(swarm, [CRAMPED])
        last(0.3)
    audit(swarm, clients)
    check_one_leader_a_term(swarm)


@pytest.mark.soak
def test_a_follower_that_was_away_for_very_long_is_brought_up_to_date(swarm: Managers) -> None:
    set_snapshots(swarm, 10_000, 500)
    comes_back_with_everything(swarm, LONG_AWAY_ENTRIES, 500, trial(swarm, "long-away"), 10)
