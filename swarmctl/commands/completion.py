"""``swarmctl completion``."""

import click
from click.shell_completion import get_completion_class

from swarmctl.base import Verb

SHELLS = ("bash", "zsh", "fish")


@click.command("completion", cls=Verb)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    For bash: swarmctl completion bash > /etc/bash_completion.d/swarmctl
    """
    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"no completion for {shell}")
    completion = found(context.find_root().command, {}, "swarmctl", "_SWARMCTL_COMPLETE")
    click.echo(completion.source())
