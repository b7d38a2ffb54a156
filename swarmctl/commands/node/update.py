"""``swarmctl node activate``, ``pause``, ``drain`` and ``update``."""

import click

from swarmctl.base import Failure, Verb
from swarmctl.client import connect
from swarmctl.commands.node.change import change_node
from swarmctl.flags import values
from swarmkit.api import messages as api


def _set_availability(
    context: click.Context, node: str, wanted: "api.NodeSpec.Availability.ValueType", already: str
) -> None:
    def change(spec: api.NodeSpec) -> None:
        if spec.availability == wanted:
            raise Failure(f"Node {node} {already}")
        spec.availability = wanted

    with connect(context) as client:
        change_node(client, node, change)


@click.command("activate", cls=Verb)
@click.argument("node")
@click.pass_context
def activate(context: click.Context, node: str) -> None:
    """Let a node take tasks again."""
    _set_availability(context, node, api.NodeSpec.ACTIVE, "is already active")


@click.command("pause", cls=Verb)
@click.argument("node")
@click.pass_context
def pause(context: click.Context, node: str) -> None:
    """Give a node no new tasks; those it has stay."""
    _set_availability(context, node, api.NodeSpec.PAUSE, "was already paused")


@click.command("drain", cls=Verb)
@click.argument("node")
@click.pass_context
def drain(context: click.Context, node: str) -> None:
    """Move all tasks off a node."""
    _set_availability(context, node, api.NodeSpec.DRAIN, "was already drained")


@click.command("update", cls=Verb)
@click.argument("node")
@click.option("--label", multiple=True, metavar="KEY=VALUE", help="Label; those given replace all there are.")
@click.pass_context
def update(context: click.Context, node: str, label: tuple[str, ...]) -> None:
    """Change a node's labels."""
    try:
        labels = values.mapping(values.words(label), "label for node")
    except ValueError as error:
        raise click.UsageError(str(error)) from error

    def change(spec: api.NodeSpec) -> None:
        if not label or dict(spec.annotations.labels) == labels:
            raise Failure(f"No change for node {node}")
        spec.annotations.labels.clear()
        spec.annotations.labels.update(labels)

    with connect(context) as client:
        change_node(client, node, change)
