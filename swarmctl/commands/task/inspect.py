"""``swarmctl task inspect``."""

import datetime

import click

from swarmctl.base import Verb, format_option
from swarmctl.client import connect
from swarmctl.commands.names import node_names, service_names
from swarmctl.render import json
from swarmctl.render.tasks import task_block, task_table
from swarmkit.api import messages as api


@click.command("inspect", cls=Verb)
@click.argument("task")
@format_option
@click.pass_context
def inspect(context: click.Context, task: str, form: str) -> None:
    """Show a task and the history of its instance."""
    with connect(context) as client:
        found = client.task(task)
        tasks = client.tasks(api.ListTasksRequest.Filters(service_ids=[found.service_id]))
        services, nodes = service_names(context, client), node_names(context, client)
    if form == "json":
        click.echo(json.one(found))
        return
    now = datetime.datetime.now(datetime.UTC)
    service = services.get(found.service_id, found.service_id)
    click.echo(task_block(found, service, nodes.get(found.node_id, found.node_id), now))
    history = [t for t in tasks if t.slot == found.slot and (t.slot or t.node_id == found.node_id)]
    click.echo(f"\n===> Instance History\n{task_table(history, nodes, now)}")
