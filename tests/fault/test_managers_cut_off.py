"""Managers are cut off from each other under clients on all sides, and come together again.

The tests share one group of three managers, each in a network namespace, and leave it whole.
"""

import contextlib
import re
import time
from collections.abc import Iterator
from datetime import datetime

import pytest

from swarmkit.store.proposer import LeadershipLostError
from tests.fault.clients import Trial
from tests.fault.groups import (
    ELECTION_SECONDS,
    UNDISTURBED_SECONDS,
    WRITABLE_SECONDS,
    Logs,
    check_all,
    last,
    terms,
    trial,
    wait_equal,
)
from tests.fault.history import Outcome
from tests.fault.namespaces import SeparateManagers, separate_managers
from tests.fault.sharing import SharedGroup
from tests.integration.harness import eventually
from tests.integration.managers import UNREACHABLE
from tests.scale import SCALE

pytestmark = [pytest.mark.root, pytest.mark.slow]

_NO_LONGER = re.compile(r'time=(\S+) .*msg="this manager no longer leads')

#: How long after a cut is mended everybody may be busy with broken connections.
MENDED_SECONDS = 15.0


@pytest.fixture(scope="module")
def group() -> Iterator[SharedGroup[SeparateManagers]]:
    with contextlib.closing(SharedGroup(lambda: separate_managers(3))) as made:
        yield made


def mend(swarm: SeparateManagers) -> None:
    """End all faults of the network and wait until the managers have found each other."""
    swarm.network.heal()
    swarm.wait_members(3, timeout=MENDED_SECONDS)


def test_a_leader_that_is_cut_off_acknowledges_nothing_and_comes_back_as_a_follower(
    swarm: SeparateManagers, logs: Logs
) -> None:
    clients = trial(swarm, "leader-cut")
    leader, followers = swarm.leader(), swarm.followers()
    with (
        clients.clients("near", [leader]),
        clients.clients("far", followers),
        clients.clients("late", [leader], pause=0, creates=1, held=True) as late,
    ):
        clients.wait_for_work()
        swarm.network.isolate(leader)
        cut, cut_at = time.monotonic(), time.time()
        late.start()  # the others may all wait by now for what they asked before
        clients.wait_for_write(cut, WRITABLE_SECONDS, via=followers)
        steps_down(logs, leader, cut_at)
        dropped_something(swarm, leader)
        last(max(0.5, cut + 3 - time.monotonic()))
        since = terms(swarm)
        assert not [op for op in clients.acknowledged([leader]) if op.called > cut]
        mending = time.monotonic()
        mend(swarm)
        successor = swarm.leader(leader)
        assert successor in followers
        clients.wait_for_write(mending, via=[leader])
    assert terms(swarm) == dict.fromkeys(since, since[successor])
    clients.audit()
    wait_equal(swarm, clients)
    did_not_come_back(clients, cut)
    logs.check()


def dropped_something(swarm: SeparateManagers, host: str) -> None:
    """There are rules at a host, and each has dropped something."""
    dropped = swarm.network.dropped(host)
    assert dropped
    assert all(dropped), dropped


def took_effect(
    swarm: SeparateManagers, clients: Trial, follower: str, leader: str, cut: float, at: str = ""
) -> None:
    """The rules at a host dropped something; the leader misses the follower, which answers nobody."""
    dropped_something(swarm, at or follower)
    swarm.wait_reachability(follower, UNREACHABLE, leader, WRITABLE_SECONDS)
    answers = [op for op in clients.history.operations if op.via == follower and op.outcome is Outcome.OK]
    assert not [str(op) for op in answers if op.called > cut]


def steps_down(logs: Logs, leader: str, cut_at: float) -> None:
    """It does so without being told: nobody can. ``cut_at`` is in seconds of the epoch."""

    def look() -> float:
        found = _NO_LONGER.search(logs.of(leader))
        assert found
        return datetime.fromisoformat(found[1]).timestamp()

    assert eventually(look, ELECTION_SECONDS, f"{leader} steps down", 0.05) - cut_at <= 5 * SCALE


