"""Names for ids, unless ``--no-resolve`` is given: then the maps are empty and ids are printed."""

import click

from swarmctl.base import settings
from swarmctl.client import Client
from swarmctl.render.nodes import node_name


def node_names(context: click.Context, client: Client) -> dict[str, str]:
    """Map node ids to names."""
    if settings(context).no_resolve:
        return {}
    return {node.id: node_name(node) for node in client.nodes()}


def service_names(context: click.Context, client: Client) -> dict[str, str]:
    """Map service ids to names."""
    if settings(context).no_resolve:
        return {}
    return {service.id: service.spec.annotations.name for service in client.services()}
