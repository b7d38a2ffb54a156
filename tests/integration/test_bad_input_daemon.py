"""swarmd under bad conditions: one sentence and exit code 1 or 2, nothing lost; a clean end when asked."""

import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.bad_input import (
    FAILED,
    MISUSED,
    assert_ended,
    assert_plain,
    assert_refused,
    assert_sound,
    many,
    short_directory,
)
from tests.integration.harness import BIN, Daemon, Swarm, end_processes, eventually, invoke, run, swarm
from tests.scale import SCALE

pytestmark = pytest.mark.slow

#: A clean end takes a moment; this is when somebody would lose patience, in seconds.
STOP_SECONDS = 10.0
TOKEN = "SWMTKN-1-" + "0" * 50 + "-" + "0" * 25
MISUSE = [
    ("extra", "unexpected extra argument (extra)"),
    ("--bogus", "No such option '--bogus'"),
    ("-l loud", "'loud' is not one of"),
    ("--executor podman", "'podman' is not one of"),
    ("-d ''", "--state-dir is empty"),
    ("--listen-control-api ''", "--listen-control-api is empty"),
    (f"--listen-control-api /tmp/{'x' * 110}", "is longer than the 107 bytes"),
    ("--listen-remote-api 4242", "--listen-remote-api '4242' must be HOST:PORT"),
    ("--listen-remote-api 127.0.0.1:65536", "with a port from 0 to 65535"),
    ("--listen-remote-api ::1:4242", "put the IPv6 address in brackets"),
    ("--advertise-remote-api host:0", "--advertise-remote-api must name a host and a port"),
    ("--join-addr nowhere", "--join-addr 'nowhere' must be HOST:PORT"),
    ("--join-addr 127.0.0.1:0", "--join-addr must name a host and a port"),
    (f"--join-token {TOKEN}", "--join-token needs --join-addr"),
    (f"--join-addr 127.0.0.1:1 --join-token {TOKEN[:-1]}", "--join-token is not one (invalid join token)"),
    ("--join-addr 127.0.0.1:1 --join-token hunter2", "--join-token is not one"),
    ("--hostname 'a b'", "is not a host name"),
    ("--engine-addr nonsense", "must be unix:///PATH or tcp://HOST:PORT"),
]


def test_misuse_is_told_with_exit_code_2_before_anything_is_made(short_folder: Path) -> None:
    def start(case: tuple[str, str]) -> None:
        flags, words = case
        assert_refused(run(f"swarmd -d {short_folder}/state {flags}"), words, MISUSED)

    many(start, MISUSE)
    assert not any(short_folder.iterdir())


@dataclass
class Place:
    """Where daemons of a test keep their things."""

    folder: Path

    def daemon(self, name: str, flags: str = "", state: Path | None = None) -> Daemon:
        """Return a manager that is not started yet; flags given here win."""
        command = (
            f"swarmd -d {state or self.folder / name} --listen-control-api {self.folder}/{name}.sock"
            f" --listen-remote-api 127.0.0.1:0 --executor process {flags}"
        )
        return Daemon(command, self.folder / f"{name}.log")


@pytest.fixture
def place(short_folder: Path) -> Place:
    return Place(short_folder)


@contextlib.contextmanager
def ended(*daemons: Daemon) -> Iterator[None]:
    """Whatever happens in the block, the daemons do not outlive it."""
    try:
        yield
    finally:
        for daemon in daemons:
            daemon.kill()


# What is taken already


@pytest.fixture(scope="module")
def living() -> Iterator[Swarm]:
    """A manager at whose side others try to start; it is sound in the end."""
    with short_directory() as folder, swarm(folder) as made:
        daemon = made.found()
        yield made
        made.ok("node ls")
        assert_sound(daemon)
        assert daemon.stop() == 0
        assert not made.socket.exists()


