"""Managers of a locked swarm: joining, keys that change, demotion (contract/security.md, 13)."""

import re
import shutil
from pathlib import Path

from swarmkit.ca import pem
from swarmkit.ca.errors import CaError
from swarmkit.ca.keyfile import KeyFile
from swarmkit.ca.tokens import parse_unlock_key
from tests.integration.harness import eventually
from tests.integration.managers import Managers, managers


def label(swarm: Managers, name: str) -> str:
    (block,) = pem.decode((certificates(swarm, name) / "swarm-node.key").read_bytes())
    return block.label


def certificates(swarm: Managers, name: str) -> Path:
    return swarm.folder / name / "certificates"


def copied(swarm: Managers, name: str) -> Path:
    """Copy the certificates of a node: a reader completes what the daemon is in the middle of."""
    copy = swarm.folder / f"{name}-copy"
    try:
        shutil.copytree(certificates(swarm, name), copy, dirs_exist_ok=True)
    except shutil.Error as error:
        raise AssertionError(f"the daemon is in the middle of a write: {error}") from error
    return copy


def wait_label(swarm: Managers, name: str, wanted: str) -> None:
    def look() -> None:
        assert label(swarm, name) == wanted

    eventually(look, 20, f"the key of {name} is a {wanted}")


def test_locked_managers_follow_the_swarm() -> None:
    with managers(2, "simulated") as swarm:
        for name in ("node-1", "node-2"):
            assert label(swarm, name) == "PRIVATE KEY"
        swarm.ok_at("node-2", "cluster update --autolock")
        first = swarm.ok_at("node-2", "cluster unlock-key -q")
        for name in ("node-1", "node-2"):
            wait_label(swarm, name, "ENCRYPTED PRIVATE KEY")

        # A manager that joins needs no key, and its own never lies in clear.
        swarm.join_manager("node-3").wait_ready()
        swarm.wait_members(3)
        assert label(swarm, "node-3") == "ENCRYPTED PRIVATE KEY"

        # One that is down while the key changes starts with the key it stopped with, and follows.
        swarm.daemons["node-3"].kill()
        printed = swarm.ok("cluster update --rotate-unlock-key")
        match = re.search(r"Unlock key: (SWMKEY-1-\S+)", printed)
        assert match, printed
        second = match[1]
        assert second != first
        locked = swarm.restart("node-3")
        locked.wait_for_log("node is locked, and needs a valid unlock key")
        assert locked.wait_ended() == 1
        swarm.env = {"SWARM_UNLOCK_KEY": first}
        swarm.restart("node-3").wait_ready()
        swarm.wait_members(3)

        def follows() -> None:
            try:
                assert KeyFile(copied(swarm, "node-3"), parse_unlock_key(second)).read() is not None
            except CaError as error:
                raise AssertionError(f"it does not open: {error}") from error

        eventually(follows, 20, "its key file is under the new key")
        swarm.daemons["node-3"].kill()
        swarm.env = {"SWARM_UNLOCK_KEY": second}
        swarm.restart("node-3").wait_ready()
        swarm.wait_members(3)

        # A worker needs no key.
        swarm.ok("node demote node-3 --wait")
        swarm.wait_members(2)
        wait_label(swarm, "node-3", "PRIVATE KEY")
        logs = [path.read_text(errors="replace") for path in swarm.folder.glob("*.log*")]
        assert not any(key.removeprefix("SWMKEY-1-") in log for key in (first, second) for log in logs)
