"""Simulated raft groups in random trouble, with ever new seeds: ``python -m tests.sim.raft_soak``.

``--minutes N`` runs for that long; ``--seed S`` begins with that seed (random, and printed, unless given);
``--seed S --once`` repeats exactly one run, which is how a failure is looked at.
"""

import argparse
import logging
import random
import sys
import time

from tests.sim.raft_chaos import random_chaos, run_chaos


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Run, print the totals or the failure, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split(":")[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--once", action="store_true", help="run this one seed only")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    seed = random.SystemRandom().randrange(1 << 40) if arguments.seed is None else arguments.seed
    _say(f"first seed {seed}")
    start = time.monotonic()
    runs = acknowledged = reads = 0
    virtual = 0.0
    while runs == 0 or (not arguments.once and time.monotonic() - start < arguments.minutes * 60):
        chaos = random_chaos(seed + runs)
        try:
            world = run_chaos(seed + runs, chaos)
        except (AssertionError, RuntimeError) as error:
            _say(f"{chaos}\n{error}\nagain: python -m tests.sim.raft_soak --once --seed {seed + runs}")
            return 1
        runs += 1
        acknowledged += len(world.checker.acknowledged)
        reads += world.checker.reads
        virtual += chaos.seconds
    _say(
        f"{runs} runs, {virtual:.0f} s of trouble, {acknowledged} acknowledged writes, none lost, "
        f"{reads} reads, none stale, "
        f"{time.monotonic() - start:.0f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
