"""Managers are killed and frozen under clients of all of them: nothing is lost, nothing old is read.

The tests share one group of three managers, each leaves it whole.
"""

import contextlib
import functools
import random
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.fault.clients import Trial, values_in
from tests.fault.disks import check_equal
from tests.fault.groups import (
    ELECTION_SECONDS,
    UNDISTURBED_SECONDS,
    WRITABLE_SECONDS,
    Logs,
    check_all,
    come_back,
    connected_since,
    disk,
    elected,
    frozen,
    last,
    slowed,
    terms,
    trial,
    wait_equal,
)
from tests.fault.sharing import SharedGroup
from tests.integration.harness import eventually
from tests.integration.managers import Managers, managers
from tests.scale import SCALE

NAMES = ("node-1", "node-2", "node-3")


@pytest.fixture(scope="module")
def group() -> Iterator[SharedGroup[Managers]]:
    with contextlib.closing(SharedGroup(lambda: managers(3, "simulated"))) as made:
        yield made


def kill_leader(swarm: Managers, clients: Trial) -> None:
    """The others acknowledge writes again within the time that is promised."""
    leader, followers = swarm.leader(), swarm.followers()
    swarm.daemons[leader].kill()
    killed = time.monotonic()
    clients.wait_for_write(killed, WRITABLE_SECONDS, via=followers)
    clients.wait_for_work()
    come_back(swarm, [leader])
    assert swarm.leader(followers[0]) in followers


def kill_follower(swarm: Managers, clients: Trial) -> None:
    """The leader goes on leading, and writes wait for nobody."""
    before = terms(swarm)
    leader, follower = swarm.leader(), swarm.followers()[0]
    swarm.daemons[follower].kill()
    killed = time.monotonic()
    clients.wait_for_write(killed, UNDISTURBED_SECONDS, via=[leader])
    clients.wait_for_work()
    come_back(swarm, [follower])
    assert terms(swarm) == before


def kill_all(swarm: Managers, clients: Trial, rng: random.Random) -> None:
    """What was acknowledged is on the disks of a majority; restarted staggered, they lead soon again."""
    acknowledged = clients.created()
    for name in rng.sample(NAMES, 3):
        swarm.daemons[name].kill()
    # With what is not known to be committed: who is elected next has it and goes on from there.
    disks = [disk(swarm, name) for name in NAMES]
    held = Counter(item for found in disks for item in values_in(found.store(found.last)).items())
    lost = [item for item in acknowledged.items() if held[item] < 2]
    assert acknowledged
    assert not lost
    come_back(swarm, rng.sample(NAMES, 3))


@pytest.mark.slow
def test_no_acknowledged_write_is_lost_whoever_is_killed(swarm: Managers, logs: Logs) -> None:
    rng = random.Random(7)
    clients = trial(swarm, "kills")
    rounds = (kill_leader, kill_follower, functools.partial(kill_all, rng=rng), kill_leader)
    for victims in rounds:
        # Many at a time: some writes are always on their way when a manager is killed.
        with clients.clients(f"{len(clients.history.operations)}", count=12, pause=0):
            clients.wait_for_work(100)
            victims(swarm, clients)
            clients.wait_for_work()
        check_all(swarm, clients, logs)


