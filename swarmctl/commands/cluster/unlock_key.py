"""``swarmctl cluster unlock-key``."""

import click

from swarmctl.base import Verb
from swarmctl.client import connect
from swarmctl.render.clusters import unlock_key, unlock_key_line


@click.command("unlock-key", cls=Verb)
@click.argument("cluster", default="default")
@click.option("-q", "--quiet", is_flag=True, help="Print the key alone.")
@click.pass_context
def show(context: click.Context, cluster: str, quiet: bool) -> None:
    """Show the key that locked managers need to start."""
    with connect(context) as client:
        key = client.unlock_key()
    if not quiet:
        click.echo(unlock_key_line(key))
    elif key:
        click.echo(unlock_key(key))
