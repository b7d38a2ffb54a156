"""Envelopes as bytes (``protos/swarmkit/raft/transport.proto``). Pure."""

from collections.abc import Callable

from google.protobuf.message import DecodeError

from swarmkit.raft import transport_pb2 as wire
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


def encode(envelope: Envelope) -> bytes:
    """Return the bytes of an envelope."""
    result = wire.RaftEnvelope(
        source=envelope.source,
        target=envelope.target,
        term=envelope.term,
        round=envelope.round,
        promise_ms=envelope.promise_ms,
    )
    _ENCODERS[type(envelope.message)](result, envelope.message)
    return result.SerializeToString()


def decode(data: bytes) -> Envelope:
    """Read an envelope. Its numbers are not checked: that is the admission filter's part.

    Raises:
        ValueError: not an envelope, or one without a known message.
    """
    try:
        parsed = wire.RaftEnvelope.FromString(data)
    except DecodeError as error:
        raise ValueError("not a raft message") from error
    kind = parsed.WhichOneof("content")
    if kind is None:
        raise ValueError("raft message of an unknown kind")
    message = _DECODERS[kind](parsed)
    return Envelope(parsed.source, parsed.target, parsed.term, message, parsed.round, parsed.promise_ms)


def _encode_vote_request(result: wire.RaftEnvelope, message: VoteRequest) -> None:
    result.vote_request.last_index = message.last_index
    result.vote_request.last_term = message.last_term
    result.vote_request.transfer = message.transfer


def _encode_append(result: wire.RaftEnvelope, message: Append) -> None:
    append = result.append
    append.commit = message.commit
    append.previous_index = message.previous_index
    append.previous_term = message.previous_term
    for entry in message.entries:
        append.entries.add(term=entry.term, data=entry.data)


def _encode_part(result: wire.RaftEnvelope, message: SnapshotPart) -> None:
    piece, part = message.piece, result.snapshot_part
    part.SetInParent()
    if piece is not None:
        part.last_index, part.last_term = piece.index, piece.term
        part.offset, part.total, part.data = piece.offset, piece.total, piece.data


def _encode_reply(result: wire.RaftEnvelope, message: Reply) -> None:
    result.reply.next_index = message.next_index
    result.reply.reset = message.reset
    result.reply.success = message.success


def _encode_pre_vote_request(result: wire.RaftEnvelope, message: PreVoteRequest) -> None:
    result.pre_vote_request.round = message.round
    result.pre_vote_request.last_index = message.last_index
    result.pre_vote_request.last_term = message.last_term


def _encode_pre_vote(result: wire.RaftEnvelope, message: PreVote) -> None:
    result.pre_vote.round = message.round


_ENCODERS: dict[type[Message], Callable[..., None]] = {
    VoteRequest: _encode_vote_request,
    Vote: lambda result, _: result.vote.SetInParent(),
    Append: _encode_append,
    SnapshotPart: _encode_part,
    Reply: _encode_reply,
    TimeoutNow: lambda result, _: result.timeout_now.SetInParent(),
    PreVoteRequest: _encode_pre_vote_request,
    PreVote: _encode_pre_vote,
    TermNotice: lambda result, _: result.term_notice.SetInParent(),
    RemovedNotice: lambda result, _: result.removed_notice.SetInParent(),
}


def _decode_append(parsed: wire.RaftEnvelope) -> Append:
    append = parsed.append
    entries = [
        Entry(entry.data, index, entry.term)
        for index, entry in enumerate(append.entries, append.previous_index + 1)
    ]
    return Append(append.commit, append.previous_index, append.previous_term, entries)


def _decode_part(parsed: wire.RaftEnvelope) -> SnapshotPart:
    part = parsed.snapshot_part
    if not part.data:
        return SnapshotPart()
    return SnapshotPart(Piece(part.last_index, part.last_term, part.offset, part.total, part.data))


_DECODERS: dict[str, Callable[[wire.RaftEnvelope], Message]] = {
    "vote_request": lambda p: VoteRequest(
        p.vote_request.last_index, p.vote_request.last_term, p.vote_request.transfer
    ),
    "vote": lambda _: Vote(),
    "append": _decode_append,
    "snapshot_part": _decode_part,
    "reply": lambda p: Reply(p.reply.next_index, p.reply.reset, p.reply.success),
    "timeout_now": lambda _: TimeoutNow(),
    "pre_vote_request": lambda p: PreVoteRequest(
        p.pre_vote_request.round, p.pre_vote_request.last_index, p.pre_vote_request.last_term
    ),
    "pre_vote": lambda p: PreVote(p.pre_vote.round),
    "term_notice": lambda _: TermNotice(),
    "removed_notice": lambda _: RemovedNotice(),
}
