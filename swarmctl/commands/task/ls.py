"""``swarmctl task ls``."""

import datetime

import click

from swarmctl.base import Verb, all_option, format_option, quiet_option
from swarmctl.client import connect
from swarmctl.commands.names import node_names, service_names
from swarmctl.render import json
from swarmctl.render.tasks import list_table, wanted


@click.command("ls", cls=Verb)
@all_option
@quiet_option
@format_option
@click.pass_context
def ls(context: click.Context, show_all: bool, quiet: bool, form: str) -> None:
    """List the tasks."""
    with connect(context) as client:
        tasks = wanted(client.tasks(), show_all)
        services, nodes = ({}, {}) if quiet else (service_names(context, client), node_names(context, client))
    if quiet:
        for task in tasks:
            click.echo(task.id)
    elif form == "json":
        click.echo(json.many(tasks))
    else:
        click.echo(list_table(tasks, services, nodes, datetime.datetime.now(datetime.UTC)))
