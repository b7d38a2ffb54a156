"""``make test``: all tests in two lanes side by side, for those of real daemons wait most of the time.

The first lane prints as it goes; what the second has to say comes at the end, in one line a step if all is
well. Interrupted, both end what they have started. Exit code: 0 if every step passed, else 1.
"""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

TESTS = Path(__file__).resolve().parent.parent / "tests"
#: What needs real time and real processes.
REAL = ("integration", "interop", "fault")
#: How long pytest may take to remove what tests have made, in seconds.
STOP_SECONDS = 120.0


def virtual() -> list[str]:
    """Return the folders of all other tests."""
    folders = {found.parent.name for found in TESTS.glob("*/__init__.py")}
    return sorted(folders - {*REAL, "fakes"})


class Lane:
    """Steps one after the other; each is a run of pytest over some folders. All run, whatever fails."""

    def __init__(self, steps: Sequence[Sequence[str]], output: IO[bytes] | None = None) -> None:
        """Take the steps, and where their output goes if not to this process's."""
        self._steps = steps
        self._output = output
        self._running: asyncio.subprocess.Process | None = None
        self._stopped = False

    async def run(self) -> bool:
        """Run all steps; tell whether every one passed."""
        passed = True
        for folders in self._steps:
            if self._stopped:
                return False
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
            # In a session of its own: an interrupt from the terminal must reach it through ``stop`` alone.
            self._running = await asyncio.create_subprocess_exec(
                *command,
                *(str(TESTS / folder) for folder in folders),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                start_new_session=True,
            )
            self._interrupt()
            passed = await self._running.wait() == 0 and passed
        return passed

    def stop(self) -> None:
        """End the step that runs, and have it clean up; begin no other. Only the first time counts.

        A second interrupt would reach pytest while it cleans up, and end that.
        """
        if not self._stopped:
            self._stopped = True
            self._interrupt()

    def _interrupt(self) -> None:
        """Interrupt what runs, if it is to end."""
        if self._stopped and self._running is not None and self._running.returncode is None:
            self._running.send_signal(signal.SIGINT)
            asyncio.get_running_loop().call_later(STOP_SECONDS, self._kill, self._running)

    @staticmethod
    def _kill(process: asyncio.subprocess.Process) -> None:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)  # with what it has started, which nobody else would end


async def main() -> bool:
    """Run both lanes; tell whether all passed."""
    with tempfile.TemporaryFile() as kept:
        lanes = [Lane([["integration", "interop"]]), Lane([virtual(), ["fault"]], kept)]

        def stop() -> None:
            for lane in lanes:
                lane.stop()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, stop)
        first, second = await asyncio.gather(*(lane.run() for lane in lanes))
        kept.seek(0)
        lines = kept.read().decode(errors="replace").splitlines()
    if second:
        lines = [line for line in lines if " passed" in line or line.startswith("left out")]
    print(*lines, sep="\n")
    return first and second


if __name__ == "__main__":
    sys.exit(not asyncio.run(main()))
