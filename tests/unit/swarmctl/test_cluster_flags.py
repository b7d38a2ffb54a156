"""Autolock on the command line (contract/cli.md, 8)."""

import pytest

from swarmctl.flags.cluster import merge
from swarmctl.render.clusters import cluster_block, unlock_key, unlock_key_line
from swarmkit.api import messages as api
from swarmkit.ca.tokens import format_unlock_key

KEY = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
NOT_GIVEN = {"autolock": None}


@pytest.mark.parametrize("on", [True, False])
def test_autolock_is_set_as_given_and_stays_if_it_is_not(on: bool) -> None:
    spec = merge(api.ClusterSpec(), {"autolock": on})
    assert spec.encryption_config.auto_lock_managers is on
    assert merge(spec, NOT_GIVEN) == spec


def test_an_unlock_key_is_shown_as_the_daemon_takes_it() -> None:
    assert unlock_key(KEY) == format_unlock_key(KEY) == "SWMKEY-1-QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU"


def test_the_line_says_whether_the_managers_are_locked() -> None:
    assert unlock_key_line(KEY) == f"Managers auto-locked.  Unlock key: {unlock_key(KEY)}"
    assert unlock_key_line(b"") == "Managers not auto-locked"


def test_inspect_shows_whether_autolock_is_on_and_never_a_key() -> None:
    cluster = api.Cluster(id="c1", unlock_keys=[api.EncryptionKey(subsystem="swarm-manager", key=KEY)])
    assert "  Autolock managers: false" in cluster_block(cluster).splitlines()
    cluster.spec.encryption_config.auto_lock_managers = True
    assert "  Autolock managers: true" in cluster_block(cluster).splitlines()
    assert "SWMKEY" not in cluster_block(cluster)
