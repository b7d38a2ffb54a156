"""contract/pysyncobj-hazards.md, H30, H31: envelopes survive the wire, and nothing else is taken from it."""

import pickle
import random

import pytest

from swarmkit.raft import transport_pb2 as wire
from swarmkit.raft.codec import decode, encode
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
    VoteRequest,
)
from swarmkit.raft.records import Entry
from swarmkit.raft.transfer import Piece

MESSAGES: list[Message] = [
    VoteRequest(7, 3),
    VoteRequest(7, 3, transfer=True),
    Vote(),
    Append(0, 1, 0, []),
    Append(4, 6, 2, [Entry(b"\x00a", 7, 2), Entry(b"\x01", 8, 3)]),
    SnapshotPart(),
    SnapshotPart(Piece(7, 3, 0, 5, b"abc")),
    SnapshotPart(Piece(7, 3, 3, 5, b"de")),
    Reply(9, reset=True),
    Reply(9, success=True),
    Reply(0),
    TimeoutNow(),
    PreVoteRequest(1 << 60, 7, 3),
    PreVote(0),
    TermNotice(),
    RemovedNotice(),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_what_is_sent_is_what_arrives(message: Message) -> None:
    envelope = Envelope(1 << 63, 2, 5, message)
    assert decode(encode(envelope)) == envelope


def test_rounds_and_promises_travel_with_the_message() -> None:
    envelope = Envelope(1, 2, 5, Reply(9), round=1 << 60, promise_ms=1000)
    assert decode(encode(envelope)) == envelope


def test_every_kind_of_message_is_tried() -> None:
    kinds = wire.RaftEnvelope.DESCRIPTOR.oneofs_by_name["content"].fields
    assert len({type(message) for message in MESSAGES}) == len(kinds)


@pytest.mark.parametrize("data", [b"", b"\x08\x01", b"\xff" * 40, pickle.dumps({"type": "append_entries"})])
def test_what_is_no_envelope_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="raft message"):
        decode(data)


def test_random_bytes_are_refused_or_an_envelope_and_never_anything_worse() -> None:
    rng = random.Random(1)
    good = [encode(Envelope(1, 2, 3, message)) for message in MESSAGES]
    for _ in range(5000):
        data = bytearray(rng.choice(good))
        for _ in range(rng.randint(1, 4)):
            data.insert(rng.randint(0, len(data)), rng.randrange(256))
        try:
            assert isinstance(decode(bytes(data)), Envelope)
        except ValueError:
            pass
