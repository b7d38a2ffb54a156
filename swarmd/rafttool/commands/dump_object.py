"""``swarm-rafttool dump-object``."""

import json

import click

from swarmd.rafttool import render
from swarmd.rafttool.base import Verb, format_option, redact_option
from swarmd.rafttool.folder import ToolError, latest_state
from swarmd.rafttool.opened import opened_folder
from swarmkit.store.objects import SCHEMAS_BY_TABLE, StoreObject


@click.command("dump-object", cls=Verb)
@click.argument("kind", metavar="KIND", type=click.Choice(render.KINDS))
@click.option("--id", "ids", metavar="ID", multiple=True, help="Only the object of this id; repeatable.")
@click.option("--name", "names", metavar="NAME", multiple=True, help="Only objects of this name; repeatable.")
@format_option
@redact_option
def command(kind: str, ids: tuple[str, ...], names: tuple[str, ...], form: str, redact: bool) -> None:
    """Print the objects of a kind as they are after the newest snapshot and all committed entries.

    KIND is node, service, task, network, cluster, secret, config, resource, extension or volume. With --id
    and --name those that fit one of them.
    """
    show = render.show_as(redact)
    with opened_folder() as folder:
        stored: list[StoreObject] = latest_state(folder).view().find(SCHEMAS_BY_TABLE[kind].kind)
        wanted = {name.lower() for name in names}
        found = [
            one
            for one in stored
            if not (ids or names) or one.id in ids or render.name_of(kind, one).lower() in wanted
        ]
        if not found:
            raise ToolError("no matching objects found")
        for one in found:
            if form == "json":
                click.echo(json.dumps(render.object_data(kind, one, show)))
            else:
                click.echo(render.object_text(kind, one, show))
