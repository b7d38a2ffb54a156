"""From the inbox to the library: order, answers, and messages that break something."""

from dataclasses import dataclass, field

import pytest

from swarmkit.raft.admission import Verdict
from swarmkit.raft.messages import (
    Append,
    Envelope,
    Message,
    PreVote,
    PreVoteRequest,
    RemovedNotice,
    Reply,
    SnapshotPart,
    TermNotice,
    TimeoutNow,
    Vote,
)
from swarmkit.raft.receiving import Receiver
from swarmkit.raft.records import Entry
from swarmkit.raft.snapshots import Image
from swarmkit.raft.transfer import Piece
from swarmkit.raft.transport import Mailbox

IMAGE = Image(Entry(b"\x01", 6, 1), Entry(b"\x01", 7, 1), b"")
PART = SnapshotPart(Piece(7, 1, 0, 3, b"abc"))


@dataclass
class World:
    """Everything a receiver talks to; writes down what it is told, in order."""

    did: list[object] = field(default_factory=list)
    rounds: list[object] = field(default_factory=list)
    verdicts: dict[Message, Verdict] = field(default_factory=dict)
    image: Image | None = None
    broken: bool = False

    # the host
    def reply(self, peer: int, message: Message) -> None:
        self.did.append(("reply", peer, message))

    async def install(self, part: SnapshotPart) -> Image | None:
        self.did.append("install")
        return self.image

    def installed(self, image: Image) -> None:
        self.did.append("installed")

    def own_removal(self) -> None:
        self.did.append("removed")

    def link_lost(self, peer: int) -> None:
        self.did.append(("lost", peer))

    def outrun(self) -> None:
        self.did.append("outrun")

    # the library
    def set_connected(self, peer: int, connected: bool) -> None:
        self.did.append(("connected" if connected else "disconnected", peer))

    def receive(self, peer: int, term: int, message: Message) -> None:
        if self.broken:
            raise KeyError("a bug")
        self.did.append(("receive", peer, term, message))

    def adopt_term(self, peer: int, term: int) -> None:
        self.did.append(("adopt", term))

    def raise_commit(self, index: int) -> None:
        self.did.append(("commit", index))

    # the elections
    def granted(self, voter: int, number: int, term: int) -> None:
        self.did.append(("granted", voter, number, term))

    def force(self, term: int) -> None:
        self.did.append(("force", term))

    def heard_leader(self, at: float) -> None:
        self.did.append(("heard", at))

    # the rounds
    def heard(self, envelope: Envelope) -> None:
        self.rounds.append(("heard", envelope.source, envelope.round))

    def echoed(self, envelope: Envelope) -> None:
        self.rounds.append(("echoed", envelope.source, envelope.round))

    # the filter
    def examine(self, envelope: Envelope, at: float) -> Verdict:
        return self.verdicts.get(envelope.message, Verdict(deliver=envelope.message))


class Bench:
    def __init__(self) -> None:
        self.world = World()
        self.box = Mailbox(lambda: None, lambda: 4.5)
        world = self.world
        self.receiver = Receiver(world, self.box, world, world, world, world)  # type: ignore[arg-type]
        self.generation = self.box.connected(2)

    async def get(self, *messages: Message, source: int = 2) -> list[object]:
        for number, message in enumerate(messages, 1):
            self.box.receive(2, self.generation, Envelope(source, 1, 3, message, number))
        await self.receiver.deliver()
        did, self.world.did = self.world.did, []
        return [item for item in did if item != ("connected", 2)]


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_everything_is_dealt_with_in_the_order_it_came(bench: Bench) -> None:
    bench.box.disconnected(2, bench.generation)
    append = Append(0, 5, 1)
    assert await bench.get(Vote(), append) == [
        ("disconnected", 2),
        ("lost", 2),
        ("receive", 2, 3, Vote()),
        ("receive", 2, 3, append),
        ("heard", 4.5),
    ]


