"""contract/pysyncobj-hazards.md, 10: who asks whether this node leads, and what travels for it."""

import asyncio
from dataclasses import dataclass, field

import pytest

from swarmkit.raft.confirmations import Confirmations
from swarmkit.raft.lease import LEASE_FRACTION
from swarmkit.raft.messages import Append, Envelope, Message, Reply, SnapshotPart, TimeoutNow, Vote
from swarmkit.store.proposer import LeadershipLostError

BEAT = Append(0, 1, 0)


@dataclass
class State:
    """Member 1 of a group of three leads term 7."""

    leading: bool = True
    term: int = 7
    peers: frozenset[int] = frozenset({2, 3})


@dataclass
class Bench:
    state: State = field(default_factory=State)
    now: float = 10.0
    wakes: int = 0
    sent: list[Envelope] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tried = Confirmations(
            self.state,  # type: ignore[arg-type]
            self,  # type: ignore[arg-type]
            lambda: self.now,
            1.0,
            self.wake,
        )

    def wake(self) -> None:
        self.wakes += 1

    # the links
    def send(self, envelope: Envelope) -> None:
        self.sent.append(envelope)

    def say(self, message: Message, *, target: int = 2, term: int = 7) -> tuple[int, int]:
        """Send a message; return round and promise it leaves with."""
        self.tried.send(Envelope(1, target, term, message))
        return self.sent[-1].round, self.sent[-1].promise_ms

    def echo(self, number: int, source: int = 2) -> None:
        self.tried.echoed(Envelope(source, 1, 7, Reply(2), number, 1000))

    async def ask(self) -> "asyncio.Task[None]":
        task = asyncio.create_task(self.tried.wait())
        await asyncio.sleep(0)
        return task


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_what_a_leader_sends_in_its_term_carries_its_round_and_nothing_else_does(bench: Bench) -> None:
    assert bench.say(BEAT) == bench.say(SnapshotPart()) == (1, 0)
    bench.now += 0.25
    assert bench.say(BEAT) == (2, 0)
    assert bench.say(BEAT, term=6) == (0, 0)
    assert bench.say(Vote()) == (0, 0)
    bench.state.leading = False
    assert bench.say(BEAT) == (0, 0)


def test_a_reply_echoes_the_newest_round_processed_of_that_leader_and_term(bench: Bench) -> None:
    bench.state.leading = False
    assert bench.say(Reply(2)) == (0, 0)
    for number in (4, 6, 5):
        bench.tried.heard(Envelope(2, 1, 7, BEAT, number))
    assert bench.say(Reply(2)) == (6, 1000)
    assert bench.say(Reply(2), target=3) == (0, 0)
    assert bench.say(Reply(2), term=8) == (0, 0)
    assert bench.say(Vote()) == (0, 0)
    bench.tried.heard(Envelope(2, 1, 8, BEAT, 1))
    assert bench.say(Reply(2)) == (0, 0)
    assert bench.say(Reply(2), term=8) == (1, 1000)


async def test_who_waits_is_answered_by_a_round_that_began_after_the_question(bench: Bench) -> None:
    before, _ = bench.say(BEAT)
    bench.now += 5
    task = await bench.ask()
    assert bench.wakes == 1
    assert bench.tried.look()
    bench.echo(before)
    assert bench.tried.look()
    after, _ = bench.say(BEAT)
    assert after == before + 1
    assert not bench.tried.look()  # it is on its way
    bench.now += 5
    bench.echo(after)
    bench.tried.look()
    await task
    assert not bench.tried.holds


async def test_a_question_in_the_moment_after_a_round_left_needs_another_round(bench: Bench) -> None:
    first, _ = bench.say(BEAT)
    task = await bench.ask()
    bench.state.peers = frozenset({2, 3, 4, 5})
    bench.echo(first, 2)
    bench.echo(first, 3)
    bench.now += 2  # no lease is left
    bench.tried.look()
    await asyncio.sleep(0)
    assert not task.done()
    task.cancel()


async def test_many_share_a_round_and_those_who_come_later_share_the_next(bench: Bench) -> None:
    tasks = [await bench.ask() for _ in range(3)]
    assert bench.wakes == 1
    first, _ = bench.say(BEAT)
    later = [await bench.ask() for _ in range(3)]
    assert not bench.tried.look()  # not before the first is back
    bench.now += 2
    bench.echo(first)
    assert bench.tried.look()
    await asyncio.gather(*tasks)
    assert not any(task.done() for task in later)
    second, _ = bench.say(BEAT)
    assert (first, second) == (1, 2)
    bench.now += 2
    bench.echo(second)
    assert not bench.tried.look()
    await asyncio.gather(*later)


async def test_a_lost_round_is_replaced_by_the_next_heartbeat(bench: Bench) -> None:
    task = await bench.ask()
    bench.say(BEAT)
    bench.now += 2
    heartbeat, _ = bench.say(BEAT)
    bench.now += 2
    bench.echo(heartbeat)
    bench.tried.look()
    await task


async def test_a_lease_that_comes_meanwhile_answers_too(bench: Bench) -> None:
    first, _ = bench.say(BEAT)
    task = await bench.ask()
    bench.echo(first)
    bench.tried.look()
    await task
    assert bench.tried.holds
    bench.now += LEASE_FRACTION
    assert not bench.tried.holds


async def test_the_wish_to_be_succeeded_ends_the_lease_before_it_leaves(bench: Bench) -> None:
    first, _ = bench.say(BEAT)
    bench.echo(first)
    assert bench.tried.holds
    held: list[bool] = []
    bench.send = lambda envelope: held.append(bench.tried.holds)  # type: ignore[method-assign]
    bench.tried.send(Envelope(1, 2, 7, TimeoutNow()))
    assert held == [False]


async def test_who_waits_fails_when_leadership_is_over(bench: Bench) -> None:
    task = await bench.ask()
    gone = await bench.ask()
    gone.cancel()
    bench.tried.fail(LeadershipLostError)
    with pytest.raises(LeadershipLostError):
        await task
    assert not bench.tried.look()


async def test_a_member_left_alone_answers_itself(bench: Bench) -> None:
    task = await bench.ask()
    bench.state.peers = frozenset()
    assert not bench.tried.look()
    await task
