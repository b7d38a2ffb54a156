"""``swarmctl node inspect``."""

import datetime

import click

from swarmctl.base import Verb, all_option, format_option
from swarmctl.client import connect
from swarmctl.commands.names import node_names
from swarmctl.render import json
from swarmctl.render.nodes import node_block
from swarmctl.render.tasks import task_table, wanted
from swarmkit.api import messages as api


@click.command("inspect", cls=Verb)
@click.argument("node")
@all_option
@format_option
@click.pass_context
def inspect(context: click.Context, node: str, show_all: bool, form: str) -> None:
    """Show a node and the tasks on it."""
    with connect(context) as client:
        found = client.node(node)
        tasks = client.tasks(api.ListTasksRequest.Filters(node_ids=[found.id]))
        names = node_names(context, client)
    if form == "json":
        click.echo(json.one(found, tasks=[json.as_data(task) for task in wanted(tasks, show_all)]))
        return
    click.echo(node_block(found))
    if tasks:
        now = datetime.datetime.now(datetime.UTC)
        click.echo(f"\n{task_table(wanted(tasks, show_all), names, now)}")
