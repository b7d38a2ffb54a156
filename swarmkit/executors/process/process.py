"""One supervised process: how to start it, find it again, wait for it and end it.

All that is known of it stands in its directory, written by its supervisor: ``record`` (boot id, then pid
and start time of the supervisor and of the process) and ``exit`` (the exit code). Pid and start time together
name a process for one boot of the machine, so a recycled pid is never taken for it.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from swarmkit.agent.exec import TemporaryError
from swarmkit.clock import Clock
from swarmkit.executors.process import supervisor

#: Most bytes of a log file; a process keeps at most four: two streams, each with its predecessor.
LOG_BOUND = 1 << 20
#: Seconds a supervisor may take to start its process.
LAUNCH_TIMEOUT = 30.0
#: Seconds a killed process may take to vanish.
KILL_TIMEOUT = 10.0
#: Seconds between looks for a record that another supervisor is about to write, and how long to look.
RECORD_PAUSE = 0.02
RECORD_TIMEOUT = 5.0

_T = TypeVar("_T")


class LaunchError(Exception):
    """The process could not be started.

    Attributes:
        code: the exit code a container engine reports for it.
    """

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class Identity:
    """A process of this boot, past or present."""

    pid: int
    start: str

    @classmethod
    def of(cls, pid: int) -> "Identity | None":
        """Return the identity of a running process."""
        start = _start_of_running(pid)
        return cls(pid, start) if start else None

    @property
    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        return _start_of_running(self.pid) == self.start

    def send(self, number: int) -> None:
        """Send a signal to it, and never to another process that got its pid."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if self.alive:
                signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            pass  # it ended just now, which is what the caller is after
        finally:
            os.close(descriptor)

    async def gone(self) -> None:
        """Return when it has ended; it need not be a child."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        loop = asyncio.get_running_loop()
        try:
            if self.alive:
                ended = asyncio.Event()
                loop.add_reader(descriptor, ended.set)
                await ended.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)


@dataclass(frozen=True)
class Record:
    """Who runs: both of this boot of the machine."""

    supervisor: Identity
    process: Identity

    @property
    def name(self) -> str:
        """What task statuses show as the container's id."""
        return f"process-{self.process.pid}-{self.process.start}"


@dataclass(frozen=True)
class Launch:
    """What to start: see ``supervisor.py`` for the fields."""

    argv: tuple[str, ...]
    env: dict[str, str]
    directory: str
    user: tuple[int, int, tuple[int, ...]] | None

    def encode(self, state: Path) -> bytes:
        """Return the supervisor's input."""
        user = ["", "", ""]
        if self.user is not None:
            uid, gid, groups = self.user
            user = [str(uid), str(gid), ",".join(str(group) for group in groups)]
        fields = [str(state), self.directory, *user, str(LOG_BOUND), str(len(self.argv)), *self.argv]
        fields += [f"{name}={value}" for name, value in self.env.items()]
        return b"".join(field.encode(errors="surrogateescape") + b"\0" for field in fields)


