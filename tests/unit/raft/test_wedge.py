"""contract/raft-store-manager.md, 4: a leader that decides nothing for 30 s makes room for another."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from swarmkit.aio import cancel_and_wait
from swarmkit.raft.errors import TransferError
from swarmkit.raft.wedge import HANDOVER_SECONDS, LIMIT_SECONDS, REST_SECONDS, WedgeGuard
from tests.fakes.loop import VirtualClock


class Leader:
    """A leader whose proposals stay as long as the test lets them."""

    def __init__(self) -> None:
        self.oldest: tuple[int, float] | None = None
        self.handed_over: list[float] = []
        self.outcome: int | Exception | None = 7
        self.guard = WedgeGuard(lambda: self.oldest, lambda: {"term": 3}, self.hand_over, VirtualClock())

    async def hand_over(self) -> int:
        self.handed_over.append(now())
        if self.outcome is None:
            await asyncio.Event().wait()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        assert self.outcome is not None
        return self.outcome

    def wait_for(self, index: int) -> None:
        self.oldest = (index, now())
        self.guard.stir()


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.fixture
async def leader() -> AsyncIterator[Leader]:
    leader = Leader()
    task = asyncio.create_task(leader.guard.run())
    yield leader
    await cancel_and_wait(task)


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, Any]]]:
    found = [record for record in caplog.records if record.levelno == logging.WARNING]
    return [(record.getMessage(), record.fields) for record in found]  # type: ignore[attr-defined]


async def test_a_proposal_undecided_for_thirty_seconds_moves_the_leadership(
    leader: Leader, caplog: pytest.LogCaptureFixture
) -> None:
    await asyncio.sleep(100)
    leader.wait_for(12)
    await asyncio.sleep(LIMIT_SECONDS - 0.01)
    assert leader.handed_over == []
    await asyncio.sleep(0.02)
    assert leader.handed_over == [pytest.approx(100 + LIMIT_SECONDS)]
    (first, fields), (second, done) = lines(caplog)
    assert first.startswith("a proposal is undecided for too long")
    assert fields == {"index": 12, "seconds": "30.0", "term": 3}
    assert (second, done) == ("the leadership was handed over", {"leader": "7"})


async def test_a_leader_that_decides_keeps_its_office(leader: Leader) -> None:
    for index in range(100):
        leader.wait_for(index)  # each is decided before the next becomes too old
        await asyncio.sleep(LIMIT_SECONDS - 1)
    leader.oldest = None
    await asyncio.sleep(1000)
    assert leader.handed_over == []


async def test_the_next_proposal_counts_from_its_own_beginning(leader: Leader) -> None:
    leader.wait_for(1)
    await asyncio.sleep(20)
    leader.oldest = (2, now())  # it was behind the first
    await asyncio.sleep(LIMIT_SECONDS - 1)
    assert leader.handed_over == []
    await asyncio.sleep(2)
    assert leader.handed_over == [pytest.approx(20 + LIMIT_SECONDS)]


@pytest.mark.parametrize("outcome", [TransferError("no other manager is connected"), None, 7])
async def test_it_reacts_once_a_minute_whatever_comes_of_it(
    leader: Leader, caplog: pytest.LogCaptureFixture, outcome: int | Exception | None
) -> None:
    leader.outcome = outcome
    leader.wait_for(1)
    await asyncio.sleep(LIMIT_SECONDS + 3 * REST_SECONDS - 1)
    begins = [LIMIT_SECONDS + turn * REST_SECONDS for turn in range(3)]
    assert leader.handed_over == [pytest.approx(begin, abs=0.1) for begin in begins]
    leader.oldest = None
    await asyncio.sleep(1000)
    assert len(leader.handed_over) == 3


async def test_it_says_so_when_nobody_can_take_over(leader: Leader, caplog: pytest.LogCaptureFixture) -> None:
    leader.outcome = TransferError("no other manager is connected that could take over the leadership")
    leader.wait_for(1)
    await asyncio.sleep(LIMIT_SECONDS + 1)
    message, fields = lines(caplog)[1]
    assert message == "the leadership was not handed over"
    assert "no other manager is connected" in str(fields["error"])


async def test_it_says_so_when_the_node_does_not_get_to_it(
    leader: Leader, caplog: pytest.LogCaptureFixture
) -> None:
    leader.outcome = None
    leader.wait_for(1)
    await asyncio.sleep(LIMIT_SECONDS + HANDOVER_SECONDS + 1)
    assert "is its disk stuck" in lines(caplog)[1][0]
