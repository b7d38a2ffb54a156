"""``swarmctl cluster``."""

import click

from swarmctl.base import HELP, Noun
from swarmctl.commands.cluster.inspect import inspect
from swarmctl.commands.cluster.ls import ls
from swarmctl.commands.cluster.unlock_key import show
from swarmctl.commands.cluster.update import update


@click.group("cluster", cls=Noun, context_settings=HELP)
def command() -> None:
    """The swarm as a whole."""


for verb in (inspect, ls, show, update):
    command.add_command(verb)
