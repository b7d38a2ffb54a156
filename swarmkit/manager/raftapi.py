"""The project's own raft service: messages between managers, Join and Leave.

Source: contract/raft-store-manager.md, 11 to 13 and 24.
"""

import asyncio
import ipaddress
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import grpc

from swarmkit.api import messages as api
from swarmkit.api.health_pb2_grpc import HealthStub
from swarmkit.ca.credentials import CredentialsHolder
from swarmkit.log import get_logger
from swarmkit.manager.health import RAFT
from swarmkit.manager.joining import HEALTH_SECONDS
from swarmkit.net.address import AddressError, is_wildcard, join_address, split_address
from swarmkit.net.caller import Caller, current_caller
from swarmkit.net.channels import describe_rpc_error, member_channel
from swarmkit.net.errors import RpcError, failed_precondition, invalid_argument, not_found
from swarmkit.raft.errors import MembershipError, RaftError, TransferError
from swarmkit.raft.group import GroupChanges
from swarmkit.raft.service_pb2 import JoinReply, JoinRequest, LeaveReply, LeaveRequest
from swarmkit.raft.service_pb2_grpc import RaftServicer
from swarmkit.store.proposer import LeadershipLostError, ProposalError

log = get_logger(__name__)


class UnhealthyError(Exception):
    """Who wants to become a member does not answer as it must; the text says why."""


class Member(Protocol):
    """What the service asks of the raft node."""

    @property
    def raft_id(self) -> int:
        """This member's raft id; 0 before the start."""
        ...

    @property
    def is_leader(self) -> bool:
        """Whether raft itself says so."""
        ...

    def members(self) -> list[api.RaftMember]:
        """Return the members; empty before the start."""
        ...

    @property
    def group(self) -> GroupChanges:
        """Changes the group."""
        ...


class HealthProbe(Protocol):
    """Looks whether a certain node serves raft at an address."""

    async def __call__(self, addr: str, node_id: str) -> None:
        """Return if it does.

        Raises:
            UnhealthyError: it does not.
        """
        ...


def grpc_probe(credentials: CredentialsHolder, timeout: float = HEALTH_SECONDS) -> HealthProbe:
    """Return a probe with manager TLS; the certificate that answers must carry the node id (D22)."""

    async def probe(addr: str, node_id: str) -> None:
        async with member_channel(addr, credentials.current, node_id) as channel:
            request = api.HealthCheckRequest(service=RAFT)
            try:
                answer = await HealthStub(channel).Check(request, timeout=timeout)
            except grpc.aio.AioRpcError as error:
                raise UnhealthyError(describe_rpc_error(error, addr)) from error
        if answer.status != api.HealthCheckResponse.SERVING:
            raise UnhealthyError("raft is not serving there")

    return probe


def joining_address(addr: str, caller: Caller) -> str:
    """Return where the others reach a joiner: what it said, a wildcard host replaced by where it called from.

    PARITY: an empty host counts as a wildcard; the original would dial itself.

    Raises:
        RpcError: INVALID_ARGUMENT.
    """
    try:
        host, port = split_address(addr)
    except AddressError as error:
        raise invalid_argument(str(error)) from error
    if not port:
        raise invalid_argument(f"{addr!r} is not an address to be reached at: its port is 0")
    if not is_wildcard(host):
        return addr
    if not caller.ip:
        raise invalid_argument(
            f"{addr!r} does not say where the node is reached; give it an address of its own"
        )
    return join_address(caller.ip, port)


def reached_address(known: str, reached: str) -> str | None:
    """Return where this leader is reached, if a joiner knows better than the leader; None otherwise.

    A manager that listens on all addresses and was told none to advertise learns one from the first that
    joins from another machine. The loopback says nothing to anybody else.

    Args:
        known: the leader's address as the group knows it.
        reached: the address at which the joiner reached it.
    """
    try:
        (known_host, _), (host, _) = split_address(known), split_address(reached)
    except AddressError:
        return None
    if not is_wildcard(known_host) or is_wildcard(host) or host == "localhost":
        return None
    try:
        return None if ipaddress.ip_address(host).is_loopback else reached
    except ValueError:
        return reached


def check_unused(members: Sequence[api.RaftMember], addr: str, node_id: str) -> None:
    """Refuse an address that another member has (D19).

    Raises:
        RpcError: ALREADY_EXISTS.
    """
    for member in members:
        if member.addr == addr and member.node_id != node_id:
            raise RpcError(
                grpc.StatusCode.ALREADY_EXISTS,
                f"the address {addr} belongs to the manager {member.node_id}: "
                "advertise another one, or remove that manager first",
            )


