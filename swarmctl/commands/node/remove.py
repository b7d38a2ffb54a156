"""``swarmctl node remove``."""

import click

from swarmctl.base import Verb
from swarmctl.client import connect
from swarmkit.api import messages as api


@click.command("remove", cls=Verb)
@click.argument("nodes", nargs=-1, required=True, metavar="NODE...")
@click.option("-f", "--force", is_flag=True, help="Remove it even if it is not down.")
@click.pass_context
def remove(context: click.Context, nodes: tuple[str, ...], force: bool) -> None:
    """Remove nodes from the swarm (alias: rm); their certificates open no door any more."""
    with connect(context) as client:
        for name in nodes:
            found = client.node(name)
            client.call(client.control.RemoveNode, api.RemoveNodeRequest(node_id=found.id, force=force))
