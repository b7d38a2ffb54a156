"""Raft's safety under random trouble: fixed seeds and a new one each time; raft_soak.py runs for longer."""

import random
import sys
from dataclasses import replace

import pytest

from tests.sim.raft_chaos import SMALL_PORTION, Chaos, run_chaos
from tests.sim.raft_checker import SafetyError
from tests.sim.raft_soak import chaos_of
from tests.sim.raft_without import Rule
from tests.sim.raft_world import World


def _succeeded(world: World) -> bool:
    """Tell whether there was anything to lose: by a write, by a read, and by a new leader."""
    checker = world.checker
    return bool(checker.acknowledged) and checker.reads > 0 and checker.successions > 0


def _rotated(world: World) -> bool:
    keys = {member.keys.stored.data_key for member in world.members.values()}
    return _succeeded(world) and len(keys) > 1


@pytest.mark.parametrize("seed", range(8))
def test_nothing_acknowledged_is_lost_with_crashes_cuts_and_slow_links(seed: int) -> None:
    assert _succeeded(run_chaos(seed, Chaos(seconds=4.0, clients=2), enough=_succeeded))


@pytest.mark.parametrize("seed", range(8, 16))
def test_nothing_acknowledged_is_lost_when_messages_come_twice_and_late_or_never(seed: int) -> None:
    chaos = Chaos(seconds=4.0, clients=2, duplicates=True, reordering=True, losses=True)
    assert _succeeded(run_chaos(seed, chaos, enough=_succeeded))


@pytest.mark.parametrize("seed", range(16, 24))
def test_nothing_acknowledged_is_lost_while_members_come_and_go_and_leaders_hand_over(seed: int) -> None:
    chaos = Chaos(seconds=4.0, clients=2, changes=True)
    assert _succeeded(run_chaos(seed, chaos, enough=_succeeded))


@pytest.mark.parametrize("seed", range(24, 30))
def test_nothing_acknowledged_is_lost_while_data_keys_are_rotated(seed: int) -> None:
    chaos = Chaos(seconds=5.0, clients=2, calm=0.3, rotations=True, changes=seed % 2 == 0)
    assert _rotated(run_chaos(seed, chaos, enough=_rotated))


@pytest.mark.parametrize("seed", [30, 31, 32, 33, 1007, 1148, 1185, 1187])
def test_nothing_acknowledged_is_lost_and_all_catch_up_when_entries_travel_in_portions(seed: int) -> None:
    """In the last four a deposed leader has an end of its own, and is far behind."""
    chaos = Chaos(seconds=4.0, clients=2, portion=SMALL_PORTION)
    assert _succeeded(run_chaos(seed, chaos, enough=_succeeded))


def test_a_seed_nobody_has_tried_yet() -> None:
    seed = random.SystemRandom().randrange(1 << 40) * 10
    sys.stdout.write(f"seed {seed}; again: python -m tests.sim.raft_soak --once --seed {seed}\n")
    run_chaos(seed, chaos_of(seed))


def test_a_seed_tells_the_same_story_each_time() -> None:
    chaos = Chaos(seconds=5.0, changes=True, duplicates=True, reordering=True, losses=True)
    first, second = run_chaos(3, chaos), run_chaos(3, chaos)
    assert first.schedule == second.schedule
    assert first.checker.history == second.checker.history
    assert first.network.sent == second.network.sent


@pytest.mark.slow
def test_the_library_by_itself_forgets_what_is_committed_in_the_same_runs() -> None:
    """These rules can fail, and the filter is why they do not."""
    links = Chaos(delay=0.05, duplicates=True, reordering=True)
    chaos = replace(links, seconds=20.0, readers=0, stalls=False, snapshots=100_000)
    unsafe = [seed for seed in range(12) if _violation(seed, chaos, Rule.FILTER)]
    assert len(unsafe) >= 3
    assert not any(_violation(seed, chaos) for seed in unsafe)


@pytest.mark.slow
def test_confirmations_that_leave_before_their_sync_lose_what_they_confirmed_in_the_same_runs() -> None:
    """So does holding them back."""
    chaos = Chaos(seconds=10.0, sync=0.1, readers=0, stalls=False, snapshots=100_000)
    unsafe = [seed for seed in range(16) if _violation(seed, chaos, Rule.HOLD)]
    assert len(unsafe) >= 2
    assert not any(_violation(seed, chaos) for seed in unsafe)


@pytest.mark.slow
def test_a_lease_without_an_end_lets_stopped_leaders_answer_from_their_past_in_the_same_runs() -> None:
    """So does its end."""
    chaos = Chaos(seconds=5.0, clients=2, crashes=False)
    unsafe = [seed for seed in range(8) if _violation(seed, chaos, Rule.LEASE_ENDS)]
    assert len(unsafe) >= 3
    assert not any(_violation(seed, chaos) for seed in unsafe)


def _violation(seed: int, chaos: Chaos, without: Rule | None = None) -> bool:
    try:
        run_chaos(seed, chaos, without=without)
    except SafetyError:
        return True
    except RuntimeError:
        # A group without a rule may also never come to rest, which shows nothing about safety.
        if without is None:
            raise
    return False