class RaftService(RaftServicer):
    """Service swarmkit.raft.v1.Raft; for the remote port alone.

    Args:
        node: this manager's raft node.
        probe: looks at who joins.
        refusal: says why a node may not become a member, or remove others; empty if it may.
    """

    def __init__(
        self,
        node: Member,
        probe: HealthProbe,
        refusal: Callable[[str], str] = lambda node_id: "",
    ) -> None:
        self._node = node
        self._probe = probe
        self._refusal = refusal
        # Changes wait for each other here, in order: the group takes one at a time and refuses a second.
        self._turn = asyncio.Lock()

    async def Join(self, request: JoinRequest, _context: Any) -> JoinReply:
        """Make the caller a member, or give it its new address.

        Raises:
            RpcError: FAILED_PRECONDITION, this manager does not lead, or the node is not to be a manager, or
                the member that it was cannot be removed; INVALID_ARGUMENT, the address is none, or does not
                serve raft as this node; ALREADY_EXISTS, another member has it.
        """
        caller = current_caller()
        node_id = _node_id(caller)
        self._check_leading()
        if refusal := self._refusal(node_id):
            raise failed_precondition(refusal)
        addr = joining_address(request.addr, caller)
        check_unused(self._node.members(), addr, node_id)
        try:
            await self._probe(addr, node_id)
        except UnhealthyError as error:
            raise invalid_argument(
                f"could not connect to prospective new cluster member using its advertised address {addr}:"
                f" {error}"
            ) from error
        async with self._turn:
            self._check_leading()
            check_unused(self._node.members(), addr, node_id)
            with _mapped():
                await self._learn_address(caller, request.reached)
                await self._replace(node_id, request.lost_raft_id)
                known = {member.raft_id for member in self._node.members()}
                raft_id = await self._node.group.add(node_id, addr)
            if raft_id not in known:
                log.info("a manager has joined", raft_id=f"{raft_id:x}", node_id=node_id, addr=addr)
            return JoinReply(raft_id=raft_id, members=map(_without_status, self._node.members()))

    async def _learn_address(self, caller: Caller, reached: str) -> None:
        own = next((m for m in self._node.members() if m.raft_id == self._node.raft_id), None)
        addr = None if own is None or caller.forwarded_by else reached_address(own.addr, reached)
        if addr is not None:
            log.info("others reach this manager at another address than it knew", addr=addr)
            await self._node.group.move(addr)

    async def _replace(self, node_id: str, lost: int) -> None:
        """Remove the member that a node was whose log is lost, so that nobody counts on what it knew."""
        if any(member.raft_id == lost and member.node_id == node_id for member in self._node.members()):
            await self._node.group.remove(lost)
            log.info("a manager has lost its log and joins anew", node_id=node_id, raft_id=f"{lost:x}")

    async def Leave(self, request: LeaveRequest, _context: Any) -> LeaveReply:
        """Remove a member; any manager may remove any, and who is to be a manager no more itself alone.

        A leader that is to be removed hands the leadership over first. Its answer is then ABORTED: whoever
        asked asks again, and reaches the successor.

        Raises:
            RpcError: FAILED_PRECONDITION, this manager does not lead, the caller is to be no manager and
                another is meant, or those left might lose the quorum; NOT_FOUND, no such member; ABORTED, as
                above.
        """
        caller, raft_id = current_caller(), request.raft_id
        node_id = _node_id(caller)
        async with self._turn:
            self._check_leading()
            node_ids = {member.raft_id: member.node_id for member in self._node.members()}
            if raft_id not in node_ids:
                raise not_found(f"member {raft_id:x} not found")
            if node_ids[raft_id] != node_id and (refusal := self._refusal(node_id)):
                raise failed_precondition(refusal)
            with _mapped():
                if raft_id == self._node.raft_id:
                    await self._step_aside()
                await self._node.group.remove(raft_id)
            log.info("a manager was removed", raft_id=f"{raft_id:x}", by=caller.node_id)
            return LeaveReply()

    async def _step_aside(self) -> None:
        group, own = self._node.group, self._node.raft_id
        if len(self._node.members()) == 1:
            raise failed_precondition("this is the last manager: it cannot be removed")
        if not group.survives_removal(own):
            raise failed_precondition(
                f"removing member {own:x} may result in loss of quorum: too few others are reachable"
            )
        successor = await group.hand_over()
        raise RpcError(
            grpc.StatusCode.ABORTED,
            f"the leadership was handed to member {successor:x}, which can remove this one: ask again",
        )

    def _check_leading(self) -> None:
        if not self._node.is_leader:
            raise failed_precondition("this manager does not lead the group: ask the leader")


def _node_id(caller: Caller) -> str:
    if not caller.node_id:
        raise invalid_argument("the call says of no node who it is from")
    return caller.node_id


def _without_status(member: api.RaftMember) -> api.RaftMember:
    return api.RaftMember(raft_id=member.raft_id, node_id=member.node_id, addr=member.addr)


@contextmanager
def _mapped() -> Iterator[None]:
    """Turn what the group raises into what the caller reads."""
    try:
        yield
    except (MembershipError, LeadershipLostError) as error:
        raise failed_precondition(str(error)) from error
    except TransferError as error:
        raise RpcError(grpc.StatusCode.ABORTED, f"{error}; ask again") from error
    except (ProposalError, RaftError) as error:
        # Unknown outcome, or this node stops: whoever asked asks again.
        raise RpcError(grpc.StatusCode.UNAVAILABLE, str(error)) from error
