"""``swarm-rafttool dump-wal``."""

import json

import click

from swarmd.rafttool import render
from swarmd.rafttool.base import Verb, format_option, redact_option
from swarmd.rafttool.folder import ToolError
from swarmd.rafttool.opened import opened_folder
from swarmd.rafttool.walk import Item, Summary, walk_log
from swarmkit.raft.records import Entry, Replace, Truncate


@click.command("dump-wal", cls=Verb)
@click.option(
    "--start", type=click.IntRange(0), default=0, metavar="INDEX", help="First entry; 0: the oldest."
)
@click.option("--end", type=click.IntRange(0), default=0, metavar="INDEX", help="Last entry; 0: the newest.")
@format_option
@redact_option
def command(start: int, end: int, form: str, redact: bool) -> None:
    """Print the records of the log, the oldest first.

    With --start or --end only the entries between them, and what took such entries back.
    """
    if end and end < start:
        raise click.UsageError(f"--end {end} lies before --start {start}")
    show = render.show_as(redact)
    found = False
    with opened_folder() as folder:
        for item in walk_log(folder):
            found = True
            if (start or end) and not _touches(item, start, end):
                continue
            if form == "json":
                click.echo(json.dumps(render.record_data(item, show)))
            else:
                click.echo(render.record_text(item, show))
        if not found:
            raise ToolError(f"there is no raft log: {folder.log}")


def _touches(item: Item, start: int, end: int) -> bool:
    if isinstance(item, Entry):
        return item.index >= start and (not end or item.index <= end)
    if isinstance(item, Truncate):
        return not end or item.index <= end
    return isinstance(item, Replace | Summary)
