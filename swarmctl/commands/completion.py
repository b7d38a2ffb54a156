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
    click.echo(script(context, shell, "swarmctl"))


def script(context: click.Context, shell: str, program: str) -> str:
    """Return the completion script of a shell for a program."""
    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"no completion for {shell}")
    variable = f"_{program.upper().replace('-', '_')}_COMPLETE"
    return found(context.find_root().command, {}, program, variable).source()
