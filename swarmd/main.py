"""The daemon's command line: flags to ``NodeConfig``, signals to a clean stop, errors to one sentence."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import click

from swarmkit import __version__
from swarmkit.log import LEVELS, configure
from swarmkit.node import config as node_config
from swarmkit.node.config import ConfigError, NodeConfig

# Before any module imports gRPC, which reads it once: its own lines about connections are for its developers.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
# Its event engine does the I/O of servers in threads of its own, which hand every event to the thread that
# asyncio listens to. Without it that thread does the I/O: GetService takes a fifth less time.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_listener")

HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
#: Longest wait for a clean stop before the process ends anyway, in seconds; the servers take up to 8 of them.
STOP_SECONDS = 30.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@click.command(context_settings=HELP)
@click.option(
    "-d",
    "--state-dir",
    default=str(node_config.DEFAULT_STATE_DIR),
    metavar="PATH",
    show_default=True,
    help="Directory of this node's identity, log and task database.",
)
@click.option("--hostname", default="", help="Host name to report  [default: the machine's].")
@click.option("--join-addr", default="", metavar="HOST:PORT", help="Join a swarm through this manager.")
@click.option(
    "--join-token",
    default="",
    metavar="TOKEN",
    envvar="SWARM_JOIN_TOKEN",
    help="Token that admits this node at once; its kind decides the role  [env: SWARM_JOIN_TOKEN].",
)
@click.option(
    "--autolock",
    is_flag=True,
    help="Lock the managers' keys at rest (only when this node founds a new swarm).",
)
@click.option(
    "--unlock-key",
    default="",
    metavar="KEY",
    envvar="SWARM_UNLOCK_KEY",
    help="Key that a locked manager needs to start; other users may see it here  [env: SWARM_UNLOCK_KEY].",
)
@click.option(
    "--listen-control-api",
    default=str(node_config.DEFAULT_CONTROL_SOCKET),
    metavar="PATH",
    show_default=True,
    help="Unix socket of the control API (managers only).",
)
@click.option(
    "--listen-remote-api",
    default=node_config.DEFAULT_LISTEN_REMOTE,
    show_default=True,
    metavar="HOST:PORT",
    help="Address other nodes connect to (managers only).",
)
@click.option("--advertise-remote-api", default="", metavar="HOST:PORT", help="Address to tell other nodes.")
@click.option(
    "--force-new-cluster",
    is_flag=True,
    help="Bring the swarm back from this manager's state alone; the other managers are left behind for ever.",
)
@click.option(
    "--heartbeat-tick",
    type=float,
    default=node_config.DEFAULT_HEARTBEAT_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="Time between two heartbeats of the leading manager; the same on all managers.",
)
@click.option(
    "--election-tick",
    type=float,
    default=node_config.DEFAULT_ELECTION_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="Managers elect a leader after one to two times this long without one.",
)
@click.option(
    "--executor",
    type=click.Choice(node_config.EXECUTORS),
    default="docker",
    show_default=True,
    help="What runs the tasks: a Docker engine, local processes, or a simulation without either.",
)
@click.option(
    "--engine-addr",
    default=lambda: os.environ.get("DOCKER_HOST") or node_config.DEFAULT_ENGINE,
    show_default=f"$DOCKER_HOST or {node_config.DEFAULT_ENGINE}",
    help="Address of the Docker engine.",
)
@click.option(
    "-l",
    "--log-level",
    type=click.Choice(list(LEVELS)),
    default="info",
    show_default=True,
    help="Least important lines to log.",
)
@click.version_option(__version__, "-v", "--version", message="swarmd %(version)s")
def main(
    state_dir: str,
    hostname: str,
    join_addr: str,
    join_token: str,
    autolock: bool,
    unlock_key: str,
    listen_control_api: str,
    listen_remote_api: str,
    advertise_remote_api: str,
    force_new_cluster: bool,
    heartbeat_tick: float,
    election_tick: float,
    executor: str,
    engine_addr: str,
    log_level: str,
) -> None:
    """Run a node of a swarm.

    Without --join-addr the node founds a new swarm, or resumes what its state directory holds.
    """
    for name, path in (("--state-dir", state_dir), ("--listen-control-api", listen_control_api)):
        if not path:
            raise click.UsageError(f"{name} is empty: it must name a path")
    settings = NodeConfig(
        state_dir=Path(state_dir),
        control_socket=Path(listen_control_api),
        listen_remote=listen_remote_api,
        advertise_remote=advertise_remote_api,
        join_addr=join_addr,
        join_token=join_token,
        autolock=autolock,
        unlock_key=unlock_key,
        hostname=hostname,
        executor=executor,
        engine_addr=engine_addr,
        heartbeat_seconds=heartbeat_tick,
        election_seconds=election_tick,
        force_new_cluster=force_new_cluster,
    )
    try:
        settings.validate()
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    early = EarlySignals()
    configure(log_level)
    sys.exit(asyncio.run(serve(settings, early)))


class EarlySignals:
    """Notes a signal to end that comes before the event loop listens for them.

    It raises nothing: an exception out of a signal handler may come up where Python drops it.
    """

    def __init__(self) -> None:
        self.came = False
        for number in STOP_SIGNALS:
            signal.signal(number, self._note)

    def _note(self, number: int, frame: object) -> None:
        self.came = True


async def serve(settings: NodeConfig, early: EarlySignals) -> int:
    """Run the node until a signal or a fatal error; returns the exit code."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    if early.came:
        return 0
    # grpc and the rest of the daemon are imported only here: --help and --version stay quick.
    from swarmd.serve import run_node
    from swarmkit.node.node import raft_timing

    try:
        raft_timing(settings)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    return await run_node(settings, stop, STOP_SECONDS)
