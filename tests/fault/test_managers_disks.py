"""One manager of three has trouble with its disk, or was away: the others go on, and nothing is lost.

The tests share one group, whose managers have small file systems of their own where those can be made.
"""

import contextlib
import hashlib
import os
import re
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
from tests.fault.disks import newest_segment
from tests.fault.groups import (
    UNDISTURBED_SECONDS,
    WRITABLE_SECONDS,
    Logs,
    check_all,
    come_back,
    disk,
    last,
    terms,
    trial,
    wait_equal,
)
from tests.fault.sharing import SharedGroup
from tests.fault.volumes import hanging, managers_on_volumes, skip_unless_freezable
from tests.integration.bad_input import assert_ended
from tests.integration.harness import eventually
from tests.integration.managers import REACHABLE, Managers
from tests.ports import free_port
from tests.scale import SCALE

pytestmark = pytest.mark.slow

#: Whose disk is damaged.
DAMAGED = "node-2"
#: Whose disk is full.
CRAMPED = "node-3"
#: What a manager ends with that is started on a damaged disk, or on a full one.
DAMAGES = ("damaged", "but there is no snapshot")
FULL = ("is full", "no space left", "No space left")
#: A disk that takes so many seconds is slow; one that takes ten is as good as dead.
HANGING_SECONDS = 2.5
#: So many entries are written while a manager is away, and snapshots are so far apart; in a soak, more.
AWAY_ENTRIES, SNAPSHOT_INTERVAL, KEPT_ENTRIES = 1500, 500, 50
LONG_AWAY_ENTRIES = 12_000


@pytest.fixture(scope="module")
def group() -> Iterator[SharedGroup[Managers]]:
    with contextlib.closing(SharedGroup(lambda: managers_on_volumes(3))) as made:
        yield made


@contextlib.contextmanager
def others_go_on(swarm: Managers, away: str, name: str) -> Iterator[None]:
    """A manager is killed; for the length of the block clients of the others must not be held up."""
    swarm.daemons[away].kill()
    clients = trial(swarm, name)
    with clients.clients(count=2, pause=0.1):
        clients.wait_for_write(time.monotonic())
        since = time.monotonic()
        yield
        clients.wait_for_work(5)
        clients.check_undisturbed(since, WRITABLE_SECONDS)
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


def fall_behind(swarm: Managers, away: str, entries: int, kept: int) -> None:
    """Have a manager be away until those who lead have forgotten entries that it lacks."""
    swarm.daemons[away].kill()
    write_entries(swarm, entries, f"{away}-away-{time.monotonic_ns()}")
    leader = swarm.leader()

    def compacted() -> None:
        image = disk(swarm, leader).image
        assert image is not None
        assert image.index - kept > disk(swarm, away).last

    eventually(compacted, 20, "the leader has forgotten entries that the other lacks")


def comes_back_with_everything(
    swarm: Managers, entries: int, kept: int, clients: Trial, within: float
) -> None:
    """A follower that was away through a compaction of the log is brought up to date by a snapshot."""
    leader, away = swarm.leader(), swarm.followers()[0]
    fall_behind(swarm, away, entries, kept)
    swarm.restart(away).wait_for_log("listening for nodes")
    swarm.daemons[away].wait_for_log("installed the leader's snapshot", within)
    assert wait_equal(swarm, clients) >= entries
    swarm.wait_members(3)
    assert swarm.leader(away) == leader


def test_a_follower_that_was_away_through_a_compaction_is_brought_up_to_date(
    swarm: Managers, logs: Logs
) -> None:
    clients = trial(swarm, "away")
    set_snapshots(swarm, SNAPSHOT_INTERVAL, KEPT_ENTRIES)
    with clients.clients():
        clients.wait_for_work()
    comes_back_with_everything(swarm, AWAY_ENTRIES, KEPT_ENTRIES, clients, 10)
    clients.audit()
    logs.check()


def test_a_manager_whose_address_has_changed_is_found_again(swarm: Managers, logs: Logs) -> None:
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
    logs.check()


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


def test_a_torn_last_record_is_cut_off_and_what_it_held_comes_from_the_others(
    swarm: Managers, logs: Logs
) -> None:
    clients = trial(swarm, "torn")
    with clients.clients():
        clients.wait_for_work()
        swarm.daemons[DAMAGED].kill()
    segment = newest_segment(swarm.folder / DAMAGED)
    os.truncate(segment, len(segment.read_bytes().rstrip(b"\0")) - 7)  # the zeros are room for more
    come_back(swarm, [DAMAGED])
    assert "cut off the torn tail of the raft log" in swarm.daemons[DAMAGED].log
    check_all(swarm, clients, logs)


