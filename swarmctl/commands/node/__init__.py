"""``swarmctl node``."""

import click

from swarmctl.base import HELP, Noun
from swarmctl.commands.node.inspect import inspect
from swarmctl.commands.node.ls import ls
from swarmctl.commands.node.membership import accept, reject
from swarmctl.commands.node.remove import remove
from swarmctl.commands.node.role import demote, promote
from swarmctl.commands.node.update import activate, drain, pause, update


@click.group("node", cls=Noun, aliases={"rm": "remove"}, context_settings=HELP)
def command() -> None:
    """The machines of the swarm."""


for verb in (accept, activate, demote, drain, inspect, ls, pause, promote, reject, remove, update):
    command.add_command(verb)
