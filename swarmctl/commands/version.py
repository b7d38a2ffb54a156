"""``swarmctl version``."""

import click

from swarmctl.base import Verb
from swarmkit import __version__


@click.command("version", cls=Verb)
def command() -> None:
    """Print the version."""
    click.echo(f"swarmctl swarmkit {__version__}")
