"""Commands: one byte for the library, then our envelope."""

import pytest

from swarmkit.api import messages as api
from swarmkit.raft.entries import FIRST_COMMAND, membership_command, read_command, store_command
from swarmkit.raft.log_pb2 import LogEntry, MembershipChange


def test_a_transaction_comes_back_even_if_it_is_empty() -> None:
    for data in (b"", b"transaction"):
        entry = read_command(store_command(data))
        assert entry is not None
        assert entry.WhichOneof("content") == "store"
        assert entry.store == data


def test_a_change_of_the_group_comes_back() -> None:
    change = MembershipChange(kind=MembershipChange.ADD, member=api.RaftMember(raft_id=7))
    entry = read_command(membership_command(change))
    assert entry is not None
    assert entry.membership == change


def test_a_no_op_is_nothing() -> None:
    assert read_command(FIRST_COMMAND) is None


@pytest.mark.parametrize("kind", [b"\x02", b"\x03", b"\xff", b""])
def test_kinds_of_the_library_that_are_not_used_are_refused(kind: bytes) -> None:
    with pytest.raises(ValueError, match="log entry of kind"):
        read_command(kind + b"whatever" * bool(kind))


def test_an_empty_envelope_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        read_command(b"\x00" + LogEntry().SerializeToString())
