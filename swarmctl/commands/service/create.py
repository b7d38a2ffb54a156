"""``swarmctl service create``."""

from typing import Any

import click

from swarmctl.base import Verb
from swarmctl.client import connect
from swarmctl.commands.service.options import service_options
from swarmctl.commands.service.wait import wait_for
from swarmctl.flags.service import FlagError, new_spec
from swarmkit.api import messages as api


@click.command("create", cls=Verb)
@click.option("--mode", type=click.Choice(["replicated", "global"]), default="replicated", show_default=True)
@service_options
@click.pass_context
def create(context: click.Context, /, wait: bool, wait_timeout: int | None, **flags: Any) -> None:
    """Create a service and print its id."""
    try:
        spec = new_spec(flags)
    except FlagError as error:
        raise click.UsageError(str(error)) from error
    with connect(context) as client:
        created = client.call(client.control.CreateService, api.CreateServiceRequest(spec=spec)).service
        click.echo(created.id)
        if wait:
            wait_for(client, created.id, wait_timeout)
