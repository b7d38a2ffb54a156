"""What the simulation itself must not hide: a story that went wrong fails, and says with which seed."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from swarmkit.raft import WriteFailedError
from tests.fakes.raft import TestNode
from tests.sim.raft_checker import SafetyError
from tests.sim.raft_machines import STATE, Member
from tests.sim.raft_world import World, in_world, simulate


def _break_stop(node: TestNode) -> None:
    stop = node.stop

    async def stop_and_fail(erase: bool = False) -> None:
        await stop(erase)
        raise WriteFailedError("the log cannot be closed", STATE)

    node.stop = stop_and_fail  # type: ignore[method-assign]


async def _kill(world: World, member: Member) -> None:
    world.kill(member)


async def _remove(world: World, member: Member) -> None:
    assert member.node is not None
    await (await world.elected()).group.remove(member.node.raft_id)
    await world.until(lambda: member.node is None)


@pytest.mark.parametrize("end", [_kill, _remove])
@pytest.mark.parametrize("heals", [False, True])
def test_a_member_that_fails_while_it_stops_fails_the_story(
    end: Callable[[World, Member], Awaitable[None]], heals: bool
) -> None:
    async def story(world: World) -> None:
        await world.found(3)
        await world.elected()
        follower = world.followers()[0]
        member = world.member_of(follower)
        _break_stop(follower)
        await end(world, member)
        if heals:
            await world.heal()
            pytest.fail("healing passes over it")

    with pytest.raises(RuntimeError, match=r"the log cannot be closed(.|\n)*seed 7; the schedule:"):
        simulate(7, story)


@in_world()
async def test_a_removed_member_that_cannot_store_its_keys_keeps_them_and_says_so(world: World) -> None:
    leader = await world.elected()
    member = world.member_of(world.followers()[0])
    member.keys.broken = True
    await _remove(world, member)
    await world.buried()
    assert member.keys.stored.data_key
    assert "keeps its data key" in world.schedule[-1]
    assert len(leader.members()) == 2


def test_what_a_story_fails_with_is_not_hidden_by_what_fails_while_it_is_closed() -> None:
    async def story(world: World) -> None:
        await world.found(1)
        _break_stop(await world.elected())
        raise SafetyError("an entry is lost")

    with pytest.raises(SafetyError, match=r"an entry is lost(.|\n)*then closing failed.*cannot be closed"):
        simulate(7, story)


def test_a_story_that_fails_while_a_member_stands_still_comes_to_an_end() -> None:
    async def story(world: World) -> None:
        await world.found(3)
        world.member_of(await world.elected()).gate.clear()
        await asyncio.sleep(1)
        raise SafetyError("an entry is lost")

    with pytest.raises(SafetyError, match="an entry is lost"):
        simulate(7, story)


def test_what_fails_beside_a_story_fails_it() -> None:
    async def fail() -> None:
        raise SafetyError("a read is stale")

    async def story(world: World) -> None:
        await world.found(1)
        world.background(fail())
        await asyncio.sleep(0)

    with pytest.raises(SafetyError, match=r"a read is stale(.|\n)*seed 7"):
        simulate(7, story)
