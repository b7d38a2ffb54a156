"""How a node comes by its identity at start: from disk, by founding a swarm, or by joining one.

Source: contract/security.md, 6.1.
"""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from swarmkit.ca.certificates import MANAGER_ROLE
from swarmkit.ca.credentials import Credentials
from swarmkit.ca.enrollment import Enroller, found_cluster
from swarmkit.ca.root import Root
from swarmkit.ca.statedir import StateDir
from swarmkit.ca.tokens import parse_join_token
from swarmkit.clock import Clock
from swarmkit.log import get_logger
from swarmkit.node.config import NodeConfig
from swarmkit.raft.storage import LOG_FOLDER, SNAPSHOT_FOLDER

log = get_logger(__name__)


@dataclass(frozen=True)
class Identity:
    """What a node starts with.

    Attributes:
        credentials: its certificate, key and trusted root.
        root: the root of a swarm that is founded now; None for one that exists.
    """

    credentials: Credentials
    root: Root | None = field(default=None, repr=False)


def has_log(state_dir: Path) -> bool:
    """Tell whether a replicated log, or what is left of one, is on disk. Blocks for a moment."""
    return any(any((state_dir / folder).glob("*")) for folder in (LOG_FOLDER, SNAPSHOT_FOLDER))


async def obtain_identity(
    config: NodeConfig, state: StateDir, enroller: Enroller, clock: Clock, logged: bool
) -> Identity:
    """Load, found or join.

    A founding that was interrupted before its first log entry left an identity that nobody knows: without a
    log, a manager's identity is made anew.

    Args:
        config: settings of the node.
        state: its prepared state directory.
        enroller: gets certificates from managers.
        clock: time.
        logged: whether a replicated log is on disk.

    Raises:
        CaError: with a sentence; a malformed token before any contact.
    """
    token = parse_join_token(config.join_token) if config.join_token else None
    loaded = await asyncio.to_thread(state.load, clock.now())
    if loaded is not None and (logged or loaded.role != MANAGER_ROLE or config.join_addr):
        return Identity(loaded)
    if not config.join_addr:
        founding = found_cluster(clock.now())
        await asyncio.to_thread(state.save, founding.credentials)
        log.info(
            "founding a new swarm",
            cluster_id=founding.credentials.organization,
            node_id=founding.credentials.node_id,
        )
        return Identity(founding.credentials, founding.root)
    root_pem = await asyncio.to_thread(state.load_root, clock.now())
    if root_pem is None:
        root_pem = await enroller.download_root(token)
        await asyncio.to_thread(state.save_root, root_pem)
    issued = await enroller.join(root_pem, config.join_token)
    await asyncio.to_thread(state.save, issued.credentials, issued.kek)
    log.info(
        "joined a swarm",
        cluster_id=issued.credentials.organization,
        node_id=issued.credentials.node_id,
        role=issued.credentials.role,
    )
    return Identity(issued.credentials)
