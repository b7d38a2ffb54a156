"""Autolock on one manager: its key file follows the unlock key in the cluster object.

Runs on every manager, leading or not (contract/security.md, 13).
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from swarmkit.api import messages as api
from swarmkit.ca.autolock import candidate
from swarmkit.ca.errors import KekConflictError, StateDirError
from swarmkit.ca.keyfile import Kek, KeyHeaders
from swarmkit.log import get_logger
from swarmkit.store import Store, Watch

log = get_logger(__name__)

#: Pause before a key file that could not be written is tried again, in seconds.
RETRY_SECONDS = 5.0


class LockableFile(Protocol):
    """What is kept under the unlock key: ``swarmkit.ca.keyfile.KeyFile``. All methods block."""

    def follow(self, candidate: Kek) -> bool:
        """Encrypt the file under a newer key; tell whether that locked it. Raises ``StateDirError``."""
        ...

    def headers(self) -> KeyHeaders:
        """Return the data keys, and whether they are to be rotated."""
        ...


class KeyFollower:
    """Keeps a manager's key file under the swarm's unlock key.

    Args:
        store: holds the cluster object.
        cluster_id: of that object.
        key_file: the manager's.
        rotate_data_key: has raft look at the key file's flag.
        on_locked: told when the file was in clear before: the node's private key should be replaced.
    """

    def __init__(
        self,
        store: Store,
        cluster_id: str,
        key_file: LockableFile,
        rotate_data_key: Callable[[], None],
        on_locked: Callable[[], None],
    ) -> None:
        self._store = store
        self._cluster_id = cluster_id
        self._key_file = key_file
        self._rotate_data_key = rotate_data_key
        self._on_locked = on_locked

    async def run(self) -> None:
        """Follow the cluster object until cancelled."""
        with self._store.watch(Watch(api.Cluster, ids={self._cluster_id})) as changes:
            while True:
                cluster = self._store.view().get(api.Cluster, self._cluster_id)
                done = cluster is None or await self._follow(candidate(cluster))
                # Only the latest state counts: while the file is being written, several may come.
                try:
                    async with asyncio.timeout(None if done else RETRY_SECONDS):
                        await anext(changes)
                except TimeoutError:
                    continue
                while changes.next_nowait() is not None:
                    pass

    async def _follow(self, wanted: Kek) -> bool:
        """Apply one state of the cluster object; False if it has to be tried again."""

        def follow() -> tuple[bool, bool]:
            return self._key_file.follow(wanted), self._key_file.headers().needs_rotation

        try:
            locked, exposed = await asyncio.to_thread(follow)
        except KekConflictError as error:
            log.error("the unlock key was not taken over", error=str(error))
            return True
        except StateDirError as error:
            log.error("the key file does not follow the unlock key; trying again", error=str(error))
            return False
        if locked:
            log.info("this manager is locked from now on: a restart needs the unlock key")
            self._on_locked()
        if exposed:
            self._rotate_data_key()
        return True
