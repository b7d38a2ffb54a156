"""A manager's place in the group: asked for, remembered, kept known (contract/raft-store-manager.md, 10)."""

import asyncio
from pathlib import Path

import pytest

from swarmkit.ca.errors import StateDirError
from swarmkit.manager.joining import JoinError, JoinRefusedError, JoinUnavailableError
from swarmkit.manager.place import ADDRESS_PAUSE_SECONDS, PATIENCE_SECONDS, Place, RaftIdFile
from swarmkit.net.remotes import Remote
from swarmkit.raft.node import JoinReply
from tests.fakes.leaders import FakeLeaders
from tests.fakes.loop import VirtualClock

FIRST, SECOND = Remote("a", "10.0.0.1:4242"), Remote("b", "10.0.0.2:4242")
REPLY = JoinReply(7, [])


class Setting:
    def __init__(self, folder: Path, clock: VirtualClock) -> None:
        self.clock = clock
        self.contacts: list[Remote] = [FIRST, SECOND]
        self.record = RaftIdFile(folder)
        self.asked: list[tuple[float, Remote, str, int]] = []
        self.answers: dict[Remote, JoinError] = {}
        self.place = Place(self.ask, lambda: self.contacts, self.record, clock)
        self.place.own_address = "0.0.0.0:4242"
        self.leaders = FakeLeaders()

    async def ask(self, remote: Remote, own_address: str, lost: int) -> JoinReply:
        self.asked.append((self.clock.monotonic(), remote, own_address, lost))
        if remote in self.answers:
            raise self.answers[remote]
        return REPLY


@pytest.fixture
def setting(tmp_path: Path, clock: VirtualClock) -> Setting:
    return Setting(tmp_path, clock)


async def test_the_first_manager_that_answers_decides(setting: Setting) -> None:
    assert await setting.place.join() is REPLY
    assert setting.asked == [(0.0, FIRST, "0.0.0.0:4242", 0)]


async def test_another_manager_is_asked_when_one_cannot_say(setting: Setting) -> None:
    setting.answers[FIRST] = JoinUnavailableError("nobody listens there")
    assert await setting.place.join() is REPLY
    assert [remote for _, remote, _, _ in setting.asked] == [FIRST, SECOND]


async def test_a_refusal_is_final(setting: Setting) -> None:
    setting.answers[FIRST] = JoinRefusedError("the address belongs to another manager")
    with pytest.raises(JoinRefusedError):
        await setting.place.join()
    assert len(setting.asked) == 1


async def test_a_swarm_without_a_leader_is_asked_for_a_while(setting: Setting) -> None:
    setting.answers = {remote: JoinUnavailableError("no leader") for remote in (FIRST, SECOND)}
    with pytest.raises(JoinUnavailableError, match="no leader"):
        await setting.place.join()
    assert setting.clock.monotonic() == pytest.approx(PATIENCE_SECONDS, abs=1)


async def test_who_knows_no_manager_says_so(setting: Setting) -> None:
    setting.contacts = []
    with pytest.raises(JoinUnavailableError, match="no other manager of the swarm is known"):
        await setting.place.join()


async def test_a_node_that_has_had_a_log_says_whose_is_lost(setting: Setting) -> None:
    setting.record.write(0x29CA)
    await setting.place.join()
    assert setting.asked[0][3] == 0x29CA


async def test_the_raft_id_is_remembered_once_there_is_a_log_and_forgotten_with_it(setting: Setting) -> None:
    await setting.place.remember(0x29CA)
    assert setting.record.read() == 0x29CA
    await setting.place.forget()
    assert setting.record.read() == 0


async def test_a_leader_asks_nobody_about_its_address(setting: Setting) -> None:
    setting.leaders.leading = True
    await setting.place.keep_known(setting.leaders)
    assert setting.asked == []


async def test_a_follower_tells_the_leader_its_address_as_soon_as_there_is_one(setting: Setting) -> None:
    keeping = asyncio.create_task(setting.place.keep_known(setting.leaders))
    await asyncio.sleep(3)
    assert setting.asked == []
    setting.leaders.set(SECOND)
    await keeping
    assert setting.asked == [(3.0, SECOND, "0.0.0.0:4242", 0)]


async def test_an_address_that_could_not_be_told_is_told_later(setting: Setting) -> None:
    setting.leaders.leader = SECOND
    setting.answers[SECOND] = JoinUnavailableError("gone")
    keeping = asyncio.create_task(setting.place.keep_known(setting.leaders))
    await asyncio.sleep(ADDRESS_PAUSE_SECONDS * 2.5)
    assert len(setting.asked) == 3
    setting.leaders.set(FIRST)
    await keeping
    assert setting.asked[-1][1] == FIRST


async def test_an_address_that_is_refused_is_not_told_again(setting: Setting) -> None:
    setting.leaders.leader = SECOND
    setting.answers[SECOND] = JoinRefusedError("belongs to another")
    await setting.place.keep_known(setting.leaders)
    assert len(setting.asked) == 1


def test_a_damaged_record_is_not_taken_for_none(setting: Setting, tmp_path: Path) -> None:
    (tmp_path / "raft-id").write_text("nonsense")
    with pytest.raises(StateDirError, match=r"raft-id is damaged: remove it if"):
        setting.record.read()


async def test_who_has_just_joined_has_told_its_address(setting: Setting) -> None:
    await setting.place.join()
    setting.leaders.leader = SECOND
    await setting.place.keep_known(setting.leaders)
    assert len(setting.asked) == 1
