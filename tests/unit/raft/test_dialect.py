"""contract/pysyncobj-hazards.md, H3, H8, H16, H17: what passes between the library and the wire."""

import pytest

from swarmkit.raft.dialect import from_library, to_library
from swarmkit.raft.messages import Append, Message, Reply, SnapshotPart, TimeoutNow, Vote, VoteRequest
from swarmkit.raft.records import Entry
from swarmkit.raft.transfer import Piece


@pytest.mark.parametrize(
    "message",
    [
        Append(3, 5, 2, [Entry(b"\x00x", 6, 2)]),
        Reply(7, reset=True),
        Reply(7, success=True),
        VoteRequest(6, 2),
        Vote(),
        SnapshotPart(),
        SnapshotPart(Piece(5, 2, 0, 3, b"abc")),
    ],
    ids=lambda message: type(message).__name__,
)
def test_the_librarys_messages_go_out_and_come_in_as_they_were(message: Message) -> None:
    assert from_library(to_library(4, message)) == message


def test_what_was_not_compared_with_the_log_commits_nothing() -> None:
    assert to_library(4, SnapshotPart())["commit_index"] == 0


@pytest.mark.parametrize("kind", ["apply_command", "apply_command_response", "timeout_now"])
def test_forwarded_commands_and_the_librarys_own_transfer_never_leave(kind: str) -> None:
    assert from_library({"type": kind, "term": 3}) is None


def test_what_the_library_does_not_know_never_enters() -> None:
    with pytest.raises(TypeError, match="TimeoutNow"):
        to_library(4, TimeoutNow())
