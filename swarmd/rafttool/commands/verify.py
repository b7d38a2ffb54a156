"""``swarm-rafttool verify``."""

import click

from swarmd.rafttool.base import Verb
from swarmd.rafttool.folder import ToolError
from swarmd.rafttool.opened import opened_folder
from swarmd.rafttool.verify import Verification


@click.command("verify", cls=Verb)
def command() -> None:
    """Check and decrypt every record of the log and of all snapshots, and whether they fit together.

    Exit code 1 if a swarmd would not start on them. A torn tail, which a power cut leaves, is no damage.
    """
    with opened_folder() as folder:
        verification = Verification(folder)
        for line in verification.lines():
            click.echo(line)
        count = len(verification.problems)
        if count:
            raise ToolError(f"{count} {'file is' if count == 1 else 'files are'} damaged")
        click.echo("Everything is whole")
