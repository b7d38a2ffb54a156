"""contract/pysyncobj-hazards.md, 6 and 9: the inbox and the outbox."""

from swarmkit.raft.transport import MAX_INBOX, LinkChange, Mailbox, Received


def mailbox() -> tuple[Mailbox, list[int]]:
    woken: list[int] = []
    return Mailbox(lambda: woken.append(1)), woken


def test_what_comes_in_keeps_its_order_and_wakes_the_cycle() -> None:
    box, woken = mailbox()
    box.connected(2)
    box.receive(2, {"type": "response_vote"})
    box.disconnected(2)

    expected = [LinkChange(2, True), Received(2, {"type": "response_vote"}), LinkChange(2, False)]
    assert len(woken) == 3
    assert box.has_inbox
    assert box.take_inbox() == expected
    assert box.take_inbox() == []


def test_a_link_is_reported_once() -> None:
    box, woken = mailbox()
    box.connected(2)
    box.connected(2)
    box.disconnected(3)
    assert box.is_connected(2)
    assert len(woken) == 1


def test_the_inbox_is_bounded() -> None:
    box, _ = mailbox()
    for _ in range(MAX_INBOX + 5):
        box.receive(2, {"type": "response_vote"})
    assert len(box.take_inbox()) == MAX_INBOX


def test_appends_may_leave_before_the_sync_and_nothing_else() -> None:
    box, _ = mailbox()
    for kind in ("next_node_idx", "append_entries", "response_vote", "append_entries", "request_vote"):
        box.post(2, {"type": kind})
    assert [message["type"] for _, message in box.take_early()] == ["append_entries"] * 2
    later = [message["type"] for _, message in box.take_outbox()]
    assert later == ["next_node_idx", "response_vote", "request_vote"]
    assert box.take_outbox() == []


def test_forwarded_commands_never_leave() -> None:
    box, _ = mailbox()
    box.post(2, {"type": "apply_command", "command": b""})
    box.post(2, {"type": "apply_command_response"})
    assert box.take_outbox() == []
