"""``swarm-rafttool``: the command line (contract/cli.md, 11). Exit codes: 0 done, 1 failed, 2 misused.

PARITY: ``downgrade-key`` and ``renew-certs`` of the original are not offered. Both write to the state
directory: the first for versions older than any of this project, the second against expired certificates,
which ``swarmd --force-new-cluster`` accepts and renews. Dumps are redacted unless ``--show-secrets`` is
given, and there is ``verify``.
"""

import os
from typing import Any

import click

from swarmctl.base import HELP, Program
from swarmd.rafttool.base import global_options
from swarmkit import __version__

# Before any module imports gRPC, which reads it once: its own lines are for its developers.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

VERBS = {
    "completion": "Print the completion script of a shell.",
    "decrypt": "Write log and snapshots in clear.",
    "dump-object": "Print the objects of a kind as they are now.",
    "dump-snapshot": "Print the newest snapshot.",
    "dump-wal": "Print the records of the log.",
    "verify": "Check every byte of log and snapshots.",
}


class Tool(Program):
    """The program ``swarm-rafttool``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params = [*self.params, *global_options()]


@click.group(cls=Tool, nouns=VERBS, package="swarmd.rafttool.commands", context_settings=HELP)
@click.version_option(__version__, "-v", "--version", message="swarm-rafttool swarmkit %(version)s")
def main() -> None:
    """Look at a manager's raft log and snapshots.

    Works on the state directory of a manager, best while its swarmd is stopped, and never writes to it.
    """
