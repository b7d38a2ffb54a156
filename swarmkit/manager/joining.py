"""Asking a manager to be taken into the raft group (contract/raft-store-manager.md, 10 and 11)."""

import grpc

from swarmkit.ca.credentials import Credentials
from swarmkit.net.address import AddressError
from swarmkit.net.channels import describe_rpc_error, secure_channel
from swarmkit.raft.config import RaftConfig
from swarmkit.raft.node import JoinReply
from swarmkit.raft.service_pb2 import JoinRequest
from swarmkit.raft.service_pb2_grpc import RaftStub

#: Seconds that the leader may take to look whether the new member answers.
HEALTH_SECONDS = 5.0

#: Another manager, or the same one later, would say the same.
_FINAL = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.OUT_OF_RANGE,
}


class JoinError(Exception):
    """This node was not taken into the group; the text is one sentence."""


class JoinUnavailableError(JoinError):
    """No answer, or no leader: another manager, or the same one later, may do better.

    The leader may have made this node a member all the same. Joining again is then answered with the same id.
    """


class JoinRefusedError(JoinError):
    """The group does not take this node as it is."""


def join_seconds(config: RaftConfig) -> float:
    """Return how long ``Join`` may take: the leader's look at the joiner, and two elections."""
    return HEALTH_SECONDS + 2 * config.election_max_seconds


async def join_group(
    address: str,
    credentials: Credentials,
    own_addr: str,
    timeout: float = join_seconds(RaftConfig()),
    *,
    lost_raft_id: int = 0,
) -> JoinReply:
    """Have the leader make this node a member; return its raft id and where the others are.

    The service Health must answer at ``own_addr`` with Raft as serving before this is called.

    Args:
        address: any manager's, ``host:port``; it passes the call on to the leader.
        credentials: this node's, as a manager.
        own_addr: ``host:port`` where managers reach this node; a wildcard host stands for the address that
            the call comes from.
        timeout: seconds for all of it.
        lost_raft_id: the member that this node was before it lost its log; 0: none.

    Raises:
        JoinUnavailableError, JoinRefusedError: see there.
    """
    if not own_addr:
        raise JoinRefusedError("attempted to join raft cluster without knowing own address")
    try:
        channel = secure_channel(address, credentials)
    except AddressError as error:
        raise JoinRefusedError(str(error)) from error
    request = JoinRequest(addr=own_addr, reached=address, lost_raft_id=lost_raft_id)
    async with channel:
        try:
            reply = await RaftStub(channel).Join(request, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            text = f"cannot join the managers through {address}: {describe_rpc_error(error, address)}"
            kind = JoinRefusedError if error.code() in _FINAL else JoinUnavailableError
            raise kind(text) from error
    return JoinReply(reply.raft_id, list(reply.members))
