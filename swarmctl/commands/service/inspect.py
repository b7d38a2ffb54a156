"""``swarmctl service inspect``."""

import datetime

import click

from swarmctl.base import Verb, all_option, format_option, verbose_option
from swarmctl.client import connect
from swarmctl.commands.names import node_names
from swarmctl.render import json
from swarmctl.render.services import service_block
from swarmctl.render.tasks import task_table, wanted
from swarmkit.api import messages as api


@click.command("inspect", cls=Verb)
@click.argument("service")
@all_option
@click.option("-i", "--instance", type=click.IntRange(min=1), help="Show all tasks of one instance.")
@verbose_option
@format_option
@click.pass_context
def inspect(
    context: click.Context, service: str, show_all: bool, instance: int | None, verbose: bool, form: str
) -> None:
    """Show a service and its tasks."""
    with connect(context) as client:
        found = client.service(service)
        tasks = client.tasks(api.ListTasksRequest.Filters(service_ids=[found.id]))
        names = node_names(context, client)
    running = sum(task.status.state == api.TaskState.RUNNING for task in tasks)
    if instance is not None:
        tasks, show_all = [task for task in tasks if task.slot == instance], True
    if form == "json":
        click.echo(json.one(found, tasks=[json.as_data(task) for task in wanted(tasks, show_all)]))
        return
    now = datetime.datetime.now(datetime.UTC)
    click.echo(service_block(found, now, running if verbose else None))
    if tasks:
        click.echo(f"\n{task_table(wanted(tasks, show_all), names, now, errors=verbose)}")
