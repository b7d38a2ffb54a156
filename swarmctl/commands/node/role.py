"""``swarmctl node promote`` and ``demote``."""

import sys
import time
from collections.abc import Callable
from typing import Any

import click

from swarmctl.base import Failure, Parsed, Verb
from swarmctl.client import Client, connect
from swarmctl.commands.node.change import change_node
from swarmctl.flags import values
from swarmctl.role_change import look
from swarmkit.api import messages as api

#: Pause between looks in seconds.
PAUSE = 0.25
#: Seconds for which looks may fail: the swarm may be electing a leader.
PATIENCE = 10.0
_DEFAULT_TIMEOUT = "1m"
_CLOSED = (
    "the manager that was asked has closed its socket, as one does that becomes a worker: 'swarmctl node ls'"
    " at another manager shows whether {name} is one now"
)


def _role_options(function: Callable[..., Any]) -> Callable[..., Any]:
    limit = click.option(
        "--wait-timeout",
        type=Parsed(values.duration_ns, "duration"),
        metavar="TIME",
        default=_DEFAULT_TIMEOUT,
        show_default=True,
        help="Longest wait for a node with --wait.",
    )
    wait = click.option("--wait", is_flag=True, help="Wait until the roles have changed.")
    return click.argument("nodes", nargs=-1, required=True, metavar="NODE...")(wait(limit(function)))


def _change_roles(
    context: click.Context,
    nodes: tuple[str, ...],
    wished: api.NodeRole.ValueType,
    already: str,
    limit_ns: int | None,
) -> None:
    """Wish a role for every node; what fails for one is told after all were tried."""
    failures = []
    with connect(context) as client:
        for name in nodes:
            try:
                node = _wish(client, name, wished, already)
                if limit_ns is not None:
                    _wait_for(client, name, node.id, wished, limit_ns / 1e9)
            except Failure as failure:
                failures.append(failure.message)
    if failures:
        raise Failure("\n".join(failures))


def _wish(client: Client, name: str, wished: api.NodeRole.ValueType, already: str) -> api.Node:
    def change(spec: api.NodeSpec) -> None:
        if spec.desired_role == wished:
            raise Failure(f"Node {name} {already}")
        spec.desired_role = wished

    return change_node(client, name, change)


def _wait_for(
    client: Client, name: str, node_id: str, wished: api.NodeRole.ValueType, limit_seconds: float
) -> None:
    """Wait until a node has its role.

    Raises:
        Failure: it will not get it, or not in time, or the manager answers no more.
    """
    started = answered = time.monotonic()
    told, missing = "", "no answer"
    while True:
        now = time.monotonic()
        try:
            found = client.find(client.control.GetNode, api.GetNodeRequest(node_id=node_id))
        except Failure as failure:
            if wished == api.NodeRole.WORKER and client.socket_is_gone:
                raise Failure(_CLOSED.format(name=name)) from failure
            if now - answered > PATIENCE:
                raise
        else:
            answered = now
            if found is None:
                raise Failure(f"node {name} was removed meanwhile")
            seen = look(found.node, wished)
            if seen.failed:
                raise Failure(f"node {name} does not change its role: {seen.failed}")
            if seen.done:
                return
            missing = seen.missing
        if missing != told and sys.stderr.isatty():
            click.echo(f"{name}: {missing}", err=True)
            told = missing
        if now - started > limit_seconds:
            raise Failure(f"node {name} has not changed its role in time: {missing}")
        time.sleep(PAUSE)


@click.command("promote", cls=Verb)
@_role_options
@click.pass_context
def promote(context: click.Context, nodes: tuple[str, ...], wait: bool, wait_timeout: int) -> None:
    """Make nodes managers; they join the others by themselves, a moment later."""
    limit = wait_timeout if wait else None
    _change_roles(context, nodes, api.NodeRole.MANAGER, "is already a manager", limit)


@click.command("demote", cls=Verb)
@_role_options
@click.pass_context
def demote(context: click.Context, nodes: tuple[str, ...], wait: bool, wait_timeout: int) -> None:
    """Make managers workers; a node closes its control socket when it has become one."""
    limit = wait_timeout if wait else None
    _change_roles(context, nodes, api.NodeRole.WORKER, "is already a worker", limit)
