"""``swarm-rafttool completion``."""

import click

from swarmctl.commands.completion import SHELLS, script
from swarmd.rafttool.base import Verb


@click.command("completion", cls=Verb)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    For bash: swarm-rafttool completion bash > /etc/bash_completion.d/swarm-rafttool
    """
    click.echo(script(context, shell, "swarm-rafttool"))