class LocalProcess:
    """The process of one directory.

    Args:
        directory: its own, made by ``prepare``.
        threads: where starting and deleting run.
    """

    def __init__(self, directory: Path, threads: ThreadPoolExecutor, clock: Clock) -> None:
        self.directory = directory
        self._threads = threads
        self._clock = clock
        self._launching: asyncio.Future[str] | None = None
        self._kill_at: float | None = None

    @property
    def prepared(self) -> bool:
        """Whether the directory is there."""
        return self.directory.is_dir()

    def prepare(self) -> Path:
        """Make the directory and in it one to work in; return the latter."""
        work = self.directory / "work"
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        work.mkdir(mode=0o755, exist_ok=True)
        return work

    def record(self) -> Record | None:
        """Return who runs, or ran; None if nothing was started in this boot of the machine."""
        text = _read(self.directory / "record")
        if text is None:
            return None
        boot, *numbers = text.split()
        if boot != supervisor.boot_id() or len(numbers) != 4:
            return None
        return Record(Identity(int(numbers[0]), numbers[1]), Identity(int(numbers[2]), numbers[3]))

    def exit_code(self) -> int | None:
        """Return the exit code; None if the process runs, was never started, or ended without a witness."""
        text = _read(self.directory / "exit")
        return None if text is None else int(text)

    @property
    def started(self) -> bool:
        """Whether the process was ever started, in whichever boot of the machine."""
        return (self.directory / "record").exists() or (self.directory / "exit").exists()

    async def start(self, launch: Launch) -> bool:
        """Start the process and return when it runs; False if it had been started before.

        May be cancelled: the start goes on, and ``settled``, or the next call, waits for it.

        Raises:
            LaunchError: the command cannot be run.
            TemporaryError: there are no means to start it now.
        """
        await self.settled()
        if self.started:
            return False
        self._launching = asyncio.ensure_future(self.call(lambda: self._launch(launch)))
        reply = await asyncio.shield(self._launching)
        match reply.split(maxsplit=2):
            case ["started"]:
                return True
            case ["running"]:
                await self._appear()
                return False
            case ["failed", code, text]:
                raise LaunchError(text, int(code))
        raise TemporaryError(
            f"the supervisor of the process did not start; see {self.directory}/supervisor.log"
        )

    async def settled(self) -> None:
        """Return when no start is under way."""
        if self._launching is not None:
            await asyncio.wait([self._launching])

    def _launch(self, launch: Launch) -> str:
        """In a thread: run the supervisor until it answers; it has detached itself by then."""
        with open(self.directory / "supervisor.log", "ab") as errors:
            try:
                done = subprocess.run(
                    [sys.executable, "-I", "-S", supervisor.__file__],
                    input=launch.encode(self.directory),
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    env={},
                    cwd="/",
                    start_new_session=True,
                    timeout=LAUNCH_TIMEOUT,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return ""
            except OSError as error:
                raise TemporaryError(f"cannot start a supervisor: {error}") from error
        return done.stdout.decode(errors="replace").strip()

    async def _appear(self) -> None:
        deadline = self._clock.monotonic() + RECORD_TIMEOUT
        while not self.started:
            if self._clock.monotonic() >= deadline:
                raise TemporaryError(
                    f"the process is held by a supervisor that does nothing: {self.directory}"
                )
            await self._clock.sleep(RECORD_PAUSE)

    async def ended(self) -> int | None:
        """Return when the process has ended: its exit code, or None if nobody saw it end."""
        record = self.record()
        if record is not None:
            await record.supervisor.gone()
            if self.exit_code() is None:
                await record.process.gone()
        return self.exit_code()

    async def stop(self, number: int, grace: float) -> None:
        """End the process: the signal, and the kill ``grace`` seconds after the first call.

        Raises:
            TemporaryError: it does not end.
        """
        await self.settled()
        record = self.record()
        if record is None or self.exit_code() is not None:
            return
        if self._kill_at is None:
            self._kill_at = self._clock.monotonic() + grace
            record.process.send(number)
        if await self._ends_within(self._kill_at - self._clock.monotonic()):
            return
        record.process.send(signal.SIGKILL)
        if not record.supervisor.alive:
            self._kill_group(record)
        if not await self._ends_within(KILL_TIMEOUT):
            raise TemporaryError(f"process {record.process.pid} does not end although it was killed")

    @staticmethod
    def _kill_group(record: Record) -> None:
        try:
            os.killpg(record.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return  # nothing is left of it

    async def _ends_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(max(seconds, 0.0)):
                await self.ended()
        except TimeoutError:
            return False
        return True

    async def remove(self, number: int, grace: float) -> None:
        """End the process and delete its directory; done twice is fine.

        Raises:
            TemporaryError: it does not end.
        """
        await self.stop(number, grace)
        await self.call(self._delete)

    def _delete(self) -> None:
        if self.directory.exists():
            shutil.rmtree(self.directory)

    async def call(self, function: Callable[[], _T]) -> _T:
        """Run what may block in one of the executor's threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)


def _start_of_running(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode()


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None
