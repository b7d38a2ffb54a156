"""The role manager on a store without replication and a group without raft.

Sources: contract/raft-store-manager.md, 21; contract/security.md, 8 and cases 47 to 52.
"""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from swarmkit.api import messages as api
from swarmkit.manager.rolemanager import LOOK_SECONDS, REPEAT_SECONDS, RETRY_SECONDS, RoleManager
from swarmkit.raft.errors import MembershipError, TransferError
from swarmkit.store import LeadershipLostError, Store, Watch
from tests.fakes.group import FakeGroup
from tests.fakes.loop import VirtualClock
from tests.fakes.proposer import FakeProposer

WORKER, MANAGER = api.NodeRole.WORKER, api.NodeRole.MANAGER
BUSY = MembershipError("another change of the group is under way; try again later")


class Swarm:
    """A store with managers in a raft group of three, and the role manager of its leader, ``a``."""

    def __init__(self, *managers: str) -> None:
        self.clock = VirtualClock()
        self.store = Store(self.clock)
        self.proposer = FakeProposer(self.store)
        self.store.attach(self.proposer)
        self.group = FakeGroup(*managers)
        self.manager = RoleManager(self.store, self.clock, self.group)
        self.task: asyncio.Task[None] | None = None

    async def add(self, id: str, role: api.NodeRole.ValueType, wish: api.NodeRole.ValueType) -> None:
        made = api.Node(id=id, role=role, spec=api.NodeSpec(desired_role=wish))
        await self.store.update(lambda tx: tx.create(made))

    async def change(self, id: str, change: Callable[[api.Node], object]) -> None:
        def write(tx):  # type: ignore[no-untyped-def]
            node = api.Node()
            node.CopyFrom(tx.get(api.Node, id))
            change(node)
            tx.update(node)

        await self.store.update(write)

    async def wish(self, id: str, role: api.NodeRole.ValueType) -> None:
        await self.change(id, lambda node: setattr(node.spec, "desired_role", role))

    def role(self, id: str) -> api.NodeRole.ValueType:
        node = self.store.view().get(api.Node, id)
        assert node is not None
        return node.role

    def lead(self) -> None:
        self.task = asyncio.create_task(self.manager.run())

    async def close(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])
            if not self.task.cancelled():
                self.task.result()


@pytest.fixture
async def swarm() -> AsyncIterator[Swarm]:
    made = Swarm("a", "b", "c")
    for id in "abc":
        await made.add(id, MANAGER, MANAGER)
    await made.add("w", WORKER, WORKER)
    yield made
    await made.close()
    assert made.group.violations == []


async def test_a_promotion_is_done_at_once_and_the_group_is_left_alone(swarm: Swarm) -> None:
    swarm.lead()
    await swarm.wish("w", MANAGER)
    await asyncio.sleep(0.05)
    assert swarm.role("w") == MANAGER
    assert sorted(swarm.group.nodes.values()) == ["a", "b", "c"]


async def test_a_demoted_manager_leaves_the_group_first_and_is_a_worker_right_after(swarm: Swarm) -> None:
    swarm.group.seconds = 0.1
    swarm.lead()
    await swarm.wish("b", WORKER)
    await asyncio.sleep(0.05)
    assert (swarm.role("b"), swarm.group.member("b")) == (MANAGER, 2)
    await asyncio.sleep(0.1)
    assert (swarm.role("b"), swarm.group.removed) == (WORKER, ["b"])


async def test_what_was_wished_before_this_leader_led_is_done_at_its_start(swarm: Swarm) -> None:
    await swarm.wish("b", WORKER)
    await swarm.wish("w", MANAGER)
    await swarm.store.update(lambda tx: tx.delete(api.Node, "c"))
    swarm.lead()
    await asyncio.sleep(0.1)
    assert sorted(swarm.group.removed) == ["b", "c"]
    assert (swarm.role("b"), swarm.role("w")) == (WORKER, MANAGER)


async def test_a_deleted_node_leaves_the_group(swarm: Swarm) -> None:
    swarm.lead()
    await asyncio.sleep(0.1)
    await swarm.store.update(lambda tx: tx.delete(api.Node, "b"))
    await asyncio.sleep(0.1)
    assert swarm.group.removed == ["b"]


async def test_a_worker_that_joins_late_is_removed_when_it_appears(swarm: Swarm) -> None:
    swarm.lead()
    await asyncio.sleep(0.1)
    swarm.group.join("w")
    await asyncio.sleep(0.1)
    assert swarm.group.removed == ["w"]


async def test_a_removal_waits_until_the_group_survives_it(swarm: Swarm) -> None:
    swarm.group.reach("c", False)
    swarm.lead()
    await swarm.wish("b", WORKER)
    await asyncio.sleep(100)
    assert (swarm.group.removed, swarm.role("b")) == ([], MANAGER)
    swarm.group.reach("c", True)
    await asyncio.sleep(LOOK_SECONDS + 0.1)
    assert (swarm.group.removed, swarm.role("b")) == (["b"], WORKER)


async def test_the_dead_member_of_three_can_go_and_then_one_more(swarm: Swarm) -> None:
    swarm.group.reach("c", False)
    await swarm.wish("b", WORKER)
    await swarm.wish("c", WORKER)
    swarm.lead()
    await asyncio.sleep(0.1)
    assert swarm.group.removed == ["c", "b"]


async def test_the_last_member_stays(swarm: Swarm) -> None:
    for id in "abc":
        await swarm.wish(id, WORKER)
    swarm.lead()
    await asyncio.sleep(60)
    assert list(swarm.group.nodes.values()) == ["a"]
    assert (swarm.role("a"), swarm.group.handovers) == (MANAGER, 0)


