"""Reading a node, changing its spec, writing it back at the version that was read."""

from collections.abc import Callable

from swarmctl.client import Client
from swarmkit.api import messages as api


def change_node(client: Client, name: str, change: Callable[[api.NodeSpec], None]) -> api.Node:
    """Update a node's spec by what ``change`` does to a copy of it; it raises ``Failure`` to refuse."""
    node = client.node(name)
    spec = api.NodeSpec()
    spec.CopyFrom(node.spec)
    change(spec)
    request = api.UpdateNodeRequest(node_id=node.id, node_version=node.meta.version, spec=spec)
    return client.call(client.control.UpdateNode, request).node
