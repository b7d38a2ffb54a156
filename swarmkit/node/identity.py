"""How a node comes by its identity at start: from disk, by founding a swarm, or by joining one.

Source: contract/security.md, 6.1.
"""

import asyncio
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from swarmkit.ca import files
from swarmkit.ca.certificates import MANAGER_ROLE
from swarmkit.ca.credentials import Credentials
from swarmkit.ca.enrollment import Enroller, Issued, found_cluster
from swarmkit.ca.errors import (
    CallRefusedError,
    EnrollmentError,
    FingerprintError,
    NodeLockedError,
    RejectedError,
)
from swarmkit.ca.keyfile import Kek
from swarmkit.ca.root import Root
from swarmkit.ca.statedir import CERTIFICATES, ROOT_NAME, StateDir
from swarmkit.ca.tokens import new_unlock_key, parse_join_token
from swarmkit.clock import Clock
from swarmkit.log import get_logger
from swarmkit.node.config import NodeConfig
from swarmkit.raft.files import TEMPORARY_PREFIX
from swarmkit.raft.storage import LOG_FOLDER, SNAPSHOT_FOLDER

log = get_logger(__name__)


class IdentityError(Exception):
    """The node has no identity it may use or make; the text says why and what to do."""


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
    """Tell whether a replicated log, or what is left of one, is on disk. Blocks for a moment.

    A file whose writing was interrupted is none: nothing in it was ever acknowledged.

    Raises:
        IdentityError: it cannot be seen: nobody may take that for "there is none".
    """
    return any(_names(state_dir / folder) for folder in (LOG_FOLDER, SNAPSHOT_FOLDER))


def _names(folder: Path) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if not name.startswith(TEMPORARY_PREFIX)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise IdentityError(f"cannot read the raft directory {folder}: {error.strerror}") from error


async def obtain_identity(
    config: NodeConfig,
    state: StateDir,
    enroller: Enroller,
    clock: Clock,
    logged: bool,
    managers: Collection[str] = (),
) -> Identity:
    """Load, found or join.

    A founding that was interrupted before its first log entry left an identity that nobody knows: without a
    log, and knowing no manager, a manager's identity is made anew. Where there is a log, nothing is made
    anew: its key lies with the node's, and both would be lost.

    Args:
        config: settings of the node.
        state: its prepared state directory.
        enroller: gets certificates from managers.
        clock: time.
        logged: whether a replicated log is on disk.
        managers: node ids of the managers that are known; empty for one of which only the address is.

    Raises:
        CaError: with a sentence.
        IdentityError: a log is there and the identity that wrote it is not, or the other way round.
    """
    loaded = await _loaded(config, state, clock, logged)
    if loaded is not None and (logged or loaded.role != MANAGER_ROLE or set(managers) - {loaded.node_id}):
        return Identity(loaded)
    if loaded is not None and managers:
        raise IdentityError(
            f"this node was the only manager of its swarm, and its raft log is gone from {state.path}:"
            " restore it from a backup, or remove the state directory to begin a new swarm"
        )
    if config.force_new_cluster:
        raise IdentityError(
            f"--force-new-cluster brings a swarm back from a manager's state, and {state.path} holds none"
        )
    if logged:
        raise IdentityError(
            f"{state.path} holds a manager's raft log, but certificate, key or root certificate are missing"
            f" in {state.path / CERTIFICATES}: restore them from a backup, or use another state directory"
        )
    if not config.join_addr:
        return await _found(config, state, clock)
    issued = await _join(config, state, enroller, clock)
    await asyncio.to_thread(state.save, issued.credentials, issued.kek)
    log.info(
        "joined a swarm",
        cluster_id=issued.credentials.organization,
        node_id=issued.credentials.node_id,
        role=issued.credentials.role,
    )
    return Identity(issued.credentials)


async def _loaded(config: NodeConfig, state: StateDir, clock: Clock, logged: bool) -> Credentials | None:
    try:
        return await asyncio.to_thread(state.load, clock.now(), allow_expired=config.force_new_cluster)
    except NodeLockedError as error:
        # Nobody was ever told the key of a founding that was interrupted.
        if logged or config.join_addr:
            raise IdentityError(f"{error}{_how_to_unlock(config)}") from error
        return None


async def _found(config: NodeConfig, state: StateDir, clock: Clock) -> Identity:
    """Begin a new swarm."""
    founding = found_cluster(clock.now())
    kek = Kek(new_unlock_key()) if config.autolock else Kek()
    await asyncio.to_thread(state.save, founding.credentials, kek)
    log.info(
        "founding a new swarm",
        cluster_id=founding.credentials.organization,
        node_id=founding.credentials.node_id,
    )
    if config.autolock:
        log.info("the managers are locked: 'swarmctl cluster unlock-key' shows the key a restart needs")
    return Identity(founding.credentials, founding.root)


async def _join(config: NodeConfig, state: StateDir, enroller: Enroller, clock: Clock) -> Issued:
    """Get the first certificate.

    The root is written before: a node that waits for an operator trusts the same one after a restart. One
    that was turned away keeps nothing: its next try may be at another swarm.

    Raises:
        IdentityError: it did not work.
    """
    token = parse_join_token(config.join_token) if config.join_token else None
    root_file = state.path / CERTIFICATES / ROOT_NAME
    root_pem = kept = await asyncio.to_thread(state.load_root, clock.now())
    try:
        if root_pem is None:
            root_pem = await enroller.download_root(token)
            await asyncio.to_thread(state.save_root, root_pem)
        return await enroller.join(root_pem, config.join_token)
    except EnrollmentError as error:
        if kept is None:
            await asyncio.to_thread(files.remove, root_file)
        raise IdentityError(f"{error}{_advice(error, config, root_file if kept else None)}") from error


def _how_to_unlock(config: NodeConfig) -> str:
    """Return what to do about a locked node, to stand behind what is wrong."""
    source = "'swarmctl cluster unlock-key' on another manager shows it"
    if config.unlock_key:
        return f"; the one given is of another time or another swarm: {source}"
    return f"; start it with --unlock-key, or with SWARM_UNLOCK_KEY in its environment: {source}"


def _advice(error: EnrollmentError, config: NodeConfig, kept_root: Path | None) -> str:
    """Return what to do about a failed try to join, to stand behind what is wrong."""
    tokens = "'swarmctl cluster inspect' on a manager shows the tokens"
    if isinstance(error, FingerprintError):
        return f"; the join token is mistyped, or not of the swarm at {config.join_addr}: {tokens}"
    if isinstance(error, RejectedError):
        return ""
    if isinstance(error, CallRefusedError):
        return f"; {tokens}" if "token" in str(error) else ""
    if kept_root is not None:
        return f"; {kept_root} is from an earlier try to join: remove it if that was another swarm"
    return ""
