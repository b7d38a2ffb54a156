"""The role manager on real raft nodes (contract/security.md, cases 47 and 50)."""

import asyncio
import random

from swarmkit.api import messages as api
from swarmkit.manager.raftgroup import RaftGroup
from swarmkit.manager.rolemanager import RoleManager
from swarmkit.store import Store
from tests.fakes.loop import VirtualClock
from tests.fakes.swarm import Group

WORKER, MANAGER = api.NodeRole.WORKER, api.NodeRole.MANAGER


async def wish(store: Store, node_id: str, role: api.NodeRole.ValueType) -> None:
    node = api.Node(id=node_id, role=MANAGER, spec=api.NodeSpec(desired_role=role))
    await store.update(lambda tx: tx.create(node))


async def test_a_follower_leaves_a_raft_group_and_then_the_leader_after_handing_over(
    clock: VirtualClock,
) -> None:
    group = Group(random.Random(1))
    await group.grow(3)
    store = Store(clock)
    await wish(store, "node-1", WORKER)
    await wish(store, "node-2", WORKER)
    await wish(store, "node-3", MANAGER)
    assert group.leader() is group.nodes[1]
    for number in (1, 3):  # the successor finishes what the first leader began
        running = asyncio.create_task(RoleManager(store, clock, RaftGroup(group.nodes[number])).run())
        await asyncio.sleep(0.9)
        assert group.leader() is group.nodes[3]
        running.cancel()
        await asyncio.wait([running])
    assert [member.node_id for member in group.nodes[3].members()] == ["node-3"]
    roles = {node.id: node.role for node in store.view().find(api.Node)}
    assert roles == {"node-1": WORKER, "node-2": WORKER, "node-3": MANAGER}
    for number in list(group.nodes):
        await group.stop(number)


async def test_changes_of_the_members_are_told_until_the_watch_ends(clock: VirtualClock) -> None:
    group = Group(random.Random(1))
    await group.grow(2)
    view = RaftGroup(group.leader())
    told: list[int] = []
    end = view.watch_members(lambda: told.append(len(view.members())))
    other = next(member.raft_id for member in view.members() if member.raft_id != view.raft_id)
    assert view.survives_removal(other)
    await view.remove(other)
    assert told == [1]
    end()
    await group.leader().group.add("node-9", "10.0.0.9:4242")
    assert told == [1]
    for number in list(group.nodes):
        await group.stop(number)
