"""contract/pysyncobj-hazards.md, 6 and 9: the inbox and the outbox."""

from swarmkit.raft.messages import (
    Append,
    Envelope,
    Message,
    PreVoteRequest,
    Reply,
    SnapshotPart,
    TermNotice,
    Vote,
    VoteRequest,
)
from swarmkit.raft.records import Entry
from swarmkit.raft.transport import MAX_INBOX, MAX_INBOX_BYTES, LinkChange, Mailbox, Received


class Box(Mailbox):
    """A mailbox of member 1 whose clock is set by hand."""

    def __init__(self) -> None:
        self.woken = 0
        self.now = 0.0
        super().__init__(self._count, lambda: self.now)

    def _count(self) -> None:
        self.woken += 1


def envelope(source: int = 2, term: int = 1, message: Message | None = None) -> Envelope:
    return Envelope(source, 1, term, message or Vote())


def test_what_comes_in_keeps_its_order_and_its_time_and_wakes_the_cycle() -> None:
    box = Box()
    generation = box.connected(2)
    box.now = 3.0
    box.receive(2, generation, envelope())
    box.disconnected(2, generation)

    expected = [LinkChange(2, True), Received(2, generation, 3.0, envelope()), LinkChange(2, False)]
    assert box.woken == 3
    assert box.has_inbox
    assert box.take_inbox() == expected
    assert box.take_inbox() == []


def test_a_link_is_reported_once_and_known_since_its_first_stream() -> None:
    box = Box()
    box.now = 5.0
    box.connected(2)
    box.now = 6.0
    box.connected(2)
    box.disconnected(3, 1)
    assert box.is_connected(2)
    assert not box.is_connected(3)
    assert box.connected_since(2) == 5.0
    assert box.woken == 1


def test_the_end_of_a_stream_that_was_replaced_means_nothing() -> None:
    box = Box()
    old = box.connected(2)
    new = box.connected(2)
    box.disconnected(2, old)
    assert box.is_connected(2)
    box.disconnected(2, new)
    assert not box.is_connected(2)


def test_messages_of_an_older_stream_are_not_current_even_if_they_wait_already() -> None:
    box = Box()
    old = box.connected(2)
    box.receive(2, old, envelope(term=1))
    new = box.connected(2)
    box.receive(2, old, envelope(term=2))
    box.receive(2, new, envelope(term=3))
    waiting = [item for item in box.take_inbox() if isinstance(item, Received)]
    assert [item.envelope.term for item in waiting if box.is_current(item)] == [3]


def test_a_message_under_another_id_than_its_streams_is_not_current() -> None:
    box = Box()
    generation = box.connected(2)
    box.receive(2, generation, envelope(source=3))
    item = box.take_inbox()[-1]
    assert isinstance(item, Received)
    assert not box.is_current(item)


def test_the_inbox_is_bounded() -> None:
    box = Box()
    for _ in range(MAX_INBOX + 5):
        box.receive(2, 1, envelope())
    assert len(box.take_inbox()) == MAX_INBOX


def test_the_inbox_is_bounded_in_bytes_too_and_takes_again_what_comes_later() -> None:
    box = Box()
    large = envelope(message=Append(0, 1, 0, [Entry(b"\x00" * (MAX_INBOX_BYTES // 4), 2, 1)]))
    for _ in range(6):
        box.receive(2, 1, large)
    assert len(box.take_inbox()) == 4
    box.receive(2, 1, large)
    assert len(box.take_inbox()) == 1


def test_a_waiting_message_of_the_leader_is_noticed_and_nothing_else() -> None:
    box = Box()
    generation = box.connected(2)
    box.receive(2, generation, envelope(term=4, message=Reply(1)))
    box.receive(2, generation, envelope(term=3, message=SnapshotPart()))
    assert not box.hears(2, 4)
    box.receive(2, generation, envelope(term=4, message=Append(0, 1, 0)))
    assert box.hears(2, 4)
    assert not box.hears(3, 4)


def test_appends_may_leave_before_the_sync_and_nothing_else() -> None:
    box = Box()
    later: list[Message] = [Reply(1), Vote(), VoteRequest(1, 0), PreVoteRequest(1, 1, 0), TermNotice()]
    early: list[Message] = [Append(0, 1, 0), SnapshotPart()]
    for message in (early[0], *later, early[1]):
        box.post(envelope(message=message))
    assert [item.message for item in box.take_early()] == early
    assert [item.message for item in box.take_outbox()] == later
    assert box.take_outbox() == []
