"""``swarm-rafttool dump-snapshot``."""

import json

import click

from swarmd.rafttool import render
from swarmd.rafttool.base import Verb, format_option, redact_option
from swarmd.rafttool.folder import ToolError, newest_snapshot, parse_snapshot
from swarmd.rafttool.opened import opened_folder


@click.command("dump-snapshot", cls=Verb)
@format_option
@redact_option
def command(form: str, redact: bool) -> None:
    """Print the newest snapshot: members, removed raft ids, objects."""
    show = render.show_as(redact)
    with opened_folder() as folder:
        image = newest_snapshot(folder)
        if image is None:
            raise ToolError("no snapshot found")
        payload, store = parse_snapshot(image)
        if form == "json":
            for data in render.snapshot_data(image, payload.membership, store, show):
                click.echo(json.dumps(data))
        else:
            for paragraph in render.snapshot_text(image, payload.membership, store, show):
                click.echo(paragraph)