@pytest.mark.slow
def test_a_leader_that_was_frozen_shows_nobody_what_is_old(swarm: Managers, logs: Logs) -> None:
    """It believes to lead when it goes on: a read that it answered by itself would be a stale one.

    Those that show it are called while it is frozen and others have changed what they read: they are the
    first that it hears of, together with what the others say. Whoever had called before may see either. Which
    it turns to first is a matter of chance, so it is done twice.
    """
    for number in range(2):
        clients = trial(swarm, f"frozen-leader-{number}")
        leader, followers = swarm.leader(), swarm.followers()
        with (
            clients.clients("near", [leader], count=10, pause=0),
            clients.clients("far", followers),
            clients.clients("late", [leader], count=10, pause=0, creates=0, held=True) as late,
        ):
            clients.wait_for_work()
            assert swarm.leader(leader) == leader
            with frozen(swarm, leader):
                moment = time.monotonic()
                clients.wait_for_write(moment, WRITABLE_SECONDS, via=followers)
                clients.wait_for_changes(moment, via=followers)
                changed = time.monotonic()
                late.start()
                # By then the others have given up their streams to it: it hears clients before them.
                last(max(0.5, moment + 3 - time.monotonic()))
                thawed = time.monotonic()
            clients.wait_for_write(thawed, via=[leader])
        assert clients.reads(called_after=changed, called_before=thawed, via=leader)
        clients.audit()
        assert swarm.leader(leader) in followers
    logs.check()


@pytest.mark.slow
def test_neither_a_frozen_follower_nor_load_costs_the_leader_its_office(swarm: Managers, logs: Logs) -> None:
    clients = trial(swarm, "no-election")
    before, leader, follower = terms(swarm), swarm.leader(), swarm.followers()[0]
    with clients.clients():
        with frozen(swarm, follower):
            last(1.5 * ELECTION_SECONDS)
        thawed = time.monotonic()
        clients.wait_for_write(thawed, via=[follower])
    assert (terms(swarm), swarm.leader()) == (before, leader)
    with clients.clients("load", count=64, pause=0):
        last(3)
    assert (terms(swarm), swarm.leader()) == (before, leader)
    clients.audit()
    logs.check()


@pytest.mark.slow
def test_a_follower_that_is_twenty_times_slower_holds_nobody_up_and_catches_up(
    swarm: Managers, logs: Logs
) -> None:
    clients = trial(swarm, "sluggish")
    before, leader = terms(swarm), swarm.leader()
    slow, other = swarm.followers()
    fast = [leader, other]
    with clients.clients("c", fast, pause=0), clients.clients("slow", [slow], count=2):
        began = time.monotonic()
        clients.wait_for_work(100)
        usual = clients.rate(began, fast)
        with slowed(swarm, slow) as slowness:
            moment = time.monotonic()
            last(2 * ELECTION_SECONDS)
            clients.check_undisturbed(moment, UNDISTURBED_SECONDS)
            meanwhile = clients.rate(moment, fast)
        free = time.monotonic()
        clients.wait_for_work(100)
        usual = min(usual, clients.rate(free, fast))  # others may have come to use the machine
        assert meanwhile > usual / 3  # no write waits until the slow one has it
        assert slowness.share < 0.2
        clients.wait_for_write(free, via=[slow])
    assert terms(swarm) == before
    assert swarm.leader(slow) == leader
    check_all(swarm, clients, logs)


@pytest.mark.slow
def test_managers_have_equal_disks_before_and_after_all_of_them_restart(swarm: Managers, logs: Logs) -> None:
    clients = trial(swarm, "restart")
    with clients.clients():
        clients.wait_for_work()
    clients.audit()
    reach = wait_equal(swarm, clients)
    for name in NAMES:
        swarm.daemons[name].kill()
    clients.check_store(check_equal((disk(swarm, name) for name in NAMES), reach))
    for name in NAMES:
        swarm.restart(name)
    eventually(lambda: swarm.leader(), 30, "a manager leads")
    came = [at for name in NAMES for at, _ in elected(swarm, name)]
    assert min(came) - connected_since(swarm) <= 2 * ELECTION_SECONDS * SCALE
    swarm.wait_members(3)
    clients.audit()
    reach = wait_equal(swarm, clients)
    for name in NAMES:
        assert swarm.daemons[name].stop() == 0
    clients.check_store(check_equal((disk(swarm, name) for name in NAMES), reach))
    for name in NAMES:
        swarm.restart(name)
    swarm.wait_members(3)
    clients.audit()
    logs.check()
