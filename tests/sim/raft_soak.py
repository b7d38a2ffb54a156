"""Simulated raft groups in random trouble, with ever new seeds: ``python -m tests.sim.raft_soak``.

``--minutes N`` runs for that long; ``--seed S`` begins with that seed (random, and printed, unless given);
``--seed S --once`` repeats exactly one run, which is how a failure is looked at. Most schedules are brief, so
that there are thousands a minute on two cores; every tenth is long.
"""

import argparse
import logging
import os
import random
import sys
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass

from tests.sim.raft_chaos import Chaos, random_chaos, run_chaos
from tests.sim.raft_world import World

#: Schedules that a process runs before it reports.
BATCH = 20


@dataclass
class Totals:
    """What was run.

    Attributes:
        runs: schedules.
        acknowledged: writes, all of which were found again.
        reads: none of which was stale.
        successions: terms that another member led than the last one.
        virtual: seconds of trouble in simulated time.
        failure: of the first run that failed, with its seed and schedule; empty: none did.
    """

    runs: int = 0
    acknowledged: int = 0
    reads: int = 0
    successions: int = 0
    virtual: float = 0.0
    failure: str = ""

    def add(self, other: "Totals") -> None:
        self.runs += other.runs
        self.acknowledged += other.acknowledged
        self.reads += other.reads
        self.successions += other.successions
        self.virtual += other.virtual
        self.failure = self.failure or other.failure

    @property
    def missing(self) -> str:
        """What never happened, so that nothing can have gone wrong with it; empty: all did."""
        counts = {
            "schedule": self.runs,
            "acknowledged write": self.acknowledged,
            "read": self.reads,
            "change of leader": self.successions,
        }
        return ", ".join(f"no {what}" for what, count in counts.items() if not count)


def chaos_of(seed: int) -> Chaos:
    """Choose what may happen from a seed."""
    return random_chaos(seed, brief=seed % 10 != 0)


def run(seeds: range, tell: Callable[[int, Chaos], World] = run_chaos) -> Totals:
    """Run schedules one after the other, up to the first that fails; ``tell`` runs one."""
    logging.disable(logging.CRITICAL)
    totals = Totals()
    for seed in seeds:
        chaos = chaos_of(seed)
        try:
            world = tell(seed, chaos)
        except Exception as error:  # whatever it is, nobody can look at it again without its seed
            again = f"again: python -m tests.sim.raft_soak --once --seed {seed}"
            totals.failure = f"{chaos}\n{type(error).__name__}: {error}\n{again}"
            return totals
        checker = world.checker
        totals.add(Totals(1, len(checker.acknowledged), checker.reads, checker.successions, chaos.seconds))
    return totals


def soak(seed: int, minutes: float, jobs: int) -> Totals:
    """Run schedules from ``seed`` on in several processes until the time is over or one fails.

    Without a single write, read or change of leader the whole has failed: it proves nothing.
    """
    end = time.monotonic() + minutes * 60
    totals = Totals()
    with ProcessPoolExecutor(jobs) as pool:
        running: set[Future[Totals]] = set()
        while running or time.monotonic() < end:
            while len(running) < jobs and time.monotonic() < end and not totals.failure:
                running.add(pool.submit(run, range(seed, seed + BATCH)))
                seed += BATCH
            if not running:
                break
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                totals.add(future.result())
    if totals.missing and not totals.failure:
        totals.failure = f"in {totals.runs} schedules there was {totals.missing}: this proves nothing"
    return totals


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Run, print the totals or the failure, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split(":")[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once")
    parser.add_argument("--once", action="store_true", help="run this one seed only")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 40) if arguments.seed is None else arguments.seed
    _say(f"first seed {seed}")
    start = time.monotonic()
    if arguments.once:
        totals = run(range(seed, seed + 1))
    else:
        totals = soak(seed, arguments.minutes, arguments.jobs)
    if totals.failure:
        _say(totals.failure)
        return 1
    seconds = time.monotonic() - start
    _say(
        f"{totals.runs} schedules in {seconds:.0f} s ({totals.runs / seconds * 60:.0f} a minute),"
        f" {totals.virtual:.0f} s of trouble, {totals.acknowledged} acknowledged writes, none lost,"
        f" {totals.reads} reads, none stale, {totals.successions} changes of leader"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
