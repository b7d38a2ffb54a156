"""Reading a node, changing its spec, writing it back at the version that was read."""

from collections.abc import Callable

import click

from swarmctl.client import connect
from swarmkit.api import messages as api


def change_node(context: click.Context, name: str, change: Callable[[api.NodeSpec], None]) -> None:
    """Update a node's spec by what ``change`` does to a copy of it; it raises ``Failure`` to refuse."""
    with connect(context) as client:
        node = client.node(name)
        spec = api.NodeSpec()
        spec.CopyFrom(node.spec)
        change(spec)
        client.call(
            client.control.UpdateNode,
            api.UpdateNodeRequest(node_id=node.id, node_version=node.meta.version, spec=spec),
        )
