"""Real daemons and the real command line, as a user runs them."""

import contextlib
import fcntl
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import docker
import docker.errors
from click.testing import CliRunner
from cryptography import x509
from cryptography.x509.oid import NameOID

from swarmctl.main import main as swarmctl
from swarmkit.clock import SystemClock
from swarmkit.executors.process.process import LocalProcess
from tests.ports import free_port
from tests.scale import SCALE

T = TypeVar("T")

BIN = Path(sys.executable).parent


def eventually(check: Callable[[], T], timeout: float, what: str, interval: float = 0.1) -> T:
    """Call ``check`` until it returns without an AssertionError; the last one is raised at the deadline."""
    deadline = time.monotonic() + timeout * SCALE
    while True:
        try:
            return check()
        except AssertionError as error:
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {timeout} s: {what}: {error}") from error
        time.sleep(interval)


class DaemonEndedError(Exception):
    """A daemon ended that a test waits for."""


@dataclass
class Result:
    """How a command ended."""

    command: str
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.out.splitlines()]


def run(command: str, env: dict[str, str] | None = None, timeout: float = 60) -> Result:
    """Run one command line, its program taken from this environment, and return how it ended."""
    words = shlex.split(command)
    words[0] = str(BIN / words[0])
    full = {**os.environ, **(env or {})}
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        timeout=timeout * SCALE,
        env=full,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return Result(command, done.returncode, done.stdout, done.stderr)


def invoke(arguments: str, env: dict[str, str]) -> Result:
    """Run a swarmctl command line within this process; not from several threads at once."""
    done = CliRunner().invoke(swarmctl, shlex.split(arguments), env=env, prog_name="swarmctl")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Result(f"swarmctl {arguments}", done.exit_code, done.stdout, done.stderr)


