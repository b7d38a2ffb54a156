"""Changing a node's spec."""

from collections.abc import Callable

from swarmctl.client import Client
from swarmctl.edit import edit
from swarmkit.api import messages as api


def change_node(client: Client, name: str, change: Callable[[api.NodeSpec], None]) -> api.Node:
    """Update a node's spec by what ``change`` does to a copy of it; it raises ``Failure`` to refuse."""

    def write(node: api.Node) -> api.Node:
        spec = api.NodeSpec()
        spec.CopyFrom(node.spec)
        change(spec)
        request = api.UpdateNodeRequest(node_id=node.id, node_version=node.meta.version, spec=spec)
        return client.call(client.control.UpdateNode, request).node

    return edit(lambda: client.node(name), write)
