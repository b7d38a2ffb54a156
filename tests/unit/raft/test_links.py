"""The carrier over pipes in memory (contract/raft-store-manager.md, 9, 13; pysyncobj-hazards.md, 6)."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc
import pytest

from swarmkit.api import messages as api
from swarmkit.raft.hello import MAX_STRANGERS
from swarmkit.raft.messages import Append, Envelope, PreVote
from swarmkit.raft.outbox import MAX_MESSAGES
from swarmkit.raft.records import Entry
from swarmkit.raft.service_pb2 import Hello, RaftFrame
from swarmkit.raft.transport import LinkChange, Received
from tests.fakes.pipes import Carrier, End, Wire, member, node_id

LOW, HIGH, OTHER = 1, 2, 3


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    wire = Wire()
    yield wire
    await wire.close()


def pair(wire: Wire, seed: int = 1) -> tuple[Carrier, Carrier]:
    rng = random.Random(seed)
    low, high = Carrier(wire, LOW, rng), Carrier(wire, HIGH, rng)
    for carrier in (low, high):
        carrier.knows([member(LOW), member(HIGH)])
    return low, high


def connected(low: Carrier, high: Carrier) -> bool:
    return low.mailbox.is_connected(high.raft_id) and high.mailbox.is_connected(low.raft_id)


async def talk(low: Carrier, high: Carrier) -> None:
    """Both directions carry a message: both ends mean the same stream."""
    low.heard()
    high.heard()
    low.say(high.raft_id, 7)
    high.say(low.raft_id, 8)
    await asyncio.sleep(0.05)
    assert (low.heard(), high.heard()) == ([8], [7])


async def refused(wire: Wire, raft_id: int, hello: Hello, name: str) -> grpc.StatusCode:
    await asyncio.sleep(0.1)
    end = wire.open(hello.source, raft_id, name)
    await end.write(RaftFrame(hello=hello))
    await asyncio.sleep(0.05)
    await end.close()
    await asyncio.sleep(0.05)
    return wire.refusals[-1].code


async def test_members_that_know_each_other_connect_and_messages_arrive_in_order(wire: Wire) -> None:
    low, high = pair(wire)
    await asyncio.sleep(0.1)
    assert connected(low, high)
    for number in range(3000):
        low.say(HIGH, number)
    await asyncio.sleep(0.1)
    assert high.heard() == list(range(3000))


@pytest.mark.parametrize("dead", [(LOW, HIGH), (HIGH, LOW)])
async def test_one_direction_in_which_dialling_works_is_enough(wire: Wire, dead: tuple[int, int]) -> None:
    wire.unreachable.add(dead)
    low, high = pair(wire)
    await asyncio.sleep(0.1)
    assert connected(low, high)
    dials = len(wire.dials)
    await asyncio.sleep(30)
    assert connected(low, high)
    assert len(wire.dials) == dials  # who cannot dial does not try while there is a stream
    await talk(low, high)


@dataclass(frozen=True)
class Trouble:
    """What happens while two members open a stream.

    Attributes:
        step: before which arrival.
        cut: which of the two pipes breaks then, or None.
        pause: seconds that nothing arrives.
    """

    step: int = -1
    cut: int | None = None
    pause: float = 0.0


async def explore(choices: list[int], trouble: Trouble) -> tuple[list[int], list[int]]:
    """Run one order of arrivals, given by which frame arrives at each step; the oldest by default.

    Both dial at the same moment. Once the opening has come to an end, frames flow freely.

    Returns:
        How many choices there were at each step; and how many streams each of the two has taken by the time
        that all frames of the opening have arrived, none if they are not connected then.
    """
    wire = Wire(held=True)
    low, high = pair(wire, seed=len(choices))
    widths: list[int] = []
    for step in range(14):
        for _ in range(20):  # everything that is not the arrival of a frame happens in between
            await asyncio.sleep(0)
        if step == trouble.step:
            await asyncio.sleep(trouble.pause)
            if trouble.cut is not None:
                wire.cut(wire.pipes[trouble.cut])
                continue
        ends = wire.choices()
        if not ends:
            break
        widths.append(len(ends))
        wire.step(ends[choices[len(widths) - 1] if len(widths) <= len(choices) else 0])
    wire.held = False
    for end in wire.choices():
        while wire.lanes[end]:
            wire.step(end)
    await asyncio.sleep(0.01)
    at_once = [low.mailbox.streams, high.mailbox.streams] if connected(low, high) else []
    await asyncio.sleep(5)
    assert connected(low, high)
    await talk(low, high)
    assert streams() == 2
    dials = len(wire.dials)
    await asyncio.sleep(10)
    assert len(wire.dials) == dials
    await wire.close()
    return widths, at_once


def streams() -> int:
    """How many ends of streams are open."""
    return sum(task.get_name() == "raft-stream:send" for task in asyncio.all_tasks())


async def explore_all(trouble: Trouble) -> list[list[int]]:
    """Run all orders; tell of each what ``explore`` tells."""
    waiting: list[list[int]] = [[]]
    results: list[list[int]] = []
    while waiting:
        choices = waiting.pop()
        widths, at_once = await explore(choices, trouble)
        results.append(at_once)
        for step in range(len(choices), len(widths)):
            zeros = [0] * (step - len(choices))
            waiting.extend([*choices, *zeros, other] for other in range(1, widths[step]))
    return results


async def test_two_that_dial_at_once_agree_on_one_stream_in_every_order_of_arrival() -> None:
    results = await explore_all(Trouble())
    assert len(results) > 15
    # At once, not by trying again; and the first stream that is taken is the one.
    assert all(taken == [1, 1] for taken in results)


@pytest.mark.slow
async def test_they_agree_at_once_as_well_if_a_frame_arrives_after_its_stream_was_taken_for_lost() -> None:
    results = [taken for step in range(9) for taken in await explore_all(Trouble(step, pause=0.7))]
    assert len(results) > 100
    assert all(results)
    assert max(map(max, results)) == 2  # one stream took the place of another


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 1])
async def test_they_agree_as_well_if_a_stream_breaks_at_any_moment_of_the_opening(which: int) -> None:
    assert sum([len(await explore_all(Trouble(step, cut=which))) for step in range(9)]) > 100


async def test_a_peer_that_restarts_replaces_its_stream_before_the_old_one_is_seen_to_end(wire: Wire) -> None:
    pair(wire)
    for restarting, staying in ((LOW, HIGH), (HIGH, LOW)):
        await asyncio.sleep(1)
        wire.deaf.add((restarting, staying))  # the end of the former process is never heard
        await wire.carriers.pop(restarting).links.close()
        wire.deaf.clear()
        again, other = Carrier(wire, restarting, random.Random(5)), wire.carriers[staying]
        assert other.mailbox.is_connected(restarting)
        again.knows([member(LOW), member(HIGH)])
        await asyncio.sleep(0.1)
        assert connected(again, other)
        assert streams() == 2
        await talk(again, other)


async def test_messages_of_a_replaced_stream_are_dropped_those_in_the_inbox_too(wire: Wire) -> None:
    low, high = pair(wire)
    await asyncio.sleep(1)
    low.say(HIGH, 1)
    await asyncio.sleep(0.1)
    end = wire.open(LOW, HIGH, node_id(LOW))
    await end.write(RaftFrame(hello=Hello(source=LOW, target=HIGH)))
    await asyncio.sleep(0.1)
    assert high.heard() == []


async def test_a_silent_peer_is_disconnected_after_the_send_time_out_and_not_before(wire: Wire) -> None:
    low, high = pair(wire)
    await asyncio.sleep(20)
    assert connected(low, high)  # pings alone keep it
    wire.deaf = {(LOW, HIGH), (HIGH, LOW)}
    wire.unreachable = {(LOW, HIGH), (HIGH, LOW)}
    await asyncio.sleep(1.4)
    assert connected(low, high)
    await asyncio.sleep(1.2)
    assert not low.mailbox.is_connected(HIGH)
    assert not high.mailbox.is_connected(LOW)
    wire.deaf.clear()
    wire.unreachable.clear()
    await asyncio.sleep(4.1)  # a dial that gets no answer, and the longest pause
    assert connected(low, high)


async def test_a_message_leaves_in_the_moment_it_is_sent_and_is_there_when_it_has_come(wire: Wire) -> None:
    low, high = pair(wire)
    await asyncio.sleep(0.1)
    high.heard()
    low.say(HIGH, 1)
    assert high.heard() == [1]


async def test_what_finds_no_room_waits_and_nothing_overtakes_it(wire: Wire) -> None:
    low, high = pair(wire)
    await asyncio.sleep(0.1)
    high.heard()
    low.say(HIGH, 1)
    wire.full.add((LOW, HIGH))
    low.say(HIGH, 2)
    await asyncio.sleep(0.1)
    low.say(HIGH, 3)
    assert high.heard() == [1, 2]  # of what waited, one frame is taken: the pipe is full then
    wire.drain()
    low.say(HIGH, 4)
    await asyncio.sleep(0.1)
    assert high.heard() == [3, 4]


async def test_a_small_message_does_not_overtake_a_large_one(wire: Wire) -> None:
    low, high = pair(wire)
    await asyncio.sleep(0.1)
    high.mailbox.take_inbox()
    low.links.send(Envelope(LOW, HIGH, 1, Append(0, 0, 0, [Entry(bytes(100_000), 1, 1)])))
    low.say(HIGH, 2)
    await asyncio.sleep(0.1)
    kinds = [type(item.envelope.message) for item in high.mailbox.take_inbox() if isinstance(item, Received)]
    assert kinds == [Append, PreVote]


async def test_a_frame_out_of_turn_ends_the_stream_and_what_follows_it_is_not_heard(wire: Wire) -> None:
    low, high = pair(wire)
    await asyncio.sleep(0.1)
    streams = high.mailbox.streams
    high.heard()
    low.end_of(HIGH).write_now(RaftFrame(hello=Hello(source=LOW, target=HIGH)))
    low.say(HIGH, 1)
    assert high.heard() == []
    await asyncio.sleep(5)
    assert high.mailbox.streams == streams + 1
    await talk(low, high)


async def test_an_overflow_drops_what_waits_and_ends_the_stream(wire: Wire) -> None:
    low, high = pair(wire)
    await asyncio.sleep(0.1)
    wire.full.add((LOW, HIGH))
    for number in range(MAX_MESSAGES + 1):
        low.say(HIGH, number)
    wire.drain()
    await asyncio.sleep(0)
    await asyncio.sleep(1)
    assert high.heard() == []
    assert connected(low, high)
    await talk(low, high)


async def test_a_peer_that_takes_nothing_is_congested_well_before_that(wire: Wire) -> None:
    low, _ = pair(wire)
    await asyncio.sleep(0.1)
    assert not low.links.is_congested(HIGH)
    append = Append(0, 0, 0, [Entry(bytes(100_000), 1, 1)])
    for _ in range(12):
        low.links.send(Envelope(LOW, HIGH, 1, append))
    assert low.links.is_congested(HIGH)
    await asyncio.sleep(0.1)
    assert not low.links.is_congested(HIGH)
    assert low.mailbox.is_connected(HIGH)


async def test_what_goes_to_somebody_without_a_stream_is_dropped(wire: Wire) -> None:
    low = Carrier(wire, LOW, random.Random(1))
    low.say(HIGH, 1)
    assert not low.links.is_congested(HIGH)
    high = Carrier(wire, HIGH, random.Random(1))
    high.knows([member(LOW), member(HIGH)])
    await asyncio.sleep(0.1)
    assert high.heard() == []


async def test_an_unknown_manager_is_let_in_and_answered_but_not_dialled(wire: Wire) -> None:
    low, stranger = Carrier(wire, LOW, random.Random(1)), Carrier(wire, OTHER, random.Random(1))
    low.knows([member(LOW)])
    stranger.knows([member(LOW), member(OTHER)])
    await asyncio.sleep(0.1)
    await talk(low, stranger)
    await stranger.links.close()
    await asyncio.sleep(5)
    assert (LOW, OTHER) not in wire.dials


async def test_a_removed_member_keeps_its_stream_for_the_answer_and_is_not_dialled_again(wire: Wire) -> None:
    low, high = pair(wire)
    await asyncio.sleep(0.1)
    low.knows([member(LOW)], [HIGH])
    await asyncio.sleep(1)
    await talk(low, high)
    wire.dials.clear()
    wire.deaf = {(LOW, HIGH), (HIGH, LOW)}
    await asyncio.sleep(3)
    wire.deaf.clear()
    await asyncio.sleep(5)
    assert (LOW, HIGH) not in wire.dials
    await talk(low, high)  # it dialled by itself, and is answered again


async def test_a_member_that_moved_is_dialled_at_its_new_address_at_once(wire: Wire) -> None:
    low = Carrier(wire, LOW, random.Random(1))
    low.knows([member(LOW), member(HIGH, addr="99")])
    await asyncio.sleep(60)  # pauses are long by now
    high = Carrier(wire, HIGH, random.Random(1))
    low.knows([member(LOW), member(HIGH)])
    await asyncio.sleep(0.01 + 2)  # the dial under way has to end first
    assert connected(low, high)
    low.knows([member(LOW), member(HIGH, addr="99")])
    await asyncio.sleep(0.1)
    assert not low.mailbox.is_connected(HIGH)


async def test_a_call_meant_for_another_member_is_refused(wire: Wire) -> None:
    pair(wire)
    hello = Hello(source=OTHER, target=77)
    assert await refused(wire, LOW, hello, node_id(OTHER)) is grpc.StatusCode.FAILED_PRECONDITION
    assert "this is member 1 and not 4d" in wire.refusals[-1].text


async def test_a_raft_id_belongs_to_the_node_of_its_certificate(wire: Wire) -> None:
    pair(wire)
    hello = Hello(source=HIGH, target=LOW)
    assert await refused(wire, LOW, hello, node_id(OTHER)) is grpc.StatusCode.PERMISSION_DENIED
    assert await refused(wire, LOW, Hello(target=LOW), node_id(OTHER)) is grpc.StatusCode.INVALID_ARGUMENT
    hello = Hello(source=LOW, target=LOW)
    assert await refused(wire, LOW, hello, node_id(LOW)) is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_stream_whose_raft_id_turns_out_to_be_another_nodes_ends(wire: Wire) -> None:
    low, stranger = Carrier(wire, LOW, random.Random(1)), Carrier(wire, OTHER, random.Random(1))
    stranger.knows([member(LOW), member(OTHER)])
    await asyncio.sleep(0.1)
    assert low.mailbox.is_connected(OTHER)
    low.knows([member(LOW), api.RaftMember(raft_id=OTHER, node_id="node-x", addr="99")])
    await asyncio.sleep(1)
    assert not low.mailbox.is_connected(OTHER)


async def test_managers_that_are_no_members_are_let_in_up_to_a_bound(wire: Wire) -> None:
    high = Carrier(wire, 1 << 60, random.Random(1))
    ends = []
    for source in range(1, MAX_STRANGERS + 1):
        ends.append(wire.open(source, high.raft_id, node_id(source)))
        await ends[-1].write(RaftFrame(hello=Hello(source=source, target=high.raft_id)))
    await asyncio.sleep(0.1)
    hello = Hello(source=500, target=high.raft_id)
    assert await refused(wire, high.raft_id, hello, node_id(500)) is grpc.StatusCode.RESOURCE_EXHAUSTED
    await ends[0].close()
    await asyncio.sleep(0.1)
    carrier = Carrier(wire, 500, random.Random(1))
    carrier.knows([member(high.raft_id)])
    await asyncio.sleep(0.1)
    assert connected(carrier, high)


@pytest.mark.parametrize("frame", [RaftFrame(), RaftFrame(hello=Hello(source=LOW, target=HIGH))])
async def test_a_frame_out_of_turn_ends_the_stream(wire: Wire, frame: RaftFrame) -> None:
    high = Carrier(wire, HIGH, random.Random(1))
    end = await opened(wire, high)
    await end.write(frame)
    await asyncio.sleep(0.1)
    assert not high.mailbox.is_connected(LOW)


async def test_what_is_no_message_ends_the_stream_and_does_not_reach_the_cycle(wire: Wire) -> None:
    high = Carrier(wire, HIGH, random.Random(1))
    end = await opened(wire, high)
    frame = RaftFrame()
    frame.batch.envelopes.append(b"\xff\xff")
    await end.write(frame)
    await asyncio.sleep(0.1)
    assert not high.mailbox.is_connected(LOW)
    assert [item for item in high.mailbox.take_inbox() if not isinstance(item, LinkChange)] == []


async def opened(wire: Wire, carrier: Carrier) -> End:
    end = wire.open(LOW, carrier.raft_id, node_id(LOW))
    await end.write(RaftFrame(hello=Hello(source=LOW, target=carrier.raft_id)))
    await asyncio.sleep(0.1)
    assert carrier.mailbox.is_connected(LOW)
    return end


async def test_a_caller_that_says_nothing_is_sent_away(wire: Wire) -> None:
    high = Carrier(wire, HIGH, random.Random(1))
    wire.open(LOW, HIGH, node_id(LOW))
    await asyncio.sleep(2.1)
    assert [error.code for error in wire.refusals] == [grpc.StatusCode.DEADLINE_EXCEEDED]
    assert not high.mailbox.is_connected(LOW)


async def test_before_the_start_and_after_the_end_callers_are_refused(wire: Wire) -> None:
    high = Carrier(wire, HIGH, random.Random(1), start=False)
    high.knows([member(LOW), member(HIGH)])  # replay tells the members before anything is started
    hello = Hello(source=LOW, target=HIGH)
    assert await refused(wire, HIGH, hello, node_id(LOW)) is grpc.StatusCode.UNAVAILABLE
    high.links.start(HIGH, high.mailbox)
    low = Carrier(wire, LOW, random.Random(1))
    await asyncio.sleep(1)
    assert connected(low, high)
    await high.links.close()
    await high.links.close()
    high.knows([member(HIGH)])
    assert await refused(wire, HIGH, hello, node_id(LOW)) is grpc.StatusCode.UNAVAILABLE


async def test_the_end_leaves_no_task(wire: Wire) -> None:
    low, high = pair(wire)
    low.knows([member(LOW), member(HIGH), member(OTHER)])  # one that never answers
    await asyncio.sleep(0.3)
    assert connected(low, high)
    await wire.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert not low.mailbox.is_connected(HIGH)
