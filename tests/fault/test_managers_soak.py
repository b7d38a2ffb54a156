"""Five managers in random trouble, under clients of all of them: make soak.

``SWARMKIT_CHAOS_SECONDS`` makes it longer, ``SWARMKIT_CHAOS_SEED`` another course.
"""

import contextlib
import os
import random
import time

import pytest

from tests.fault.groups import Logs, come_back, frozen, last, trial, wait_equal
from tests.fault.namespaces import SeparateManagers, separate_managers

SECONDS = float(os.environ.get("SWARMKIT_CHAOS_SECONDS", "60"))
SEED = int(os.environ.get("SWARMKIT_CHAOS_SEED", "1"))
MANAGERS = 5
MENDED_SECONDS = 30.0
#: A fault lasts up to so many seconds; elections happen in the middle of it, or do not.
FAULT_SECONDS = 5.0


class Trouble:
    """Does things to managers at random; ``story`` tells what was done, for the report of a failure."""

    def __init__(self, swarm: SeparateManagers, rng: random.Random) -> None:
        self._swarm = swarm
        self._random = rng
        self.story: list[str] = []

    def act(self) -> None:
        """Do one thing, and undo it."""
        ways = (
            self.kill, self.kill, self.kill_all, self.stop, self.freeze,
            self.isolate, self.part, self.drop_one_way, self.bad_links,
        )  # fmt: skip
        self._random.choice(ways)()
        self._swarm.network.heal()
        self._swarm.wait_members(MANAGERS, timeout=MENDED_SECONDS)

    def _victims(self, most: int = MANAGERS // 2) -> list[str]:
        """Return some managers, the leader among them half of the time."""
        victims = self._random.sample(sorted(self._swarm.daemons), self._random.randint(1, most))
        if self._random.random() < 0.5:
            leader = self._swarm.leader()
            victims = [leader, *(name for name in victims if name != leader)][:most]
        return victims

    def _lasts(self, what: str, most: float = FAULT_SECONDS) -> None:
        seconds = self._random.random() * most
        self.story.append(f"{what} for {seconds:.1f} s")
        last(seconds)

    def kill(self) -> None:
        victims = self._victims()
        for name in victims:
            self._swarm.daemons[name].kill()
        self._lasts(f"kill {' '.join(victims)}")
        come_back(self._swarm, victims)

    def kill_all(self) -> None:
        names = self._random.sample(sorted(self._swarm.daemons), MANAGERS)
        for name in names:
            self._swarm.daemons[name].kill()
        self._lasts("kill all", 0.5)
        come_back(self._swarm, names)

    def stop(self) -> None:
        (victim,) = self._victims(1)
        assert self._swarm.daemons[victim].stop() == 0
        self._lasts(f"stop {victim}")
        come_back(self._swarm, [victim])

    def freeze(self) -> None:
        victims = self._victims()
        with contextlib.ExitStack() as stack:
            for name in victims:
                stack.enter_context(frozen(self._swarm, name))
            self._lasts(f"freeze {' '.join(victims)}")

    def isolate(self) -> None:
        victims = self._victims()
        for name in victims:
            self._swarm.network.isolate(name)
        self._lasts(f"isolate {' '.join(victims)}")

    def part(self) -> None:
        minority = self._victims()
        for name in minority:
            for other in set(self._swarm.daemons) - set(minority):
                self._swarm.network.cut(name, other)
        self._lasts(f"part {' '.join(minority)} from the others")

    def drop_one_way(self) -> None:
        pairs = [self._random.sample(sorted(self._swarm.daemons), 2) for _ in range(4)]
        for sender, receiver in pairs:
            self._swarm.network.drop(sender, receiver)
        self._lasts(f"drop {' '.join(f'{a}>{b}' for a, b in pairs)}")

    def bad_links(self) -> None:
        victims = self._victims()
        for name in victims:
            self._swarm.network.slow_down(name, "512kbit")
            self._swarm.network.lose(name, 0.1)
        self._lasts(f"bad links of {' '.join(victims)}")


def one_round(swarm: SeparateManagers, trouble: Trouble, number: int) -> None:
    """Have clients at work through some trouble; then all must be well, and nothing lost."""
    clients, logs = trial(swarm, f"round-{number}", SEED), Logs(swarm)
    with clients.clients(count=8, pause=0.1):
        for _ in range(4):
            trouble.act()
            clients.wait_for_write(time.monotonic())
    clients.audit()
    wait_equal(swarm, clients, within=20)
    logs.check()
    swarm.at(swarm.leader()).remove_services()


@pytest.mark.soak
@pytest.mark.root
def test_managers_in_trouble_lose_nothing_and_show_nothing_old() -> None:
    with separate_managers(MANAGERS) as swarm:
        trouble = Trouble(swarm, random.Random(SEED))
        try:
            end, number = time.monotonic() + SECONDS, 0
            while time.monotonic() < end:
                number += 1
                one_round(swarm, trouble, number)
        except BaseException as error:
            error.add_note(f"seed {SEED}: {trouble.story}")
            raise
