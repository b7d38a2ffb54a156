"""``swarmctl task``."""

import click

from swarmctl.base import HELP, Noun
from swarmctl.commands.task.inspect import inspect
from swarmctl.commands.task.ls import ls
from swarmctl.commands.task.remove import remove


@click.group("task", cls=Noun, aliases={"rm": "remove"}, context_settings=HELP)
def command() -> None:
    """Single instances of services."""


for verb in (inspect, ls, remove):
    command.add_command(verb)
