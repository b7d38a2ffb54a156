"""Managers that form a group over real gRPC (contract/raft-store-manager.md, 9 to 13 and 25: Membership)."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from swarmkit.api import messages as api
from swarmkit.manager.joining import JoinRefusedError, JoinUnavailableError, join_group
from swarmkit.net.channels import secure_channel
from swarmkit.raft.service_pb2 import LeaveRequest
from swarmkit.raft.service_pb2_grpc import RaftStub
from tests.unit.manager.managers import Managers, Site, until
from tests.unit.net.harness import failure

pytestmark = [pytest.mark.real_time, pytest.mark.slow]


@pytest.fixture
async def managers() -> AsyncIterator[Managers]:
    managers = Managers()
    yield managers
    await managers.close()


async def write(leader: Site, *sites: Site) -> None:
    value = f"value {time.monotonic()}".encode()
    async with asyncio.timeout(5):
        await leader.node.propose(value)
    await until(lambda: all(value in site.machine.values for site in sites))


async def leave(through: Site, raft_id: int) -> None:
    async with secure_channel(through.address, through.holder.current) as channel:
        await RaftStub(channel).Leave(LeaveRequest(raft_id=raft_id), timeout=10)


async def test_three_managers_form_a_group_and_replicate(managers: Managers) -> None:
    first = await managers.found()
    second, third = managers.site(), managers.site()
    reply = await second.join(first)
    assert reply.raft_id == second.node.raft_id
    assert {member.node_id for member in reply.members} == {"manager1", "manager2"}
    assert {member.addr for member in reply.members} == {first.address, second.address}
    assert all(not member.HasField("status") for member in reply.members)
    await third.join(first)
    leader = await managers.settled(first, second, third)
    await write(leader, first, second, third)
    reachable = api.RaftMemberStatus.REACHABLE
    assert [member.status.reachability for member in third.node.members()] == [reachable] * 3


async def test_a_follower_comes_back_after_a_restart(managers: Managers) -> None:
    first, second, third = await managers.group(3)
    leader = await managers.settled(first, second, third)
    follower = next(site for site in (second, third) if site is not leader)
    await follower.stop()
    await write(leader, leader)
    await follower.restart()
    leader = await managers.settled(first, second, third)
    await write(leader, first, second, third)


async def test_another_leads_when_the_leader_stops_and_it_returns_as_a_follower(managers: Managers) -> None:
    sites = await managers.group(3)
    leader = await managers.settled(*sites)
    await leader.stop()
    rest = [site for site in sites if site is not leader]
    successor = await managers.settled(*rest)
    await write(successor, *rest)
    await leader.restart()
    await write(await managers.settled(*sites), *sites)


async def test_a_member_with_another_address_is_reached_there_by_all(managers: Managers) -> None:
    first, second, third = await managers.group(3)
    raft_id = third.node.raft_id
    await third.stop()
    third.address = "127.0.0.1:0"
    await third.listen()
    leader = await managers.settled(first, second)
    reply = await join_group(leader.address, third.holder.current, third.address)
    assert reply.raft_id == raft_id
    await third.start(reply)
    await write(await managers.settled(first, second, third), first, second, third)
    for site in (first, second, third):
        assert third.address in {member.addr for member in site.node.members()}


async def test_joining_again_at_the_same_address_changes_nothing(managers: Managers) -> None:
    first, second = await managers.group(2)
    leader = await managers.settled(first, second)
    follower = second if leader is first else first
    last = leader.node.status().last_index
    reply = await join_group(leader.address, follower.holder.current, follower.address)
    assert reply.raft_id == follower.node.raft_id
    assert len(reply.members) == 2
    assert leader.node.status().last_index == last


async def test_who_cannot_be_reached_does_not_join(managers: Managers) -> None:
    first = await managers.found()
    joiner = managers.site()
    with pytest.raises(JoinRefusedError, match="prospective new cluster member using its advertised address"):
        await join_group(first.address, joiner.holder.current, "127.0.0.1:1")
    assert len(first.node.members()) == 1


async def test_who_answers_at_the_address_must_be_the_joining_node_itself(managers: Managers) -> None:
    """D22."""
    first = await managers.found()
    joiner, other = managers.site(), managers.site()
    await other.listen()
    with pytest.raises(JoinRefusedError, match="advertised address"):
        await join_group(first.address, joiner.holder.current, other.address)
    assert len(first.node.members()) == 1


async def test_who_does_not_serve_raft_does_not_join(managers: Managers) -> None:
    first, joiner = await managers.found(), managers.site()
    await joiner.listen()
    joiner.health.set_serving("Raft", False)
    with pytest.raises(JoinRefusedError, match="raft is not serving there"):
        await join_group(first.address, joiner.holder.current, joiner.address)


async def test_an_address_that_another_member_has_is_refused(managers: Managers) -> None:
    """D19."""
    first, joiner = await managers.found(), managers.site()
    with pytest.raises(
        JoinRefusedError, match=f"the address {first.address} belongs to the manager manager1"
    ):
        await join_group(first.address, joiner.holder.current, first.address)


async def test_a_wildcard_host_becomes_the_address_the_call_came_from(managers: Managers) -> None:
    first, joiner = await managers.found(), managers.site()
    joiner.address = "0.0.0.0:0"
    await joiner.listen()
    reply = await join_group(first.address, joiner.holder.current, joiner.address)
    port = joiner.address.rpartition(":")[2]
    assert f"127.0.0.1:{port}" in {member.addr for member in reply.members}


async def test_a_follower_and_a_place_where_nobody_is_tell_the_joiner_to_try_elsewhere(
    managers: Managers,
) -> None:
    sites = await managers.group(2)
    leader = await managers.settled(*sites)
    follower = next(site for site in sites if site is not leader)
    joiner = managers.site()
    for address in (follower.address, "127.0.0.1:1"):
        with pytest.raises(JoinUnavailableError, match="cannot join the managers through"):
            await join_group(address, joiner.holder.current, "127.0.0.1:2")
    with pytest.raises(JoinRefusedError, match="without knowing own address"):
        await join_group(leader.address, joiner.holder.current, "")


async def test_a_worker_does_not_join(managers: Managers) -> None:
    first = await managers.found()
    with pytest.raises(JoinRefusedError, match="unauthorized role"):
        await join_group(first.address, managers.authority.worker(), "127.0.0.1:2")


async def test_a_removed_member_is_told_and_its_id_never_returns(managers: Managers) -> None:
    sites = await managers.group(3)
    leader = await managers.settled(*sites)
    removed = next(site for site in sites if site is not leader)
    raft_id = removed.node.raft_id
    await leave(leader, raft_id)
    await until(lambda: removed.removals == 1)
    await until(lambda: all(len(site.node.members()) == 2 for site in sites if site is not removed))
    await removed.stop()
    # One that was away while it was removed dials, and is told then.
    await removed.restart()
    await until(lambda: removed.removals == 2)
    await removed.stop()
    removed.disk = type(removed.disk)()
    reply = await removed.join(leader)
    assert reply.raft_id != raft_id
    await write(await managers.settled(*sites), *sites)


async def test_a_leader_told_to_leave_hands_over_and_its_successor_removes_it(managers: Managers) -> None:
    """D24."""
    sites = await managers.group(3)
    leader = await managers.settled(*sites)
    raft_id = leader.node.raft_id
    error = await failure(leave(leader, raft_id))
    assert error.code().name == "ABORTED"
    assert "ask again" in (error.details() or "")
    rest = [site for site in sites if site is not leader]
    successor = await managers.settled(*rest)
    await leave(successor, raft_id)
    await until(lambda: leader.removals == 1)
    await write(successor, *rest)


async def test_who_leaves_must_exist_and_be_dispensable(managers: Managers) -> None:
    sites = await managers.group(3)
    leader = await managers.settled(*sites)
    follower, other = (site for site in sites if site is not leader)
    error = await failure(leave(leader, 12345))
    assert (error.code().name, error.details()) == ("NOT_FOUND", "member 3039 not found")
    error = await failure(leave(follower, other.node.raft_id))
    assert error.code().name == "FAILED_PRECONDITION"
    assert "does not lead" in (error.details() or "")
    await other.stop()
    await until(lambda: not leader.node.mailbox.is_connected(other.node.raft_id))
    for raft_id in (follower.node.raft_id, leader.node.raft_id):
        error = await failure(leave(leader, raft_id))
        assert error.code().name == "FAILED_PRECONDITION"
        assert "may result in loss of quorum" in (error.details() or "")
    await leave(leader, other.node.raft_id)
    assert len(leader.node.members()) == 2


async def test_the_last_manager_does_not_leave(managers: Managers) -> None:
    first = await managers.found()
    error = await failure(leave(first, first.node.raft_id))
    assert (error.code().name, error.details()) == (
        "FAILED_PRECONDITION",
        "this is the last manager: it cannot be removed",
    )


async def test_joins_at_the_same_moment_wait_for_each_other(managers: Managers) -> None:
    sites = await managers.group(2)
    leader = await managers.settled(*sites)
    joiners = [managers.site() for _ in range(3)]
    replies = await asyncio.gather(*(joiner.join(leader) for joiner in joiners))
    assert len({reply.raft_id for reply in replies}) == 3
    await managers.settled(*managers.sites)
    assert len(leader.node.members()) == 5
