"""What a soak must not hide: why and with which seed it failed, and that it proved nothing."""

import logging
from collections.abc import Iterator

import pytest

from tests.sim.raft_chaos import Chaos
from tests.sim.raft_soak import Totals, run, soak
from tests.sim.raft_world import World, simulate

FAILURES = [OSError("no such file"), KeyError("entry"), RecursionError("too deep")]


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    level = logging.root.manager.disable
    yield
    logging.disable(level)


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_a_run_that_fails_for_whatever_reason_tells_its_seed_and_schedule(
    failure: Exception,
) -> None:
    async def story(world: World) -> None:
        await world.found(1)
        raise failure

    text = run(range(40, 42), lambda seed, chaos: simulate(seed, story)).failure
    assert repr(failure) in text
    assert "seed 40; the schedule:" in text
    assert "node-1" in text
    assert text.endswith("again: python -m tests.sim.raft_soak --once --seed 40")


def test_a_run_that_fails_outside_its_simulation_tells_its_seed() -> None:
    def fail(seed: int, chaos: Chaos) -> World:
        raise LookupError(chaos.members)

    text = run(range(40, 42), fail).failure
    assert "LookupError: " in text
    assert text.endswith("--seed 40")


def test_a_soak_in_which_nothing_ran_has_failed() -> None:
    assert "no schedule" in soak(1, minutes=0.0, jobs=1).failure


@pytest.mark.parametrize("field", ["runs", "acknowledged", "reads", "successions"])
def test_each_kind_of_event_that_never_happened_is_told(field: str) -> None:
    totals = Totals(runs=1, acknowledged=1, reads=1, successions=1)
    assert not totals.missing
    setattr(totals, field, 0)
    assert totals.missing.startswith("no ")


def test_a_run_counts_writes_reads_and_changes_of_leader() -> None:
    assert not run(range(1000, 1010)).missing
