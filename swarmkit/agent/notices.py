"""What a session message means for this node. Pure.

Source: contract/dispatcher-agent.md, 6, "On each session message".
"""

from collections.abc import Sequence
from dataclasses import dataclass

from swarmkit.api import messages as api


@dataclass(frozen=True)
class NodeChange:
    """What changed for this node; told to the node layer in one piece.

    Attributes:
        node: this node's object, if it changed in more than its status and meta.
        root_ca: the swarm's root certificates in PEM, if they differ from those this node trusts.
    """

    node: api.Node | None
    root_ca: bytes | None


class Notices:
    """Compares each session message with what the agent was told before, over all its sessions."""

    def __init__(self) -> None:
        self._node: api.Node | None = None
        self._lamport_times: frozenset[int] = frozenset()

    def change(self, message: api.SessionMessage, trust_root: bytes) -> NodeChange | None:
        """Return what the node layer has to know, or None; ``trust_root`` is what this node trusts."""
        node = None
        if message.HasField("node"):
            bare = _without_status(message.node)
            if bare != self._node:
                self._node = bare
                node = message.node
        root = message.RootCA if message.RootCA and message.RootCA != trust_root else None
        return None if node is None and root is None else NodeChange(node, root)

    def network_keys(self, message: api.SessionMessage) -> Sequence[api.EncryptionKey] | None:
        """Return the keys to hand to the executor, or None: only keys of unknown lamport times are news."""
        times = frozenset(key.lamport_time for key in message.network_bootstrap_keys)
        if times <= self._lamport_times:
            return None
        self._lamport_times = times
        return list(message.network_bootstrap_keys)


def listed_managers(message: api.SessionMessage) -> list[api.WeightedPeer]:
    """Return the managers a message lists, without those that have no address."""
    return [manager for manager in message.managers if manager.peer.addr]


def _without_status(node: api.Node) -> api.Node:
    copy = api.Node()
    copy.CopyFrom(node)
    copy.ClearField("status")
    copy.ClearField("meta")
    return copy
