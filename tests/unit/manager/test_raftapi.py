"""Join and Leave: what needs no network (contract/raft-store-manager.md, 11, 12 and 24)."""

import grpc
import pytest

from swarmkit.api import messages as api
from swarmkit.manager.joining import join_seconds
from swarmkit.manager.raftapi import (
    RaftService,
    UnhealthyError,
    check_unused,
    joining_address,
    reached_address,
)
from swarmkit.net.caller import Caller, as_caller
from swarmkit.net.errors import RpcError
from swarmkit.raft.config import RaftConfig
from swarmkit.raft.errors import MembershipError, TransferError
from swarmkit.raft.service_pb2 import JoinRequest, LeaveRequest
from swarmkit.store.proposer import LeadershipLostError, StoppedError

CALLER = Caller(node_id="n2", remote_addr="192.0.2.7:4711")


class FakeNode:
    """A raft node and its group; ``fail`` is what the next change raises."""

    def __init__(self) -> None:
        self.raft_id = 1
        self.is_leader = True
        self.group = self
        self.fail: Exception | None = None
        self.list = [api.RaftMember(raft_id=1, node_id="n1", addr="192.0.2.1:4242")]
        self.handed_over = False
        self.next_id = 7

    def members(self) -> list[api.RaftMember]:
        return self.list

    async def add(self, node_id: str, addr: str) -> int:
        if self.fail is not None:
            raise self.fail
        for member in self.list:
            if member.node_id == node_id:
                member.addr = addr
                return member.raft_id
        self.list.append(api.RaftMember(raft_id=self.next_id, node_id=node_id, addr=addr))
        self.next_id += 1
        return self.next_id - 1

    async def move(self, addr: str) -> None:
        self.list[0].addr = addr

    async def remove(self, raft_id: int) -> None:
        if self.fail is not None:
            raise self.fail
        self.list = [member for member in self.list if member.raft_id != raft_id]

    def survives_removal(self, _raft_id: int) -> bool:
        return True

    async def hand_over(self) -> int:
        if self.fail is not None:
            raise self.fail
        self.handed_over = True
        return 7


class Bench:
    def __init__(self) -> None:
        self.node = FakeNode()
        self.probed: list[tuple[str, str]] = []
        self.unhealthy = ""
        self.refusal = ""
        self.service = RaftService(
            self.node,  # type: ignore[arg-type]
            self.probe,
            lambda node_id: self.refusal,
        )

    async def probe(self, addr: str, node_id: str) -> None:
        self.probed.append((addr, node_id))
        if self.unhealthy:
            raise UnhealthyError(self.unhealthy)

    async def join(self, addr: str = "192.0.2.2:4242", caller: Caller = CALLER) -> list[str]:
        with as_caller(caller):
            reply = await self.service.Join(JoinRequest(addr=addr), None)
        assert reply.raft_id == 7
        return [member.addr for member in reply.members]

    async def ask(self, request: JoinRequest, caller: Caller = CALLER) -> dict[int, str]:
        with as_caller(caller):
            reply = await self.service.Join(request, None)
        return {member.raft_id: member.addr for member in reply.members}

    async def leave(self, raft_id: int) -> None:
        with as_caller(CALLER):
            await self.service.Leave(LeaveRequest(raft_id=raft_id), None)


@pytest.fixture
def served() -> Bench:
    return Bench()


async def test_the_reply_lists_all_members_the_joiner_included(served: Bench) -> None:
    assert await served.join() == ["192.0.2.1:4242", "192.0.2.2:4242"]
    assert served.probed == [("192.0.2.2:4242", "n2")]


@pytest.mark.parametrize("addr", ["0.0.0.0:4242", "[::]:4242", ":4242"])
def test_a_wildcard_host_is_replaced_by_where_the_call_came_from_and_the_port_stays(addr: str) -> None:
    assert joining_address(addr, CALLER) == "192.0.2.7:4242"
    six = Caller(node_id="n2", remote_addr="[2001:db8::7]:4711")
    assert joining_address(addr, six) == "[2001:db8::7]:4242"


@pytest.mark.parametrize("addr", ["manager2:4242", "192.0.2.2:1", "[2001:db8::1]:4242"])
def test_other_hosts_are_left_as_they_are(addr: str) -> None:
    assert joining_address(addr, CALLER) == addr


@pytest.mark.parametrize("addr", ["", "192.0.2.2", "192.0.2.2:", "192.0.2.2:port", "2001:db8::1:4242", "h:0"])
def test_an_address_that_does_not_split_is_an_invalid_argument(addr: str) -> None:
    with pytest.raises(RpcError) as caught:
        joining_address(addr, CALLER)
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


def test_a_wildcard_of_a_caller_from_nowhere_is_an_invalid_argument() -> None:
    with pytest.raises(RpcError) as caught:
        joining_address("0.0.0.0:1", Caller(node_id="n2"))
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


def test_an_address_belongs_to_one_member_and_may_be_said_again_by_it() -> None:
    members = [api.RaftMember(raft_id=1, node_id="n1", addr="192.0.2.1:4242")]
    check_unused(members, "192.0.2.1:4242", "n1")
    with pytest.raises(RpcError, match="belongs to the manager n1") as caught:
        check_unused(members, "192.0.2.1:4242", "n2")
    assert caught.value.code is grpc.StatusCode.ALREADY_EXISTS


