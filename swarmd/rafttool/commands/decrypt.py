"""``swarm-rafttool decrypt``."""

from pathlib import Path

import click

from swarmd.rafttool.base import Verb, settings
from swarmd.rafttool.decrypt import decrypt
from swarmd.rafttool.opened import opened_folder


@click.command("decrypt", cls=Verb)
@click.option(
    "-o",
    "--output-dir",
    default="plaintext_raft",
    metavar="PATH",
    show_default=True,
    help="Where the copies go.",
)
def command(output_dir: str) -> None:
    """Write log and snapshots in clear, all secrets included; -d reads what it has written."""
    state_dir = settings(click.get_current_context()).state_dir
    with opened_folder() as folder:
        decrypt(folder, Path(state_dir), Path(output_dir))
