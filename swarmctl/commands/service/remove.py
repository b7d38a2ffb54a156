"""``swarmctl service remove``."""

import click

from swarmctl.base import Verb
from swarmctl.client import connect
from swarmkit.api import messages as api


@click.command("remove", cls=Verb)
@click.argument("services", nargs=-1, required=True, metavar="SERVICE...")
@click.pass_context
def remove(context: click.Context, services: tuple[str, ...]) -> None:
    """Remove services and stop their tasks (alias: rm)."""
    with connect(context) as client:
        for name in services:
            found = client.service(name)
            client.call(client.control.RemoveService, api.RemoveServiceRequest(service_id=found.id))
            click.echo(name)