async def test_who_does_not_lead_adds_and_removes_nobody_and_looks_at_nobody(served: Bench) -> None:
    served.node.is_leader = False
    for call in (served.join(), served.leave(1)):
        with pytest.raises(RpcError) as caught:
            await call
        assert caught.value.code is grpc.StatusCode.FAILED_PRECONDITION
    assert served.probed == []


async def test_a_call_without_a_node_is_an_invalid_argument(served: Bench) -> None:
    with pytest.raises(RpcError) as caught:
        await served.join(caller=Caller(remote_addr="192.0.2.7:1"))
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


async def test_who_cannot_be_reached_changes_nothing(served: Bench) -> None:
    served.unhealthy = "nobody listens there"
    with pytest.raises(RpcError, match=r"using its advertised address 192\.0\.2\.2:4242: nobody") as caught:
        await served.join()
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert len(served.node.list) == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MembershipError("no"), grpc.StatusCode.FAILED_PRECONDITION),
        (LeadershipLostError(), grpc.StatusCode.FAILED_PRECONDITION),
        (StoppedError(), grpc.StatusCode.UNAVAILABLE),
    ],
)
async def test_what_the_group_refuses_has_a_status_that_says_whether_to_ask_again(
    served: Bench, error: Exception, code: grpc.StatusCode
) -> None:
    served.node.fail = error
    with pytest.raises(RpcError) as caught:
        await served.join()
    assert caught.value.code is code


async def test_a_leader_hands_over_instead_of_removing_itself_and_says_to_ask_again(served: Bench) -> None:
    await served.join()
    with pytest.raises(RpcError, match="ask again") as caught:
        await served.leave(1)
    assert caught.value.code is grpc.StatusCode.ABORTED
    assert served.node.handed_over
    served.node.fail = TransferError("member 7 did not catch up with the log in time")
    with pytest.raises(RpcError, match="in time; ask again") as caught:
        await served.leave(1)
    assert caught.value.code is grpc.StatusCode.ABORTED


async def test_the_last_manager_is_not_removed(served: Bench) -> None:
    with pytest.raises(RpcError, match="last manager") as caught:
        await served.leave(1)
    assert caught.value.code is grpc.StatusCode.FAILED_PRECONDITION


async def test_who_is_to_be_a_manager_no_more_removes_nobody_but_itself(served: Bench) -> None:
    await served.join()
    served.refusal = "node n2 is to be a worker"
    with pytest.raises(RpcError, match="is to be a worker") as caught:
        await served.leave(1)
    assert caught.value.code is grpc.StatusCode.FAILED_PRECONDITION
    await served.leave(7)
    assert [member.raft_id for member in served.node.list] == [1]


def test_joining_may_take_the_leaders_look_and_two_elections() -> None:
    assert join_seconds(RaftConfig()) == 9.0


async def test_a_node_that_is_not_to_be_a_manager_is_refused_before_anybody_looks_at_it(
    served: Bench,
) -> None:
    served.refusal = "node n2 is to be a worker"
    with pytest.raises(RpcError, match="is to be a worker") as caught:
        await served.join()
    assert caught.value.code is grpc.StatusCode.FAILED_PRECONDITION
    assert served.probed == []


async def test_a_node_whose_log_is_lost_becomes_another_member(served: Bench) -> None:
    request = JoinRequest(addr="192.0.2.2:4242")
    assert await served.ask(request) == {1: "192.0.2.1:4242", 7: "192.0.2.2:4242"}
    assert await served.ask(request) == {1: "192.0.2.1:4242", 7: "192.0.2.2:4242"}
    request.lost_raft_id = 7
    assert await served.ask(request) == {1: "192.0.2.1:4242", 8: "192.0.2.2:4242"}
    assert await served.ask(request) == {1: "192.0.2.1:4242", 8: "192.0.2.2:4242"}


async def test_the_member_of_another_node_is_not_removed_for_a_log_that_is_lost(served: Bench) -> None:
    assert 1 in await served.ask(JoinRequest(addr="192.0.2.2:4242", lost_raft_id=1))


async def test_a_leader_that_listens_everywhere_learns_its_address_from_who_reached_it(served: Bench) -> None:
    served.node.list[0].addr = "0.0.0.0:4242"
    request = JoinRequest(addr="192.0.2.2:4242", reached="192.0.2.1:4242")
    assert (await served.ask(request))[1] == "192.0.2.1:4242"


async def test_who_was_passed_on_says_nothing_of_the_leaders_address(served: Bench) -> None:
    served.node.list[0].addr = "0.0.0.0:4242"
    passed_on = Caller(node_id="n2", remote_addr="192.0.2.7:4711", forwarded_by="n3")
    request = JoinRequest(addr="192.0.2.2:4242", reached="192.0.2.3:4242")
    assert (await served.ask(request, passed_on))[1] == "0.0.0.0:4242"


@pytest.mark.parametrize(
    ("known", "reached", "learnt"),
    [
        ("0.0.0.0:4242", "192.0.2.1:4243", "192.0.2.1:4243"),
        ("[::]:4242", "manager.example:4242", "manager.example:4242"),
        ("192.0.2.9:4242", "192.0.2.1:4242", None),
        ("0.0.0.0:4242", "127.0.0.1:4242", None),
        ("0.0.0.0:4242", "localhost:4242", None),
        ("0.0.0.0:4242", "0.0.0.0:4242", None),
        ("0.0.0.0:4242", "", None),
    ],
)
def test_an_address_is_learnt_only_for_a_wildcard_and_never_from_the_loopback(
    known: str, reached: str, learnt: str | None
) -> None:
    assert reached_address(known, reached) == learnt
