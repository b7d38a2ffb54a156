"""``swarmctl service``."""

import click

from swarmctl.base import HELP, Noun
from swarmctl.commands.service.create import create
from swarmctl.commands.service.inspect import inspect
from swarmctl.commands.service.ls import ls
from swarmctl.commands.service.remove import remove
from swarmctl.commands.service.update import update


@click.group("service", cls=Noun, aliases={"rm": "remove"}, context_settings=HELP)
def command() -> None:
    """What the swarm keeps running."""


for verb in (create, inspect, ls, remove, update):
    command.add_command(verb)
