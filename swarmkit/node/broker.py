"""Connections of the agent: the node's own manager if it runs one, else a known manager by weight.

Source: contract/dispatcher-agent.md, 5.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import grpc.aio

from swarmkit.aio import TaskOwner
from swarmkit.api import messages as api
from swarmkit.ca.credentials import CredentialsHolder
from swarmkit.log import get_logger
from swarmkit.net.address import dialable
from swarmkit.net.channels import secure_channel, unix_channel
from swarmkit.net.remotes import Remote, Remotes, RemotesFile, RemotesFileError

log = get_logger(__name__)

#: What a session that ended counts against its manager.
BAD_EXPERIENCE = -10


class RemoteConnection:
    """A connection to a manager elsewhere."""

    def __init__(self, remote: Remote, remotes: Remotes, credentials: CredentialsHolder) -> None:
        self._remote = remote
        self._remotes = remotes
        self._channel = secure_channel(remote.addr, credentials.current)

    @property
    def channel(self) -> grpc.aio.Channel:
        """The channel."""
        return self._channel

    @property
    def address(self) -> str:
        """The manager's address."""
        return self._remote.addr

    async def close(self, success: bool) -> None:
        """Close the channel; every end counts against the manager, so that another one is tried next."""
        self._remotes.observe_if_known(self._remote, BAD_EXPERIENCE)
        await self._channel.close()


class LocalConnection:
    """A connection to this node's own manager over its control socket."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._channel = unix_channel(path)

    @property
    def channel(self) -> grpc.aio.Channel:
        """The channel."""
        return self._channel

    @property
    def address(self) -> str:
        """The socket's path."""
        return str(self._path)

    async def close(self, success: bool) -> None:
        """Close the channel."""
        await self._channel.close()


class NodeBroker:
    """Chooses managers for the agent and remembers those the managers list.

    Args:
        remotes: the known managers.
        file: where they are kept over restarts.
        credentials: for connections to managers elsewhere.
        local_socket: returns the control socket of this node's own manager, None while it runs none.
    """

    def __init__(
        self,
        remotes: Remotes,
        file: RemotesFile,
        credentials: CredentialsHolder,
        local_socket: Callable[[], Path | None],
    ) -> None:
        self._remotes = remotes
        self._file = file
        self._credentials = credentials
        self._local_socket = local_socket
        self._reached = ""
        self._owner = TaskOwner("broker")

    async def select(self) -> RemoteConnection | LocalConnection:
        """Return a new connection.

        Raises:
            NoRemotesError: this node runs no manager and knows no other.
        """
        local = self._local_socket()
        if local is not None:
            return LocalConnection(local)
        remote = self._remotes.select(self._credentials.current.node_id)
        self._reached = remote.addr
        return RemoteConnection(remote, self._remotes, self._credentials)

    def managers(self, listed: Sequence[api.WeightedPeer]) -> None:
        """Know exactly the listed managers from now on."""
        current = {Remote(entry.peer.node_id, self._address(entry.peer)): entry.weight for entry in listed}
        for remote, weight in current.items():
            self._remotes.observe(remote, weight)
        self._remotes.forget(*(remote for remote in self._remotes.known if remote not in current))
        self._owner.spawn(self._save(), "save")

    def _address(self, peer: api.Peer) -> str:
        """Return where to dial a listed manager: a wildcard host says less than how it was reached before."""
        for remote in self._remotes.known:
            if remote.node_id == peer.node_id:
                return dialable(peer.addr, remote.addr)
        return dialable(peer.addr, self._reached)

    async def _save(self) -> None:
        try:
            await self._file.save(self._remotes.known)
        except RemotesFileError as error:
            log.warning("the list of managers is not saved", error=str(error))

    async def close(self) -> None:
        """Finish nothing: a list that is not written yet is learnt again."""
        await self._owner.close()