def test_what_another_daemon_uses_is_left_alone(living: Swarm, place: Place) -> None:
    folder, socket_in_use = place.folder, living.socket
    (folder / "taken").write_text("precious")
    cases = {
        "port": (
            f"--listen-remote-api 127.0.0.1:{living.port}",
            f"cannot listen on 127.0.0.1:{living.port}: the port is in use",
        ),
        "socket": (f"--listen-control-api {socket_in_use}", "another daemon answers on the socket"),
        "file": (f"--listen-control-api {folder}/taken", "exists and is not a socket: remove it"),
        "below": (f"--listen-control-api {folder}/taken/s", "/taken is not a directory"),
        "address": ("--listen-remote-api 192.0.2.1:4242", "it is not an address of this machine"),
        "state": (f"-d {living.folder}/node-1", "is in use by another swarmd: stop it, or use another one"),
        "lone-file": (f"-d {folder}/taken", "is not a directory: --state-dir must name"),
    }
    daemons = {name: place.daemon(name, flags) for name, (flags, _) in cases.items()}
    with ended(*daemons.values()):
        many(lambda name: assert_ended(daemons[name].start(), cases[name][1]), cases)
    assert (folder / "taken").read_text() == "precious"
    assert stat.S_ISSOCK(socket_in_use.stat().st_mode)


def test_a_socket_left_by_a_crash_is_replaced_and_nothing_is_lost(place: Place) -> None:
    with swarm(place.folder) as made:
        made.found().kill()
        made.restart("node-1").wait_ready()
        created = made.ok("service create --name kept --image y --instances 0")
        made.daemons["node-1"].kill()
        assert made.socket.exists()
        again = made.restart("node-1").wait_ready()
        assert made.ok("service ls -q") == created
        assert_sound(again)
        assert again.stop() == 0


def test_a_directory_that_holds_something_else_keeps_its_mode(place: Place) -> None:
    home = place.folder / "home"
    home.mkdir(mode=0o755)
    (home / "thesis.tex").write_text("precious")
    daemon = place.daemon("home").start()
    with ended(daemon):
        assert_ended(daemon, "is in use for something else (thesis.tex): --state-dir must name a new one")
    assert stat.S_IMODE(home.stat().st_mode) == 0o755
    assert [path.name for path in home.iterdir()] == ["thesis.tex"]


# State directories that are not what they should be


@dataclass
class Founded:
    """Two swarms that were founded and stopped, the first one with a service."""

    folder: Path
    service_id: str

    @property
    def first(self) -> Path:
        return self.folder / "first" / "node-1"

    @property
    def second(self) -> Path:
        return self.folder / "second" / "node-1"


@pytest.fixture(scope="module")
def founded() -> Iterator[Founded]:
    with short_directory() as folder:
        service_id = ""
        for name in ("first", "second"):
            (folder / name).mkdir()
            with swarm(folder / name) as made:
                daemon = made.found()
                if not service_id:
                    service_id = made.ok("service create --name kept --image y --instances 0")
                assert daemon.stop() == 0
        yield Founded(folder, service_id)


Damage = Callable[[Path, Founded], object]


def certificates(state: Path) -> Path:
    return state / "certificates"


def segment(state: Path) -> Path:
    (found,) = (state / "raft" / "wal-v3-encrypted").glob("*.wal")
    return found


def take(name: str) -> Damage:
    """Put a file or folder of the other swarm in the place of this one's."""

    def damage(state: Path, founded: Founded) -> None:
        source = founded.second / name
        if source.is_dir():
            shutil.rmtree(state / name)
            shutil.copytree(source, state / name)
        else:
            shutil.copy(source, state / name)

    return damage


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


DAMAGES: dict[str, tuple[Damage, str]] = {
    "root": (take("certificates/swarm-root-ca.crt"), "mixes two swarms"),
    "log": (take("raft"), "it is of another node: put this node's own back, or use another state directory"),
    "key": (take("certificates/swarm-node.key"), "the node's key does not fit its certificate"),
    "open": (
        lambda state, _: (certificates(state) / "swarm-node.key").chmod(0o644),
        "is open to other users (mode 0644); if none of them can have read it, run: chmod 600",
    ),
    "shared": (lambda state, _: state.chmod(0o777), "if none of them has, run: chmod 700"),
    "no-key": (
        lambda state, _: (certificates(state) / "swarm-node.key").unlink(),
        "certificate, key or root certificate are missing",
    ),
    "bad-key": (
        lambda state, _: (certificates(state) / "swarm-node.key").write_text("garbage"),
        "swarm-node.key holds no private key",
    ),
    "middle": (
        lambda state, _: flip_a_byte(segment(state)),
        "nothing was changed: restore the state directory from a backup",
    ),
    "tasks": (
        lambda state, _: (state / "worker" / "tasks.db").write_text("garbage" * 1000),
        "tasks.db is damaged",
    ),
}


