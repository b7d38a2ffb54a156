"""What one node is told at start: everything the daemon's command line can say."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from swarmkit.ca.errors import TokenError
from swarmkit.ca.tokens import parse_join_token, parse_unlock_key
from swarmkit.net.listen import MAX_SOCKET_PATH

DEFAULT_STATE_DIR = Path("/var/lib/swarmd")
DEFAULT_CONTROL_SOCKET = Path("/var/run/swarmd.sock")
DEFAULT_LISTEN_REMOTE = "0.0.0.0:4242"
DEFAULT_ENGINE = "unix:///var/run/docker.sock"
DEFAULT_HEARTBEAT_SECONDS = 0.25
DEFAULT_ELECTION_SECONDS = 1.0
EXECUTORS = ("docker", "process", "simulated")
_HOSTNAME = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?$")


class ConfigError(Exception):
    """A setting is wrong; the text says which and what is expected."""


def split_address(text: str, what: str) -> tuple[str, int]:
    """Split ``host:port``; the host may be empty (all addresses) and IPv6 stands in brackets.

    Raises:
        ConfigError: there is no port, or it is not in 0..65535.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"{what} {text!r} must be HOST:PORT, with a port from 0 to 65535")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ConfigError(f"{what} {text!r}: put the IPv6 address in brackets, as in [::1]:4242")
    return host.strip("[]"), int(port)


@dataclass(frozen=True)
class NodeConfig:
    """Settings of one node (contract/cli.md, 10).

    Attributes:
        state_dir: where identity, log and task database live; made 0700.
        control_socket: the manager's control socket; opened only while the node is a manager.
        listen_remote: ``host:port`` of the remote API; opened only while the node is a manager.
        advertise_remote: the address told to others; empty: the listening one, with a usable host.
        join_addr: a manager to join through; empty: the state directory's managers, or a new swarm.
        join_token: admits at once with its role; never logged.
        autolock: a swarm that is founded now locks its managers' keys at rest; of no effect otherwise.
        unlock_key: opens this node's key file if that is locked; never logged.
        hostname: reported to the swarm; empty: the executor's.
        executor: one of ``EXECUTORS``.
        engine_addr: the Docker engine's address.
        heartbeat_seconds: time between two messages of a leader to an idle manager; whether it fits the next
            one is the replicated log's to judge (``raft.config.RaftConfig``).
        election_seconds: shortest time without a leader before a manager campaigns; twice that the longest.
        force_new_cluster: bring a swarm back from this manager's state alone.
    """

    state_dir: Path = DEFAULT_STATE_DIR
    control_socket: Path = DEFAULT_CONTROL_SOCKET
    listen_remote: str = DEFAULT_LISTEN_REMOTE
    advertise_remote: str = ""
    join_addr: str = ""
    join_token: str = field(default="", repr=False)
    autolock: bool = False
    unlock_key: str = field(default="", repr=False)
    hostname: str = ""
    executor: str = "docker"
    engine_addr: str = DEFAULT_ENGINE
    heartbeat_seconds: float = DEFAULT_HEARTBEAT_SECONDS
    election_seconds: float = DEFAULT_ELECTION_SECONDS
    force_new_cluster: bool = False

    @property
    def unlock_key_bytes(self) -> bytes:
        """The unlock key, or nothing. Raises ``TokenError`` if it is none: ``validate`` tells before."""
        return parse_unlock_key(self.unlock_key) if self.unlock_key else b""

    def validate(self) -> None:
        """Check each setting by itself.

        Raises:
            ConfigError: one is wrong.
        """
        split_address(self.listen_remote, "--listen-remote-api")
        if self.advertise_remote:
            host, port = split_address(self.advertise_remote, "--advertise-remote-api")
            if not host or not port:
                raise ConfigError("--advertise-remote-api must name a host and a port other than 0")
        if self.join_addr:
            host, port = split_address(self.join_addr, "--join-addr")
            if not host or not port:
                raise ConfigError("--join-addr must name a host and a port, as in 10.0.0.1:4242")
        self._validate_token()
        if self.force_new_cluster and self.join_addr:
            raise ConfigError(
                "--force-new-cluster and --join-addr exclude each other: the one leaves the old managers"
                " behind, the other joins them"
            )
        try:
            _ = self.unlock_key_bytes
        except TokenError as error:
            raise ConfigError(
                f"--unlock-key (or SWARM_UNLOCK_KEY) is not one ({error}): 'swarmctl cluster unlock-key' on a"
                " running manager shows it"
            ) from error
        if len(os.fsencode(self.control_socket)) > MAX_SOCKET_PATH:
            raise ConfigError(
                f"--listen-control-api {str(self.control_socket)!r} is longer than the {MAX_SOCKET_PATH}"
                " bytes a socket's path may have"
            )
        if self.hostname and not _HOSTNAME.match(self.hostname):
            raise ConfigError(
                f"--hostname {self.hostname!r} is not a host name: use letters, digits, '-', '.', '_'"
            )
        if self.executor not in EXECUTORS:
            raise ConfigError(f"--executor {self.executor!r} must be one of {', '.join(EXECUTORS)}")
        if self.executor == "docker":
            self._validate_engine()

    def _validate_engine(self) -> None:
        scheme, separator, rest = self.engine_addr.partition("://")
        if scheme == "unix" and rest.startswith("/"):
            return
        what = f"--engine-addr (or DOCKER_HOST) {self.engine_addr!r}"
        if not separator or scheme not in ("tcp", "http", "https"):
            raise ConfigError(f"{what} must be unix:///PATH or tcp://HOST:PORT")
        host, port = split_address(rest.partition("/")[0], what)
        if not host or not port:
            raise ConfigError(f"{what} must name a host and a port, as in tcp://127.0.0.1:2375")

    def _validate_token(self) -> None:
        if not self.join_token:
            return
        if not self.join_addr:
            raise ConfigError("--join-token needs --join-addr: the address of a manager to join through")
        try:
            parse_join_token(self.join_token)
        except TokenError as error:
            raise ConfigError(
                f"--join-token is not one ({error}): copy it whole from 'swarmctl cluster inspect' on"
                " a manager"
            ) from error
