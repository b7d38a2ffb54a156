"""Operators and crashes at random: afterwards the swarm runs what is wanted, and nothing else.

``SWARMKIT_CHAOS_SECONDS`` makes it longer, ``SWARMKIT_CHAOS_SEED`` another course.
"""

import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from swarmkit.api import messages as api
from swarmkit.clock import SystemClock
from swarmkit.executors.process.process import LocalProcess, Record
from tests.integration.control import Control, describe, ids, runs
from tests.integration.harness import Swarm, eventually

SECONDS = float(os.environ.get("SWARMKIT_CHAOS_SECONDS", "12"))
SEED = int(os.environ.get("SWARMKIT_CHAOS_SEED", "1"))
WORKERS = ("node-2", "node-3")
NODES = ("node-1", *WORKERS)
GLOBAL = "everywhere"
#: What an operator may be told when a command comes at the wrong moment.
ACCEPTED = ("already", "no changes detected", "update out of sequence")
READY = api.NodeStatus.READY


class Chaos:
    """A swarm under random operators and crashes; knows what is wanted of it.

    Attributes:
        wanted: replicas by service; None for a global one.
        story: what was done, for the report of a failure.
    """

    def __init__(self, swarm: Swarm, rng: random.Random) -> None:
        self._swarm = swarm
        self._random = rng
        self._images = 0
        self._control = Control(swarm.socket)
        self.wanted: dict[str, int | None] = {}
        self.story: list[str] = []

    def start(self) -> None:
        self._swarm.found()
        self._swarm.ok("cluster update --heartbeatperiod 1s")
        for daemon in [self._swarm.join(name) for name in WORKERS]:
            daemon.wait_ready()
        for name, count in (("a", 3), ("b", 4), (GLOBAL, None)):
            mode = "--mode global" if count is None else f"--replicas {count}"
            self._tell(
                f"service create --name {name} {mode} --image local:0 --command sleep,1000"
                " --restart-delay 200ms"
            )
            self.wanted[name] = count

    def _tell(self, command: str) -> None:
        self.story.append(command)
        result = self._swarm.ctl(command)
        assert result.code == 0 or any(text in result.err for text in ACCEPTED), result

    def act(self) -> None:
        """Do one thing at random."""
        ways = (
            self.scale, self.update, self.update, self.availability, self.remove_task, self.kill_process,
            self.kill_manager, self.kill_worker, self.stop_worker, self.freeze_worker,
        )  # fmt: skip
        self._random.choice(ways)()

    def scale(self) -> None:
        name = self._random.choice([name for name, count in self.wanted.items() if count is not None])
        count = self.wanted[name] = self._random.randint(0, 6)
        self._tell(f"service update {name} --replicas {count}")

    def update(self) -> None:
        self._images += 1
        name = self._random.choice(list(self.wanted))
        order = self._random.choice(["stop-first", "start-first"])
        self._tell(
            f"service update {name} --image local:{self._images} --update-order {order} --update-delay 200ms"
            f" --update-parallelism {self._random.randint(0, 2)} --update-on-failure continue"
        )

    def availability(self) -> None:
        verb = self._random.choice(["drain", "pause", "activate"])
        self._tell(f"node {verb} {self._random.choice(NODES)}")

    def remove_task(self) -> None:
        name = self._random.choice([name for name, count in self.wanted.items() if count is not None])
        tasks = self._control.tasks(name)
        if tasks:
            self._tell(f"task rm {self._random.choice(tasks).id}")

    def kill_process(self) -> None:
        running = list(self.processes().values())
        if running:
            self.story.append("kill a process")
            self._random.choice(running).process.send(self._random.choice([signal.SIGKILL, signal.SIGTERM]))

    def kill_manager(self) -> None:
        self.story.append("kill the manager")
        self._swarm.daemons["node-1"].kill()
        self._swarm.restart("node-1").wait_ready()

    def kill_worker(self) -> None:
        name, away = self._random.choice(WORKERS), self._random.choice([0.0, self._random.random() * 5])
        self.story.append(f"kill {name} for {away:.1f} s")
        self._swarm.daemons[name].kill()
        self._pause(away)
        self._swarm.restart(name).wait_ready()

    def stop_worker(self) -> None:
        name = self._random.choice(WORKERS)
        self.story.append(f"stop {name}")
        assert self._swarm.daemons[name].stop() == 0
        self._swarm.restart(name).wait_ready()

    def freeze_worker(self) -> None:
        name, seconds = self._random.choice(WORKERS), self._random.random() * 6
        self.story.append(f"freeze {name} for {seconds:.1f} s")
        pid = self._swarm.daemons[name].pid
        os.kill(pid, signal.SIGSTOP)
        self._pause(seconds)
        os.kill(pid, signal.SIGCONT)

    def _pause(self, seconds: float) -> None:
        """Let a fault last, while an operator goes on."""
        end = time.monotonic() + seconds
        self._random.choice([self.scale, self.update, self.kill_process])()

        def over() -> None:
            assert time.monotonic() >= end

        eventually(over, seconds + 1, "the fault has lasted")

    def processes(self) -> dict[str, Record]:
        """Return the processes that run on the machine for this swarm, by task."""
        found = {}
        with ThreadPoolExecutor(1) as threads:
            for directory in self._swarm.folder.glob("*/worker/processes/*"):
                record = LocalProcess(directory, threads, SystemClock()).record()
                if record is not None and record.process.alive:
                    found[directory.name] = record
        return found

    def settle(self) -> None:
        """Wait until what runs is what is wanted."""
        for name in NODES:
            self._tell(f"node activate {name}")
            self._control.wait_node(name, READY)
        eventually(self._check, 60, "the swarm has settled")

    def _check(self) -> None:
        tasks = []
        for name, count in self.wanted.items():
            of_service = self._control.tasks(name)
            text = "\n".join(map(describe, of_service))
            assert all(map(runs, of_service)), text
            if count is None:
                assert len({task.node_id for task in of_service}) == len(of_service) == len(NODES), text
            else:
                assert len({task.slot for task in of_service}) == len(of_service) == count, text
            tasks += of_service
        running = self.processes()
        assert running.keys() == ids(tasks)
        for task in tasks:
            assert task.status.container.pid == running[task.id].process.pid

    def check_logs(self) -> None:
        """Assert that no daemon reported a defect, in any of its lives."""
        for path in self._swarm.folder.glob("*.log*"):
            lines = [line for line in Path(path).read_text().splitlines() if "level=error" in line]
            assert not lines, f"{path.name}: {lines}"
            assert "Traceback" not in path.read_text(), path


@pytest.mark.soak
def test_a_swarm_in_trouble_settles_on_what_is_wanted(local_swarm: Swarm) -> None:
    chaos = Chaos(local_swarm, random.Random(SEED))
    try:
        chaos.start()
        chaos.settle()
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            for _ in range(5):
                chaos.act()
            chaos.settle()
            chaos.check_logs()
    except BaseException as error:
        error.add_note(f"seed {SEED}: {chaos.story}")
        raise