def contents(state: Path) -> dict[str, bytes]:
    """Return what a state directory holds, without what each start may touch."""
    kept = (path for folder in ("certificates", "raft") for path in (state / folder).rglob("*"))
    return {str(path.relative_to(state)): path.read_bytes() for path in kept if path.is_file()}


def test_a_damaged_state_directory_is_refused_and_left_as_it_is(founded: Founded, place: Place) -> None:
    def start(name: str) -> None:
        damage, words = DAMAGES[name]
        state = place.folder / name
        shutil.copytree(founded.first, state)
        damage(state, founded)
        before = contents(state)
        daemon = place.daemon(name).start()
        with ended(daemon):
            assert_ended(daemon, words)
        # A manager that found its log sound has noted that it led again.
        assert contents(state).keys() == before.keys()
        if name != "tasks":
            assert contents(state) == before

    many(start, DAMAGES)


def test_what_was_refused_starts_again_when_it_is_put_right(founded: Founded, place: Place) -> None:
    state = place.folder / "node-1"
    shutil.copytree(founded.first, state)
    key = state / "certificates" / "swarm-node.key"
    key.chmod(0o644)
    (state / "state.json").write_text("garbage")
    first = place.daemon("node-1").start()
    with ended(first):
        assert_ended(first, "run: chmod 600")
    key.chmod(0o600)
    second = place.daemon("node-1").start()
    with ended(second):
        second.wait_ready()
        listed = invoke(f"-s {place.folder}/node-1.sock service ls -q", {})
        assert listed.out.strip() == founded.service_id
        assert_sound(second)
        assert second.stop() == 0


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv")
def test_a_directory_of_another_user_is_refused(founded: Founded, place: Place) -> None:
    place.folder.chmod(0o755)
    (place.folder / "closed").mkdir(mode=0o700)
    (place.folder / "read-only").mkdir(mode=0o555)
    shutil.copytree(founded.first, place.folder / "half")
    for path in [place.folder / "half", *(place.folder / "half").rglob("*")]:
        os.chown(path, 65534, 65534)
    os.chown(place.folder / "half" / "raft", 0, 0)
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", f"{BIN}/swarmd"]
    cases = {
        "closed": "Permission denied; swarmd must run as the user who owns it",
        "read-only": "cannot use the state directory",
        "half": "cannot read the raft directory",
        "new": "cannot use the state directory",
    }
    for name, words in cases.items():
        flags = f"-d {place.folder}/{name} --listen-remote-api 127.0.0.1:0 --executor process".split()
        done = subprocess.run(
            [*nobody, *flags], capture_output=True, text=True, timeout=60 * SCALE, check=False
        )
        assert_plain(done.stderr)
        assert done.returncode == FAILED, done.stderr
        assert words in done.stderr.splitlines()[-1]


# A full disk


@pytest.fixture
def small_disk(short_folder: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small file system")
    disk = short_folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.decode().strip()}")

    def unmount() -> None:
        done = subprocess.run(["umount", str(disk)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    try:
        yield disk
    finally:
        end_processes(disk)
        eventually(unmount, 20, "the small file system is in nobody's use")


def fill(disk: Path, leave_kib: int = 0) -> Path:
    """Use up a file system, but for so many KiB."""
    path = disk / "filler"
    with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1024))
    os.truncate(path, path.stat().st_size - leave_kib * 1024)
    return path


