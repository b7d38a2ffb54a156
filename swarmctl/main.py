"""``swarmctl``: steers a swarm over a manager's socket."""

import os

import click

from swarmctl.base import HELP, Root

# Before any module imports gRPC, which reads it once: its own lines about connections are for its developers.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

NOUNS = {
    "cluster": "The swarm as a whole: settings, join tokens.",
    "completion": "Print the completion script of a shell.",
    "node": "The machines of the swarm.",
    "service": "What the swarm keeps running (alias: svc).",
    "task": "Single instances of services.",
    "version": "Print the version.",
}


@click.group(
    cls=Root,
    nouns=NOUNS,
    package="swarmctl.commands",
    aliases={"svc": "service"},
    context_settings=HELP,
)
def main() -> None:
    """Control a swarm.

    Every command talks to a manager over its unix socket: --socket, or SWARM_SOCKET.
    """
