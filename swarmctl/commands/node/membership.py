"""``swarmctl node accept`` and ``reject``: nodes that joined without a token and wait."""

import click

from swarmctl.base import Failure, Verb
from swarmctl.client import connect
from swarmctl.commands.node.change import change_node
from swarmkit.api import messages as api


@click.command("accept", cls=Verb)
@click.argument("node")
@click.pass_context
def accept(context: click.Context, node: str) -> None:
    """Admit a node that waits as PENDING."""

    def change(spec: api.NodeSpec) -> None:
        if spec.membership == api.NodeSpec.ACCEPTED:
            raise Failure(f"Node {node} was already accepted")
        spec.membership = api.NodeSpec.ACCEPTED

    with connect(context) as client:
        change_node(client, node, change)


@click.command("reject", cls=Verb)
@click.argument("node")
@click.pass_context
def reject(context: click.Context, node: str) -> None:
    """Turn a node away that waits as PENDING."""
    with connect(context) as client:
        found = client.node(node)
        if found.spec.membership == api.NodeSpec.ACCEPTED:
            raise Failure(f"Node {node} was already accepted: remove it with 'swarmctl node remove'")
        client.call(client.control.RemoveNode, api.RemoveNodeRequest(node_id=found.id))
