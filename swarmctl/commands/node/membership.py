"""``swarmctl node accept`` and ``reject``: nodes that joined without a token and wait."""

import click

from swarmctl.base import Failure, Verb
from swarmctl.client import connect
from swarmkit.api import messages as api


@click.command("accept", cls=Verb)
@click.argument("node")
@click.pass_context
def accept(context: click.Context, node: str) -> None:
    """Admit a node that waits as PENDING."""
    with connect(context) as client:
        found = client.node(node)
        if found.spec.membership == api.NodeSpec.ACCEPTED:
            raise Failure(f"Node {node} was already accepted")
        spec = api.NodeSpec()
        spec.CopyFrom(found.spec)
        spec.membership = api.NodeSpec.ACCEPTED
        client.call(
            client.control.UpdateNode,
            api.UpdateNodeRequest(node_id=found.id, node_version=found.meta.version, spec=spec),
        )


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