def install_snapshot(swarm: Managers, name: str) -> None:
    """Have a manager get a snapshot in place of its log, which begins behind it then: it needs both."""
    set_snapshots(swarm, SNAPSHOT_INTERVAL, KEPT_ENTRIES)
    fall_behind(swarm, name, SNAPSHOT_INTERVAL + 2 * KEPT_ENTRIES, KEPT_ENTRIES)
    swarm.restart(name).wait_for_log("installed the leader's snapshot")
    swarm.wait_members(3)


def test_a_damaged_log_or_snapshot_is_refused_and_left_as_it_is(swarm: Managers, logs: Logs) -> None:
    install_snapshot(swarm, DAMAGED)
    with others_go_on(swarm, DAMAGED, "damaged-disk"):
        state = swarm.folder / DAMAGED
        (snapshot,) = (state / SNAPSHOT_FOLDER).iterdir()
        segment = newest_segment(state)
        for path in (segment, snapshot):
            good = path.read_bytes()
            flipped = bytearray(good)
            flipped[len(good.rstrip(b"\0")) // 2] ^= 0x10
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
        half = snapshot.parent / f"{TEMPORARY_PREFIX}{snapshot.name}"
        half.write_bytes(b"half")
    come_back(swarm, [DAMAGED])
    assert not half.exists()
    wait_equal(swarm, trial(swarm, "sound-again"))
    logs.check(but=DAMAGES)


@pytest.mark.root
def test_a_manager_whose_disk_is_full_ends_and_comes_back_when_there_is_space(
    swarm: Managers, logs: Logs
) -> None:
    cramped = swarm.folder / CRAMPED
    if not cramped.is_mount():
        pytest.skip("needs root to mount a small file system")
    clients = trial(swarm, "full")
    filler = cramped / "filler"
    with clients.clients():
        clients.wait_for_work(10)
        with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        since = time.monotonic()
        assert_ended(swarm.daemons[CRAMPED], "no space left to write the raft log; free some and start again")
        others = [name for name in swarm.daemons if name != CRAMPED]
        clients.wait_for_write(since, WRITABLE_SECONDS, via=others)
        again = swarm.restart(CRAMPED)
        assert_ended(again, "")
        assert re.search("is full|[Nn]o space left", again.log.splitlines()[-1]), again.log
        filler.unlink()
        come_back(swarm, [CRAMPED])
        clients.wait_for_work(10)
    check_all(swarm, clients, logs, but=FULL)


@pytest.mark.root
@pytest.mark.parametrize("role", ["follower", "leader"])
def test_a_disk_that_hangs_for_seconds_loses_nothing_and_costs_nobody_the_office(
    swarm: Managers, logs: Logs, role: str
) -> None:
    """The others go on if it is a follower's; if it is the leader's, writes wait for it, and are not lost."""
    clients = trial(swarm, f"hanging-{role}")
    leader, followers, before = swarm.leader(), swarm.followers(), terms(swarm)
    slow = leader if role == "leader" else followers[0]
    folder = swarm.folder / slow
    skip_unless_freezable(folder)
    with clients.clients("at", [slow]), clients.clients("others", [n for n in swarm.daemons if n != slow]):
        clients.wait_for_work()
        with hanging(folder):
            moment, written = time.monotonic(), disk(swarm, slow).last
            if role == "follower":
                clients.wait_for_work()
            last(moment + HANGING_SECONDS - time.monotonic())
            assert disk(swarm, slow).last == written
            if role == "follower":
                clients.check_undisturbed(moment, UNDISTURBED_SECONDS)
        thawed = time.monotonic()
        clients.wait_for_write(thawed, UNDISTURBED_SECONDS)
        clients.wait_for_write(thawed, via=[slow])
    assert (terms(swarm), swarm.leader(slow)) == (before, leader)
    check_all(swarm, clients, logs)


@pytest.mark.soak
def test_a_follower_that_was_away_for_very_long_is_brought_up_to_date(swarm: Managers, logs: Logs) -> None:
    set_snapshots(swarm, 10_000, 500)
    comes_back_with_everything(swarm, LONG_AWAY_ENTRIES, 500, trial(swarm, "long-away"), 10)
