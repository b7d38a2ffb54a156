"""The certificate authority on the wire: services CA and NodeCA (contract/security.md, 6 and 15.3)."""

from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from swarmkit.api import messages as api
from swarmkit.api.ca_pb2_grpc import CAServicer, NodeCAServicer
from swarmkit.ca.errors import (
    CaStartingError,
    CaStoppedError,
    InvalidRequestError,
    IssuingError,
    NodeNotFoundError,
    TooManyRequestsError,
)
from swarmkit.ca.issuing import CertificateAuthority, Requester
from swarmkit.net.caller import current_caller
from swarmkit.net.errors import RpcError
from swarmkit.store import ProposalError

_CODES: dict[type[IssuingError], grpc.StatusCode] = {
    CaStoppedError: grpc.StatusCode.ABORTED,
    CaStartingError: grpc.StatusCode.ABORTED,
    InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    NodeNotFoundError: grpc.StatusCode.NOT_FOUND,
    TooManyRequestsError: grpc.StatusCode.RESOURCE_EXHAUSTED,
}


@contextmanager
def _mapped() -> Iterator[None]:
    """Turn what the authority raises into what the caller reads."""
    try:
        yield
    except IssuingError as error:
        raise RpcError(_CODES[type(error)], str(error)) from error
    except ProposalError as error:
        # Unknown outcome: clients ask again, as they do while no leader is known.
        raise RpcError(grpc.StatusCode.UNAVAILABLE, str(error)) from error


class CaService(CAServicer):
    """Service CA: what a node needs before and right after it has a certificate."""

    def __init__(self, authority: CertificateAuthority) -> None:
        self._authority = authority

    async def GetRootCACertificate(
        self, request: api.GetRootCACertificateRequest, context: object
    ) -> api.GetRootCACertificateResponse:
        """Return the root bundle, byte for byte."""
        with _mapped():
            return api.GetRootCACertificateResponse(certificate=self._authority.root_ca())

    async def GetUnlockKey(
        self, request: api.GetUnlockKeyRequest, context: object
    ) -> api.GetUnlockKeyResponse:
        """Return the managers' unlock key, empty while the swarm is not locked."""
        with _mapped():
            key, version = self._authority.unlock_key()
            return api.GetUnlockKeyResponse(unlock_key=key, version=version)


class NodeCaService(NodeCAServicer):
    """Service NodeCA: certificate requests and their outcome."""

    def __init__(self, authority: CertificateAuthority) -> None:
        self._authority = authority

    async def IssueNodeCertificate(
        self, request: api.IssueNodeCertificateRequest, context: object
    ) -> api.IssueNodeCertificateResponse:
        """Take a certificate request: a renewal for whoever has a certificate, otherwise a new node."""
        caller = current_caller()
        # An address on the control socket is this manager's own, not one that was seen.
        requester = Requester(caller.node_id, caller.ip, caller.from_loopback and not caller.local)
        with _mapped():
            return await self._authority.issue(requester, request)

    async def NodeCertificateStatus(
        self, request: api.NodeCertificateStatusRequest, context: object
    ) -> api.NodeCertificateStatusResponse:
        """Return the outcome of a request, as soon as there is one."""
        with _mapped():
            node = await self._authority.certificate_status(
                request.node_id, anonymous=current_caller().anonymous
            )
        # The client of the original dies of an answer without a status.
        return api.NodeCertificateStatusResponse(status=node.certificate.status, certificate=node.certificate)