def did_not_come_back(clients: Trial, cut: float) -> None:
    """What waited at the leader when it was cut off failed, and no successor ever heard of it."""
    lost = [
        op
        for op in clients.history.operations
        if op.called > cut and not op.is_read and str(LeadershipLostError()) in op.answer
    ]
    assert lost, "no write waited at the leader: the test shows nothing"
    seen = {op.value for op in clients.history.operations if op.is_read}
    assert not seen & {op.value for op in lost}


def test_a_follower_that_is_cut_off_for_a_while_changes_nothing_when_it_is_back(
    swarm: SeparateManagers, logs: Logs
) -> None:
    clients = trial(swarm, "follower-cut")
    leader, (cut_off, other) = swarm.leader(), swarm.followers()
    before = terms(swarm)
    with (
        clients.clients("majority", [leader, other]),
        clients.clients("cut-off", [cut_off], count=2),
        clients.clients("late", [cut_off], count=2, held=True) as late,
    ):
        clients.wait_for_work()
        swarm.network.isolate(cut_off)
        moment = time.monotonic()
        late.start()
        last(2 * ELECTION_SECONDS)
        clients.check_undisturbed(moment, UNDISTURBED_SECONDS)
        took_effect(swarm, clients, cut_off, leader, moment)
        mending = time.monotonic()
        mend(swarm)
        clients.wait_for_write(mending, via=[cut_off])
    assert terms(swarm) == before
    assert swarm.leader(cut_off) == leader
    check_all(swarm, clients, logs)


def test_a_link_that_is_dead_in_one_direction_deposes_nobody_and_stops_nobody(
    swarm: SeparateManagers, logs: Logs
) -> None:
    """The follower behind it hears nothing and asks for votes, which who hears the leader does not give."""
    leader, (deaf, other) = swarm.leader(), swarm.followers()
    before = terms(swarm)
    for sender, receiver in ((leader, deaf), (deaf, leader)):
        clients = trial(swarm, f"one-way-from-{sender}")
        with (
            clients.clients("c", [leader, other]),
            clients.clients("deaf", [deaf], count=2),
            clients.clients("late", [deaf], count=2, held=True) as late,
        ):
            swarm.network.drop(sender, receiver)
            moment = time.monotonic()
            late.start()
            last(1.5 * ELECTION_SECONDS)
            clients.check_undisturbed(moment, UNDISTURBED_SECONDS)
            took_effect(swarm, clients, deaf, leader, moment, at=receiver)
            mending = time.monotonic()
            mend(swarm)
            clients.wait_for_write(mending, via=[deaf])
        assert terms(swarm) == before
        assert swarm.leader(deaf) == leader
        check_all(swarm, clients, logs)


def test_a_slow_and_lossy_link_to_a_follower_causes_no_election(swarm: SeparateManagers, logs: Logs) -> None:
    clients = trial(swarm, "bad-link")
    leader, (far, other) = swarm.leader(), swarm.followers()
    before = terms(swarm)
    swarm.network.slow_down(far, "256kbit")
    swarm.network.lose(far, 0.1)
    with clients.clients("c", [leader, other]), clients.clients("far", [far], count=2):
        moment = time.monotonic()
        last(4)

        def bad() -> None:
            (lost,) = swarm.network.dropped(far)
            _, of_what_it_was_sent = swarm.network.held_up(far)  # what it sends is hardly ever too much
            assert lost > 0
            assert of_what_it_was_sent > 0

        eventually(bad, 30, "the link has lost something and held something up")
        clients.check_undisturbed(moment, UNDISTURBED_SECONDS)
    assert terms(swarm) == before
    mend(swarm)
    assert (terms(swarm), swarm.leader(far)) == (before, leader)
    check_all(swarm, clients, logs)