@pytest.mark.root
def test_a_disk_that_is_full_from_the_start_is_named(small_disk: Path, place: Place) -> None:
    for leave_kib, words in ((0, "No space left on device"), (16, "")):
        filler = fill(small_disk, leave_kib)
        daemon = place.daemon(f"left-{leave_kib}", state=small_disk / f"left-{leave_kib}").start()
        with ended(daemon):
            assert_ended(daemon, words)
        filler.unlink()
        again = place.daemon(f"again-{leave_kib}", state=small_disk / f"left-{leave_kib}").start()
        with ended(again):
            again.wait_ready()
            assert again.stop() == 0
        shutil.rmtree(small_disk / f"left-{leave_kib}")


@pytest.mark.root
def test_a_disk_that_fills_up_loses_nothing_that_was_acknowledged(small_disk: Path, place: Place) -> None:
    state, control = small_disk / "node-1", f"-s {place.folder}/node-1.sock"
    daemon = place.daemon("node-1", state=state).start()
    with ended(daemon):
        daemon.wait_ready()
        task = invoke(f"{control} service create --name task --image y --command sleep,1000 --wait", {})
        assert task.code == 0, task.err
        filler = fill(small_disk, 12)
        acknowledged, refusal = {task.out.strip()}, None
        for number in range(50):
            create = f"service create --name s{number} --image y --instances 0 --label a={'x' * 1000}"
            result = invoke(f"{control} {create}", {})
            if result.code != 0:
                refusal = result
                break
            acknowledged.add(result.out.strip())
        assert refusal is not None
        assert_refused(refusal, "", FAILED)
        assert "node is stopped" in refusal.err or "connect" in refusal.err
        assert_ended(daemon, "no space left to write the raft log; free some and start again")
    assert not (place.folder / "node-1.sock").exists()
    assert processes(state), "a node that fails leaves its tasks running"
    filler.unlink()
    again = place.daemon("node-1-again", f"--listen-control-api {place.folder}/node-1.sock", state).start()
    with ended(again):
        again.wait_ready()
        listed = invoke(f"{control} service ls -q", {}).out.split()
        assert acknowledged <= set(listed)
        assert_sound(again)
        assert again.stop() == 0
    assert not processes(state)


def processes(state: Path) -> list[Path]:
    """Return the folders of the local processes that a state directory keeps."""
    return list((state / "worker" / "processes").glob("*"))


# The end


def assert_stops(daemon: Daemon, number: signal.Signals) -> None:
    """Send a signal; the daemon must end with 0 soon."""
    assert daemon.process is not None
    daemon.process.send_signal(number)
    assert daemon.process.wait(STOP_SECONDS * SCALE) == 0, daemon.log[-2000:]
    assert_plain(daemon.log)
    assert "level=error" not in daemon.log


def test_a_founding_that_is_told_to_stop_is_finished_first(place: Place) -> None:
    daemon = place.daemon("node-1").start()

    def founding() -> None:
        assert "founding a new swarm" in daemon.log

    with ended(daemon):
        eventually(founding, 20, "it begins to found a swarm", 0.001)
        assert_stops(daemon, signal.SIGTERM)
    again = place.daemon("node-1").start()
    with ended(again):
        again.wait_ready()
        assert again.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_a_daemon_whatever_it_waits_for(number: signal.Signals, place: Place) -> None:
    folder = place.folder
    with swarm(folder) as made, socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        mute.settimeout(20 * SCALE)
        manager = made.found()
        worker = made.join("worker").wait_ready()
        made.ok("cluster update --autoaccept none")
        pending = made.join("pending")
        pending.wait_for_log("the swarm has not accepted this node yet")
        nowhere = Daemon(f"swarmd -d {folder}/a --join-addr 127.0.0.1:1 --executor process", folder / "a.log")
        silent = Daemon(
            f"swarmd -d {folder}/b --join-addr 127.0.0.1:{mute.getsockname()[1]} --executor process",
            folder / "b.log",
        )
        with ended(nowhere, silent):
            silent.start()
            with mute.accept()[0]:  # a connection that will never be answered
                nowhere.start().wait_for_log("the swarm's root certificate did not come")
                assert_stops(nowhere, number)
                assert_stops(silent, number)
        assert_stops(pending, number)
        assert_stops(manager, number)
        assert not made.socket.exists()
        worker.wait_for_log("session with a manager failed")
        assert_stops(worker, number)
