"""The managers' unlock key in the cluster object (contract/security.md, 13). Pure but for new keys."""

from swarmkit.api import messages as api
from swarmkit.ca.certificates import MANAGER_ROLE
from swarmkit.ca.keyfile import Kek
from swarmkit.ca.tokens import new_unlock_key

#: Whose unlock key it is, among the keys of a cluster object.
SUBSYSTEM = MANAGER_ROLE


def stored_unlock_key(cluster: api.Cluster) -> bytes:
    """Return the managers' unlock key, or nothing if there is none."""
    return next((entry.key for entry in cluster.unlock_keys if entry.subsystem == SUBSYSTEM), b"")


def candidate(cluster: api.Cluster) -> Kek:
    """Return what the key files of managers are to be encrypted under, as of this object."""
    return Kek(stored_unlock_key(cluster), cluster.meta.version.index)


def set_unlock_key(cluster: api.Cluster, key: bytes) -> None:
    """Put the managers' unlock key into a cluster object; other subsystems' keys stay as they are."""
    entries = [entry for entry in cluster.unlock_keys if entry.subsystem == SUBSYSTEM]
    if not entries:
        entries = [cluster.unlock_keys.add(subsystem=SUBSYSTEM)]
    entries[0].key = key


def follow_autolock(cluster: api.Cluster, rotate: bool) -> None:
    """Give a cluster object the unlock key that its spec asks for.

    Args:
        cluster: with the new spec; changed in place.
        rotate: replace a key that there is; without autolock the wish is ignored.
    """
    if not cluster.spec.encryption_config.auto_lock_managers:
        kept = [entry for entry in cluster.unlock_keys if entry.subsystem != SUBSYSTEM]
        del cluster.unlock_keys[:]
        cluster.unlock_keys.extend(kept)
    elif rotate or not stored_unlock_key(cluster):
        set_unlock_key(cluster, new_unlock_key())
