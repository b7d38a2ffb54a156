"""The certificate authority as a client sees it: connections to managers, and calls with deadlines.

Implements ``swarmkit.ca.enrollment.CaConnector`` over gRPC (contract/security.md, 4 and 6).
"""

import dataclasses
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import grpc
import grpc.aio

from swarmkit.api import ca_pb2_grpc
from swarmkit.api import messages as api
from swarmkit.ca.enrollment import CALL_SECONDS, Connect
from swarmkit.ca.errors import (
    CallError,
    CallRefusedError,
    CallTimeoutError,
    CallUnavailableError,
    EnrollmentError,
    NoSuchNodeError,
    NotServedError,
)
from swarmkit.net.address import AddressError
from swarmkit.net.channels import (
    CA_NAME,
    MANAGER_NAME,
    ConnectError,
    anonymous_channel,
    describe_rpc_error,
    fetch_leaf,
    leaf_channel,
    secure_channel,
    unix_channel,
)
from swarmkit.net.remotes import NoRemotesError, Remote, Remotes

R = TypeVar("R")
Status = grpc.StatusCode

#: What a call that went well, or not, counts for its manager (contract/dispatcher-agent.md, 1).
EXPERIENCE = 10
_UNAVAILABLE = (
    Status.UNAVAILABLE,
    Status.ABORTED,
    Status.CANCELLED,
    Status.UNKNOWN,
    Status.INTERNAL,
    Status.RESOURCE_EXHAUSTED,
)


def call_error(error: grpc.aio.AioRpcError, target: str) -> CallError:
    """Return what a failed call means for whoever wants a certificate."""
    text = describe_rpc_error(error, target)
    code = error.code()
    if code is Status.DEADLINE_EXCEEDED:
        return CallTimeoutError(text)
    if code in _UNAVAILABLE:
        return CallUnavailableError(text)
    if code is Status.NOT_FOUND:
        return NoSuchNodeError(text)
    if code is Status.UNIMPLEMENTED:
        return NotServedError(text)
    return CallRefusedError(text)


class GrpcCaClient:
    """One connection to the authority of one manager."""

    def __init__(
        self, channel: grpc.aio.Channel, target: str, experience: Callable[[int], None] = lambda _: None
    ) -> None:
        self._channel = channel
        self._target = target
        self._experience = experience
        self._ca = ca_pb2_grpc.CAStub(channel)
        self._node_ca = ca_pb2_grpc.NodeCAStub(channel)

    async def _answer(self, call: Awaitable[R]) -> R:
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise call_error(error, self._target) from error

    async def get_root_ca_certificate(self) -> bytes:
        """Call CA.GetRootCACertificate and return the bundle."""
        request = api.GetRootCACertificateRequest()
        answer = await self._answer(self._ca.GetRootCACertificate(request, timeout=CALL_SECONDS))
        return answer.certificate

    async def get_unlock_key(self) -> api.GetUnlockKeyResponse:
        """Call CA.GetUnlockKey."""
        return await self._answer(self._ca.GetUnlockKey(api.GetUnlockKeyRequest(), timeout=CALL_SECONDS))

    async def issue_node_certificate(
        self, request: api.IssueNodeCertificateRequest
    ) -> api.IssueNodeCertificateResponse:
        """Call NodeCA.IssueNodeCertificate."""
        return await self._answer(self._node_ca.IssueNodeCertificate(request, timeout=CALL_SECONDS))

    async def node_certificate_status(
        self, request: api.NodeCertificateStatusRequest
    ) -> api.NodeCertificateStatusResponse:
        """Call NodeCA.NodeCertificateStatus."""
        return await self._answer(self._node_ca.NodeCertificateStatus(request, timeout=CALL_SECONDS))

    async def close(self, success: bool) -> None:
        """End the connection."""
        self._experience(EXPERIENCE if success else -EXPERIENCE)
        await self._channel.close()


class AuthorityConnector:
    """Connects to this node's own manager if it runs one, else to a known manager.

    Args:
        remotes: the known managers.
        local_socket: returns the control socket of this node's own manager, None while it runs none.
    """

    def __init__(self, remotes: Remotes, local_socket: Callable[[], Path | None]) -> None:
        self._remotes = remotes
        self._local_socket = local_socket

    async def connect(self, how: Connect) -> GrpcCaClient:
        """Return a new connection.

        Raises:
            EnrollmentError: no manager is known.
            CallUnavailableError: the chosen one does not answer as a manager.
        """
        local = self._local_socket()
        if local is not None and not how.remote_only:
            return GrpcCaClient(unix_channel(local), str(local))
        try:
            remote = self._remotes.select(how.credentials.node_id if how.credentials is not None else "")
        except NoRemotesError as error:
            raise EnrollmentError("no manager of the swarm is known: give one with --join-addr") from error
        try:
            channel = await self._dial(remote, how)
        except ConnectError as error:
            self._remotes.observe_if_known(remote, -EXPERIENCE)
            raise CallUnavailableError(str(error)) from error
        except AddressError as error:
            raise EnrollmentError(str(error)) from error
        return GrpcCaClient(
            channel, remote.addr, lambda weight: self._remotes.observe_if_known(remote, weight)
        )

    async def _dial(self, remote: Remote, how: Connect) -> grpc.aio.Channel:
        if how.root_pem is None:
            return leaf_channel(remote.addr, await fetch_leaf(remote.addr))
        name = CA_NAME if how.to_ca else MANAGER_NAME
        if how.credentials is None:
            return anonymous_channel(remote.addr, how.root_pem, name)
        shown = dataclasses.replace(how.credentials, root_pem=how.root_pem)
        return secure_channel(remote.addr, shown, name)
