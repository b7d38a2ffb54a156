"""contract/pysyncobj-hazards.md, 10; contract/raft-store-manager.md, 21: handing the leadership over."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from swarmkit.raft.errors import TransferError
from swarmkit.raft.handover import Handover
from swarmkit.raft.messages import Message, TimeoutNow
from swarmkit.raft.quorum import Heir
from swarmkit.store.proposer import LeadershipLostError

PATIENCE = 2.0


@dataclass
class Office:
    """The leadership of member 1; members 2 and 3 are connected."""

    leading: bool = True
    leader: int | None = 1
    complete: set[int] = field(default_factory=set)
    known: list[Heir] = field(default_factory=lambda: [Heir(2, 10, 0.0), Heir(3, 12, 0.0)])
    sent: list[tuple[int, Message]] = field(default_factory=list)

    def heirs(self) -> list[Heir]:
        return self.known

    def has_everything(self, peer: int) -> bool:
        return peer in self.complete

    @property
    def post(self) -> Callable[[int, Message], None]:
        return lambda peer, message: self.sent.append((peer, message))


class Bench:
    def __init__(self) -> None:
        self.office = Office()
        self.now = 0.0
        self.handover = Handover(self.office, lambda: self.now, PATIENCE, lambda: None)

    async def begin(self, heir: int | None = None) -> "asyncio.Task[int]":
        task = asyncio.create_task(self.handover.run(heir))
        await asyncio.sleep(0)
        return task


async def test_the_heir_is_asked_once_it_has_everything_and_only_once() -> None:
    bench = Bench()
    task = await bench.begin()
    assert bench.handover.holds_proposals
    bench.handover.look()
    assert bench.office.sent == []
    bench.office.complete = {2, 3}
    bench.handover.look()
    bench.handover.look()
    assert bench.office.sent == [(3, TimeoutNow())]
    assert not task.done()

    bench.office.leading, bench.office.leader = False, None
    bench.handover.look()
    assert not task.done()  # nobody leads yet
    bench.office.leader = 3
    bench.handover.look()
    assert await task == 3
    assert bench.handover.deadline is None
    assert not bench.handover.holds_proposals


async def test_each_step_has_its_own_deadline() -> None:
    bench = Bench()
    task = await bench.begin(2)
    bench.now = 1.9
    bench.office.complete = {2}
    bench.handover.look()
    bench.now = 3.8
    bench.handover.look()
    assert not task.done()
    bench.now = 4.0
    bench.handover.look()
    with pytest.raises(TransferError, match="member 2 did not campaign successfully in time"):
        await task
    assert bench.handover.deadline is None

    late = await bench.begin(3)
    bench.now = 6.1
    bench.handover.look()
    with pytest.raises(TransferError, match="member 3 did not catch up with the log in time"):
        await late


async def test_who_does_not_lead_has_nothing_to_hand_over() -> None:
    bench = Bench()
    bench.office.leading = False
    with pytest.raises(LeadershipLostError):
        await bench.handover.run()


async def test_only_who_is_connected_can_take_over() -> None:
    bench = Bench()
    with pytest.raises(TransferError, match="member 9 cannot take over the leadership: it is not connected"):
        await bench.handover.run(9)
    bench.office.known = []
    with pytest.raises(TransferError, match="no other manager is connected"):
        await bench.handover.run()


async def test_there_is_one_handover_at_a_time_and_stopping_ends_it() -> None:
    bench = Bench()
    task = await bench.begin()
    with pytest.raises(TransferError, match="already"):
        await bench.handover.run()
    bench.handover.abandon()
    with pytest.raises(TransferError, match="stopping"):
        await task
    bench.handover.abandon()
    bench.handover.look()


async def test_a_caller_that_goes_away_ends_the_handover() -> None:
    bench = Bench()
    task = await bench.begin()
    task.cancel()
    await asyncio.wait([task])
    assert not bench.handover.holds_proposals
    assert bench.handover.deadline is None
