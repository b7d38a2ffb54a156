"""``swarmctl node ls``."""

import click

from swarmctl.base import Verb, format_option, quiet_option, verbose_option
from swarmctl.client import connect
from swarmctl.render import json
from swarmctl.render.nodes import node_table


@click.command("ls", cls=Verb)
@quiet_option
@verbose_option
@format_option
@click.pass_context
def ls(context: click.Context, quiet: bool, verbose: bool, form: str) -> None:
    """List the nodes."""
    with connect(context) as client:
        nodes = client.nodes()
    if quiet:
        for node in nodes:
            click.echo(node.id)
    elif form == "json":
        click.echo(json.many(nodes))
    else:
        click.echo(node_table(nodes, verbose))
