"""``swarmctl cluster update``."""

import sys
from typing import Any

import click

from swarmctl.base import Parsed, Verb
from swarmctl.client import connect
from swarmctl.commands.service.options import DURATION, listing, option
from swarmctl.edit import edit
from swarmctl.flags import values
from swarmctl.flags.cluster import merge
from swarmctl.flags.service import FlagError
from swarmctl.render.clusters import unlock_key_line
from swarmkit.api import messages as api

LOCKED_HINT = (
    "The managers are locked: one that restarts needs the unlock key. 'swarmctl cluster unlock-key' shows it;"
    " keep it in a safe place."
)
HISTORY = Parsed(values.signed, "number")


@click.command("update", cls=Verb)
@click.argument("cluster", default="default")
@option(
    "--taskhistory", type=HISTORY, help="Ended tasks kept for each instance; a negative number keeps all."
)
@option("--certexpiry", type=DURATION, metavar="TIME", help="Lifetime of node certificates, such as 2160h.")
@option("--heartbeatperiod", type=DURATION, metavar="TIME", help="How often nodes report, such as 5s.")
@listing(
    "--autoaccept", "Roles admitted without an operator; those not listed are not", "worker|manager|none"
)
@option("--log-driver", help="Log driver of tasks whose service names none.")
@listing("--log-opt", "Options of that log driver", "KEY=VALUE")
@click.option(
    "--rotate-join-token",
    type=click.Choice(["worker", "manager"], case_sensitive=False),
    help="Make a new join token; the old one admits nobody any more.",
)
@option(
    "--autolock/--no-autolock", help="Lock the managers' keys at rest: each needs the unlock key to start."
)
@click.option(
    "--rotate-unlock-key", is_flag=True, help="Make a new unlock key and show it; the old one opens nothing."
)
@click.pass_context
def update(
    context: click.Context,
    /,
    cluster: str,
    rotate_join_token: str | None,
    rotate_unlock_key: bool,
    **flags: Any,
) -> None:
    """Change the cluster's settings and print its id."""
    rotation = api.KeyRotation(
        worker_join_token=rotate_join_token == "worker",
        manager_join_token=rotate_join_token == "manager",
        manager_unlock_key=rotate_unlock_key,
    )
    with connect(context) as client:

        def write(found: api.Cluster) -> str:
            try:
                spec = merge(found.spec, flags)
            except FlagError as error:
                raise click.UsageError(str(error)) from error
            request = api.UpdateClusterRequest(
                cluster_id=found.id, cluster_version=found.meta.version, spec=spec, rotation=rotation
            )
            client.call(client.control.UpdateCluster, request)
            return found.id

        click.echo(edit(lambda: client.cluster(cluster), write))
        if rotate_unlock_key:
            click.echo(unlock_key_line(client.unlock_key()))
    if flags["autolock"] and not rotate_unlock_key and sys.stderr.isatty():
        click.echo(LOCKED_HINT, err=True)