async def test_a_message_is_delivered_before_commit_index_and_answer(bench: Bench) -> None:
    append = Append(0, 5, 1)
    bench.world.verdicts[append] = Verdict(SnapshotPart(), 4, Reply(6, success=True), "known already")
    assert await bench.get(append) == [
        ("receive", 2, 3, SnapshotPart()),
        ("heard", 4.5),
        ("commit", 4),
        ("reply", 2, Reply(6, success=True)),
    ]


async def test_what_is_refused_goes_nowhere(bench: Bench) -> None:
    bench.world.verdicts[Vote()] = Verdict(refused="because")
    assert await bench.get(Vote()) == []


async def test_messages_that_are_not_the_librarys_go_where_they_belong(bench: Bench) -> None:
    messages: list[Message] = [PreVote(9), TimeoutNow(), TermNotice(), RemovedNotice()]
    assert await bench.get(*messages) == [("granted", 2, 9, 3), ("force", 3), ("adopt", 3), "removed"]


async def test_a_message_under_a_foreign_id_or_of_an_old_stream_is_dropped(bench: Bench) -> None:
    assert await bench.get(Vote(), source=3) == []
    bench.box.connected(2)
    assert await bench.get(Vote()) == []


async def test_a_message_that_breaks_the_handler_ends_neither_the_cycle_nor_the_rest(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.world.broken = True
    bench.world.verdicts[Vote()] = Verdict(Vote(), 4, Reply(6, success=True))
    assert await bench.get(Vote(), TimeoutNow()) == [("force", 3)]
    assert "cannot handle a message" in caplog.text


async def test_a_piece_is_stored_before_the_library_sees_it_and_a_whole_changes_the_group(
    bench: Bench,
) -> None:
    assert await bench.get(PART) == ["install", ("receive", 2, 3, PART), ("heard", 4.5)]
    bench.world.image = IMAGE
    assert await bench.get(PART) == ["install", ("receive", 2, 3, PART), "installed", ("heard", 4.5)]


async def test_a_reset_asks_for_an_answer_at_once(bench: Bench) -> None:
    await bench.get(Reply(5, success=True))
    assert not bench.receiver.was_reset
    await bench.get(Reply(5, reset=True), Reply(6, success=True))
    assert bench.receiver.was_reset


async def test_a_broken_peer_is_complained_about_but_not_each_time(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.world.verdicts[Vote()] = Verdict(refused="nonsense", alarming=True)
    await bench.get(*[Vote()] * 50)
    assert caplog.text.count("refused a message") == 1


async def test_a_round_counts_once_its_message_was_dealt_with_whatever_the_filter_made_of_it(
    bench: Bench,
) -> None:
    known, gap = Append(0, 5, 1), Append(0, 50, 1)
    bench.world.verdicts[known] = Verdict(SnapshotPart(), answer=Reply(6, success=True))
    bench.world.verdicts[gap] = Verdict(SnapshotPart(), answer=Reply(7, reset=True), refused="a gap")
    await bench.get(known, gap, SnapshotPart(), Reply(6))
    assert bench.world.rounds == [("heard", 2, 1), ("heard", 2, 2), ("heard", 2, 3), ("echoed", 2, 4)]


async def test_a_round_whose_message_was_refused_or_broke_something_is_not_taken_for_processed(
    bench: Bench,
) -> None:
    bench.world.verdicts[Append(0, 5, 1)] = Verdict(refused="of a term that is over")
    bench.world.verdicts[Reply(6)] = Verdict(refused="answers another leadership")
    await bench.get(Append(0, 5, 1), Reply(6))
    bench.world.broken = True
    await bench.get(Append(0, 6, 1), PART)
    assert bench.world.rounds == []


async def test_a_member_that_wants_to_lead_with_a_log_that_is_behind_wakes_this_ones_ambition(
    bench: Bench,
) -> None:
    request = PreVoteRequest(1, 2, 1)
    bench.world.verdicts[request] = Verdict(refused="its log is behind", outrun=True)
    assert await bench.get(request) == ["outrun"]
