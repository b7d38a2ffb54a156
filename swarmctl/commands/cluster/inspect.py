"""``swarmctl cluster inspect``."""

import click

from swarmctl.base import Verb, format_option
from swarmctl.client import connect
from swarmctl.render import json
from swarmctl.render.clusters import cluster_block


@click.command("inspect", cls=Verb)
@click.argument("cluster", default="default")
@format_option
@click.pass_context
def inspect(context: click.Context, cluster: str, form: str) -> None:
    """Show the cluster's settings and its join tokens."""
    with connect(context) as client:
        found = client.cluster(cluster)
    click.echo(json.one(found) if form == "json" else cluster_block(found))
