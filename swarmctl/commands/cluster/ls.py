"""``swarmctl cluster ls``."""

import click

from swarmctl.base import Verb, format_option, quiet_option
from swarmctl.client import connect
from swarmctl.render import json
from swarmctl.render.clusters import cluster_table


@click.command("ls", cls=Verb)
@quiet_option
@format_option
@click.pass_context
def ls(context: click.Context, quiet: bool, form: str) -> None:
    """List the clusters: there is one, named default."""
    with connect(context) as client:
        clusters = client.clusters()
    if quiet:
        for cluster in clusters:
            click.echo(cluster.id)
    elif form == "json":
        click.echo(json.many(clusters))
    else:
        click.echo(cluster_table(clusters))
