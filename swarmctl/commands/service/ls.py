"""``swarmctl service ls``."""

import click

from swarmctl.base import Verb, format_option, quiet_option, verbose_option
from swarmctl.client import connect
from swarmctl.render import json
from swarmctl.render.services import service_table
from swarmkit.api import messages as api


@click.command("ls", cls=Verb)
@quiet_option
@verbose_option
@format_option
@click.pass_context
def ls(context: click.Context, quiet: bool, verbose: bool, form: str) -> None:
    """List the services."""
    statuses = None
    with connect(context) as client:
        services = client.services()
        if verbose and not quiet:
            request = api.ListServiceStatusesRequest(services=[service.id for service in services])
            answer = client.call(client.control.ListServiceStatuses, request)
            statuses = {status.service_id: status for status in answer.statuses}
    if quiet:
        for service in services:
            click.echo(service.id)
    elif form == "json":
        click.echo(json.many(services))
    else:
        click.echo(service_table(services, statuses))
