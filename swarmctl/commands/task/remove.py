"""``swarmctl task remove``."""

import click

from swarmctl.base import Verb
from swarmctl.client import connect
from swarmkit.api import messages as api


@click.command("remove", cls=Verb)
@click.argument("tasks", nargs=-1, required=True, metavar="TASK...")
@click.pass_context
def remove(context: click.Context, tasks: tuple[str, ...]) -> None:
    """Remove tasks (alias: rm); a service that still wants one gets a new one."""
    with connect(context) as client:
        for name in tasks:
            found = client.task(name)
            client.call(client.control.RemoveTask, api.RemoveTaskRequest(task_id=found.id))
            click.echo(found.id)