async def test_why_a_removal_waits_is_logged_once_a_minute(
    swarm: Swarm, caplog: pytest.LogCaptureFixture
) -> None:
    swarm.group.reach("c", False)
    await swarm.wish("b", WORKER)
    swarm.lead()
    await asyncio.sleep(2 * REPEAT_SECONDS + RETRY_SECONDS)
    told = [record for record in caplog.records if "stays in the raft group" in record.getMessage()]
    assert len(told) == 3


async def test_the_leader_hands_over_and_leaves_the_rest_to_its_successor(swarm: Swarm) -> None:
    await swarm.wish("a", WORKER)
    swarm.group.on_moved = lambda: swarm.task is not None and swarm.task.cancel()  # type: ignore[assignment]
    swarm.lead()
    await asyncio.sleep(0.1)
    assert (swarm.group.leader, swarm.group.removed, swarm.role("a")) == (2, [], MANAGER)
    swarm.lead()
    await asyncio.sleep(0.1)
    assert (swarm.group.removed, swarm.role("a")) == (["a"], WORKER)


async def test_a_leader_that_cannot_hand_over_tries_again_and_never_removes_itself(swarm: Swarm) -> None:
    swarm.group.failures = [TransferError("member 2 did not catch up with the log in time")]
    await swarm.wish("a", WORKER)
    swarm.lead()
    await asyncio.sleep(1)
    swarm.group.reach("c", False)
    await asyncio.sleep(1)
    swarm.group.reach("c", True)  # no reason to hold up all proposals once more
    await asyncio.sleep(RETRY_SECONDS - 2.1)
    assert (swarm.group.handovers, swarm.group.leader) == (1, 1)
    await asyncio.sleep(LOOK_SECONDS + 0.2)
    assert (swarm.group.handovers, swarm.group.leader, swarm.group.removed) == (2, 2, [])


async def test_a_removal_that_failed_is_tried_again_after_a_while(swarm: Swarm) -> None:
    swarm.group.failures = [BUSY, BUSY]
    await swarm.wish("b", WORKER)
    swarm.lead()
    await asyncio.sleep(RETRY_SECONDS)
    assert swarm.group.removed == []
    await asyncio.sleep(RETRY_SECONDS + 2 * LOOK_SECONDS)
    assert (swarm.group.removed, swarm.role("b")) == (["b"], WORKER)


async def test_a_removal_that_failed_is_tried_again_as_soon_as_the_group_changes(swarm: Swarm) -> None:
    swarm.group.failures = [BUSY]
    await swarm.add("d", MANAGER, MANAGER)
    await swarm.wish("b", WORKER)
    swarm.lead()
    await asyncio.sleep(0.1)
    assert swarm.group.removed == []
    swarm.group.join("d")
    await asyncio.sleep(0.1)
    assert swarm.group.removed == ["b"]


async def test_a_removal_nobody_decides_is_given_up_and_holds_up_the_others_for_so_long_only(
    swarm: Swarm,
) -> None:
    swarm.group.hang = True
    await swarm.wish("b", WORKER)
    swarm.lead()
    await asyncio.sleep(0.1)
    swarm.group.hang = False
    await swarm.wish("w", MANAGER)
    await asyncio.sleep(4.5)
    assert swarm.role("w") == WORKER
    await asyncio.sleep(1)
    assert (swarm.role("w"), swarm.group.removed) == (MANAGER, [])
    await asyncio.sleep(RETRY_SECONDS)
    assert swarm.group.removed == ["b"]


async def test_a_wish_that_is_taken_back_while_it_waits_is_forgotten(swarm: Swarm) -> None:
    swarm.group.reach("c", False)
    await swarm.wish("b", WORKER)
    swarm.lead()
    await asyncio.sleep(1)
    await swarm.wish("b", MANAGER)
    swarm.group.reach("c", True)
    await asyncio.sleep(60)
    assert (swarm.group.removed, swarm.role("b")) == ([], MANAGER)


async def test_a_role_is_not_written_over_a_wish_that_has_changed_meanwhile(swarm: Swarm) -> None:
    await swarm.wish("w", MANAGER)
    with swarm.store.watch(Watch(api.Node, where=lambda node: node.role == MANAGER)) as promoted:
        # Executed before the role manager's transaction, and not yet committed when that is decided on.
        back = asyncio.create_task(swarm.wish("w", WORKER))
        swarm.lead()
        await asyncio.sleep(0.1)
        assert len(promoted) == 0
    await back
    assert swarm.role("w") == WORKER


async def test_losing_the_leadership_ends_it_quietly_and_it_can_run_again(swarm: Swarm) -> None:
    swarm.group.failures = [LeadershipLostError()]
    await swarm.wish("b", WORKER)
    await asyncio.wait_for(swarm.manager.run(), 5)
    assert swarm.group.watchers == 0
    swarm.lead()
    await asyncio.sleep(0.1)
    assert (swarm.group.removed, swarm.group.watchers) == (["b"], 1)


async def test_it_ends_when_the_store_closes(swarm: Swarm) -> None:
    swarm.lead()
    await asyncio.sleep(0.1)
    swarm.store.close()
    assert swarm.task is not None
    await asyncio.wait_for(swarm.task, 5)


async def test_changes_of_anything_but_roles_cause_no_look(swarm: Swarm) -> None:
    swarm.lead()
    await asyncio.sleep(0.1)
    looks = swarm.group.looks
    await swarm.change("w", lambda node: setattr(node.status, "message", "heartbeat failure"))
    await asyncio.sleep(60)
    assert swarm.group.looks == looks
    await swarm.wish("b", WORKER)
    await asyncio.sleep(0.1)
    assert swarm.group.looks > looks
