"""``swarmctl service update``."""

from typing import Any

import click

from swarmctl.base import Failure, Verb
from swarmctl.client import connect
from swarmctl.commands.service.options import listing, service_options
from swarmctl.commands.service.wait import wait_for
from swarmctl.edit import edit
from swarmctl.flags.service import FlagError, merge
from swarmkit.api import messages as api


@click.command("update", cls=Verb)
@click.argument("service")
@service_options
@listing("--add-capability", "Capabilities to add", "CAP")
@listing("--rm-capability", "Capabilities to drop", "CAP")
@click.option("--force", is_flag=True, help="Replace the tasks even if nothing else changed.")
@click.pass_context
def update(
    context: click.Context, /, service: str, wait: bool, wait_timeout: int | None, **flags: Any
) -> None:
    """Change a service and print its id; flags that are not given leave their setting alone."""
    try:
        # Flags that are wrong by themselves are refused before anybody is asked.
        merge(api.ServiceSpec(replicated=api.ReplicatedService()), {**flags, "log_opt": None})
    except FlagError as error:
        raise click.UsageError(str(error)) from error
    with connect(context) as client:

        def write(found: api.Service) -> str:
            try:
                spec = merge(found.spec, flags)
            except FlagError as error:
                raise click.UsageError(str(error)) from error
            if spec == found.spec:
                raise Failure("no changes detected")
            client.call(
                client.control.UpdateService,
                api.UpdateServiceRequest(service_id=found.id, service_version=found.meta.version, spec=spec),
            )
            return found.id

        service_id = edit(lambda: client.service(service), write)
        click.echo(service_id)
        if wait:
            wait_for(client, service_id, wait_timeout)
