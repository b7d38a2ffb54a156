"""Keys at rest as an operator handles them (contract/security.md, 13; contract/cli.md, 8 and 10)."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmkit.ca import pem
from swarmkit.ca.errors import CaError
from swarmkit.ca.keyfile import KeyFile, KeyHeaders
from swarmkit.ca.tokens import parse_unlock_key
from tests.integration.harness import Daemon, Swarm, eventually, run, swarm

LOCKED = re.compile(r"node is locked, and needs a valid unlock key; ")
LINE = re.compile(r"Managers auto-locked\.  Unlock key: (SWMKEY-1-[A-Za-z0-9+/]{43})")


@pytest.fixture
def fresh(short_folder: Path) -> Iterator[Swarm]:
    """A swarm that is not founded yet."""
    with swarm(short_folder, "simulated") as made:
        yield made


def tree(folder: Path) -> dict[str, bytes]:
    """Return what a state directory holds, but for its lock."""
    return {
        str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "lock"
    }


def key_block(fresh: Swarm) -> pem.PemBlock:
    (block,) = pem.decode((fresh.folder / "node-1" / "certificates" / "swarm-node.key").read_bytes())
    return block


def headers(fresh: Swarm, unlock_key: str = "") -> KeyHeaders:
    """Read the manager's data keys in a copy: a reader completes what the daemon is in the middle of."""
    with tempfile.TemporaryDirectory() as copy:
        try:
            shutil.copytree(fresh.folder / "node-1" / "certificates", copy, dirs_exist_ok=True)
        except shutil.Error as error:
            raise AssertionError(f"the daemon is in the middle of a write: {error}") from error
        file = KeyFile(Path(copy), parse_unlock_key(unlock_key) if unlock_key else b"")
        try:
            assert file.read() is not None
        except CaError as error:
            raise AssertionError(f"the key file does not open: {error}") from error
        return file.headers()


def start(fresh: Swarm, unlock_key: str) -> Daemon:
    fresh.env = {"SWARM_UNLOCK_KEY": unlock_key}
    return fresh.restart("node-1").wait_ready()


def refused(fresh: Swarm, unlock_key: str = "") -> None:
    """Start a manager that must not start, and change nothing."""
    before = tree(fresh.folder / "node-1")
    fresh.env = {"SWARM_UNLOCK_KEY": unlock_key} if unlock_key else {}
    daemon = fresh.restart("node-1")
    assert daemon.wait_ended() == 1
    (line,) = [line for line in daemon.log.splitlines() if LOCKED.search(line)]
    assert ("--unlock-key" in line) is (not unlock_key)
    assert "Traceback" not in daemon.log
    assert tree(fresh.folder / "node-1") == before


def no_secret_in_logs(fresh: Swarm, *keys: str) -> None:
    logs = [path.read_text(errors="replace") for path in fresh.folder.glob("node-1.log*")]
    assert logs
    for key in keys:
        for secret in (key, key.removeprefix("SWMKEY-1-"), parse_unlock_key(key).hex()):
            assert not any(secret in log for log in logs)


def test_a_swarm_that_is_founded_locked_starts_again_with_its_key_alone(fresh: Swarm) -> None:
    daemon = fresh.found(flags="--autolock")
    assert key_block(fresh).label == "ENCRYPTED PRIVATE KEY"
    line = fresh.ok("cluster unlock-key")
    match = LINE.fullmatch(line)
    assert match, line
    key = match[1]
    assert fresh.ok("cluster unlock-key -q") == key
    assert "  Autolock managers: true" in fresh.ok("cluster inspect").splitlines()
    assert "SWMKEY" not in fresh.ok("cluster inspect --format json")
    fresh.ok("service create --name web --image x --replicas 1")
    assert daemon.stop() == 0

    refused(fresh)
    refused(fresh, "SWMKEY-1-" + "A" * 43)
    daemon = start(fresh, key)
    assert "web" in fresh.ok("service ls")
    assert fresh.ok("cluster unlock-key -q") == key
    assert daemon.stop() == 0
    no_secret_in_logs(fresh, key)


def test_a_running_swarm_is_locked_gets_another_key_and_is_unlocked(fresh: Swarm) -> None:
    daemon = fresh.found()
    cluster_id = fresh.ok("cluster ls -q")
    assert fresh.ok("cluster unlock-key") == "Managers not auto-locked"
    assert fresh.ok("cluster update --rotate-unlock-key").splitlines() == [
        cluster_id,
        "Managers not auto-locked",
    ]
    first_key, first_data_key = key_block(fresh).data, headers(fresh).data_key
    fresh.ok("service create --name web --image x --replicas 1")

    assert fresh.ok("cluster update --autolock") == cluster_id
    first = fresh.ok("cluster unlock-key -q")
    assert fresh.ok("cluster update --autolock") == cluster_id
    assert fresh.ok("cluster unlock-key -q") == first

    def locked() -> None:
        assert key_block(fresh).label == "ENCRYPTED PRIVATE KEY"
        now = headers(fresh, first)
        assert now == KeyHeaders(now.data_key)
        assert now.data_key != first_data_key
        assert "certificate was renewed" in daemon.log

    eventually(locked, 20, "the key file is locked, data key and certificate are new")
    assert key_block(fresh).data != first_key
    assert daemon.stop() == 0
    refused(fresh)

    daemon = start(fresh, first)
    data_key = headers(fresh, first).data_key
    shown, line = fresh.ok("cluster update --rotate-unlock-key").splitlines()
    assert shown == cluster_id
    match = LINE.fullmatch(line)
    assert match, line
    second = match[1]
    assert second != first

    def rewrapped() -> None:
        assert headers(fresh, second) == KeyHeaders(data_key)

    eventually(rewrapped, 10, "the key file is under the new key")
    daemon.kill()
    refused(fresh, first)

    daemon = start(fresh, second)
    assert fresh.ok("cluster update --autolock=false") == cluster_id
    assert fresh.ok("cluster unlock-key") == "Managers not auto-locked"
    assert fresh.ok("cluster unlock-key -q") == ""

    def in_clear() -> None:
        assert key_block(fresh).label == "PRIVATE KEY"

    eventually(in_clear, 10, "the key file is in clear")
    assert headers(fresh).data_key == data_key
    assert daemon.stop() == 0
    fresh.env = {}
    daemon = fresh.restart("node-1").wait_ready()
    assert "web" in fresh.ok("service ls")
    no_secret_in_logs(fresh, first, second)


def test_what_is_no_unlock_key_is_a_misuse_and_is_not_repeated(fresh: Swarm) -> None:
    result = run(f"swarmd -d {fresh.folder}/node-1 --executor simulated --unlock-key x-secret-x")
    assert result.code == 2
    assert "--unlock-key (or SWARM_UNLOCK_KEY) is not one" in result.err
    assert "x-secret-x" not in result.err + result.out