@dataclass
class Daemon:
    """One swarmd."""

    command: str
    log_path: Path
    env: dict[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> "Daemon":
        words = shlex.split(self.command)
        words[0] = str(BIN / words[0])
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                words,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **self.env},
                start_new_session=True,
            )
        return self

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def wait_for_log(self, text: str, timeout: float = 60) -> None:
        def check() -> None:
            running = self.running  # asked first: what it logs before its end counts
            if text in self.log:
                return
            if not running:
                raise DaemonEndedError(f"swarmd ended: {self.log[-2000:]}")
            raise AssertionError(self.log[-500:])

        eventually(check, timeout, f"{text!r} in the log of {self.command}")

    def wait_ready(self, timeout: float = 60) -> "Daemon":
        self.wait_for_log("node is ready", timeout)
        return self

    def wait_ended(self, timeout: float = 30) -> int:
        """Wait until it has ended by itself; return its exit code."""
        assert self.process is not None
        try:
            return self.process.wait(timeout * SCALE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it still runs after {timeout} s: {self.log[-3000:]}") from None

    def kill(self) -> None:
        """End it as a crash would."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def stop(self, timeout: float = 30) -> int:
        """Ask it to stop; returns the exit code. One that does not is killed, and the test fails."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout * SCALE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"did not stop in {timeout} s: {self.log[-3000:]}") from None


class Swarm:
    """Daemons of one test, and swarmctl on the first manager's socket."""

    def __init__(self, folder: Path, executor: str = "process", engine: str | None = None) -> None:
        self.folder = folder
        self.executor = executor
        self.env = {"DOCKER_HOST": engine} if engine else {}
        self.daemons: dict[str, Daemon] = {}
        self.socket = folder / "manager.sock"
        self.port = 0

    def found(self, name: str = "node-1", flags: str = "", port: int = 0) -> Daemon:
        """Start the first manager; its remote port is a free one unless given."""
        self.port = port or self.port or free_port()
        command = (
            f"swarmd -d {self.folder}/{name} --hostname {name} --listen-control-api {self.socket}"
            f" --listen-remote-api 127.0.0.1:{self.port} --executor {self.executor} {flags}"
        )
        return self._start(name, command).wait_ready()

    def join(self, name: str, flags: str = "") -> Daemon:
        """Start a node that joins through the first manager."""
        command = (
            f"swarmd -d {self.folder}/{name} --hostname {name} --join-addr 127.0.0.1:{self.port}"
            f" --executor {self.executor} {flags}"
        )
        return self._start(name, command)

    def _start(self, name: str, command: str) -> Daemon:
        daemon = Daemon(command, self.folder / f"{name}.log", self.env).start()
        self.daemons[name] = daemon
        return daemon

    def restart(self, name: str) -> Daemon:
        """Start a daemon that has ended again, with the command it had and a fresh log."""
        old = self.daemons[name]
        assert not old.running
        old.log_path.rename(old.log_path.with_suffix(f".log.{time.monotonic_ns()}"))
        return self._start(name, old.command)

    def ctl(self, arguments: str, timeout: float | None = None) -> Result:
        """Run swarmctl and return how it ended: as a process if a time limit is given.

        Without one it runs within this process, which spares its start, and nothing bounds the time it takes.
        """
        env = {"SWARM_SOCKET": str(self.socket)}
        return invoke(arguments, env) if timeout is None else run(f"swarmctl {arguments}", env, timeout)

    def ok(self, arguments: str, timeout: float | None = None) -> str:
        """Run swarmctl as ``ctl`` does; it must succeed. Return what it printed."""
        result = self.ctl(arguments, timeout)
        assert result.code == 0, f"{result.command}: {result.err}"
        return result.out.strip()

    def json(self, arguments: str) -> Any:
        """Run swarmctl with ``--format json`` and return what it printed, parsed."""
        return json.loads(self.ok(f"{arguments} --format json"))

    def stop(self) -> None:
        """Kill what still runs, and the tasks that outlive their daemons.

        Tests that are about stopping do it themselves.
        """
        with contextlib.ExitStack() as stack:  # what cannot be ended keeps nothing else from being ended
            if "DOCKER_HOST" in self.env:
                stack.callback(remove_containers, self.env["DOCKER_HOST"], self.folder)
            stack.callback(end_processes, self.folder)
            for daemon in self.daemons.values():
                if daemon.running:
                    stack.callback(daemon.kill)


def end_processes(folder: Path) -> None:
    """Kill the processes that daemons with state directories below ``folder`` left behind."""
    for directory in folder.glob("*/worker/processes/*"):
        with ThreadPoolExecutor(1) as threads:
            process = LocalProcess(directory, threads, SystemClock())

        def settled(process: LocalProcess = process) -> None:
            # A supervisor that was started a moment before its daemon was killed holds the lock already; one
            # that could not start the process has let go of it.
            assert process.started or not _is_locked(process.directory / "lock")

        eventually(settled, 5, "a supervisor that is starting says whom it runs")
        if (record := process.record()) is not None:
            record.process.send(signal.SIGKILL)  # its supervisor ends with it


def _is_locked(path: Path) -> bool:
    """Tell whether a process holds a lock on a file."""
    if not path.exists():
        return False
    with open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def remove_containers(engine: str, folder: Path) -> None:
    """Remove the containers that daemons with state directories below ``folder`` left behind."""
    with contextlib.closing(docker.DockerClient(base_url=engine, timeout=60)) as client:
        for path in folder.glob("*/certificates/swarm-node.crt"):
            subject = x509.load_pem_x509_certificate(path.read_bytes()).subject
            (name,) = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            label = f"com.docker.swarm.node.id={name.value!s}"
            for container in client.containers.list(all=True, filters={"label": label}):
                with contextlib.suppress(docker.errors.NotFound):
                    container.remove(force=True)


@contextlib.contextmanager
def swarm(folder: Path, executor: str = "process", engine: str | None = None) -> Iterator[Swarm]:
    """A swarm whose daemons end with the block."""
    made = Swarm(folder, executor, engine)
    try:
        yield made
    finally:
        made.stop()


def table(text: str) -> list[dict[str, str]]:
    """Parse a printed table: a header line, a rule line, rows; columns are found by the rule's dashes."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("--"))
    spans = [match.start() for match in re.finditer(r"-+", lines[start])]
    ends = [*spans[1:], None]
    titles = [lines[start - 1][a:b].strip() for a, b in zip(spans, ends, strict=True)]
    rows = [
        [line[a:b].strip() for a, b in zip(spans, ends, strict=True)] for line in lines[start + 1 :] if line
    ]
    return [dict(zip(titles, row, strict=True)) for row in rows]
