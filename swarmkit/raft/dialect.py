"""What the consensus library speaks: its dictionaries to and from our messages, how it asks for snapshots.

Pure.

What has no place here neither enters the library nor leaves it: forwarded commands, entries in pieces, the
library's own way to hand over the leadership (contract/pysyncobj-hazards.md, H16, H8, H17).
"""

from collections.abc import Iterator
from typing import Any, Protocol

from swarmkit.raft.messages import Append, Message, Reply, SnapshotPart, Vote, VoteRequest

#: Bytes of entries in one message, unless a single entry has more (contract/raft-store-manager.md, 8).
APPEND_BYTES = 65_535


class Serializer(Protocol):
    """The six methods that the library calls on the object in its serializer's place."""

    def serialize(self, data: Any, identity: int) -> None:
        """Pin the state; ``data[1]`` and ``data[2]`` are the last entry and the one before it."""
        ...

    def checkSerializing(self) -> tuple[int, int | None]:
        """Return the state of a snapshot being written, and its identity."""
        ...

    def deserialize(self) -> Any:
        """Hand over the snapshot that has been installed."""
        ...

    def getTransmissionData(self, peer: Any) -> Any:
        """Return the next piece for a peer, or None."""
        ...

    def setTransmissionData(self, data: Any) -> bool:
        """Take a piece; True when the snapshot is complete and installed."""
        ...

    def cancelTransmisstion(self, peer: Any) -> None:
        """Forget a transfer to a peer."""
        ...


def from_library(message: dict[str, Any]) -> Message | None:
    """Turn what the library sends into a message; None for what must not leave (H16)."""
    kind = message["type"]
    if kind == "append_entries":
        if "prevLogIdx" in message:
            entries = message["entries"]
            return Append(message["commit_index"], message["prevLogIdx"], message["prevLogTerm"], entries)
        carried = message["serialized"]
        return SnapshotPart(None if carried is None else carried[0])
    if kind == "next_node_idx":
        return Reply(message["next_node_idx"], message["reset"], message["success"])
    if kind == "request_vote":
        return VoteRequest(message["last_log_index"], message["last_log_term"])
    return Vote() if kind == "response_vote" else None


def in_portions(message: Append) -> Iterator[Append]:
    """Split a long append: each part is answered, so that a slow link is not taken for a silent peer."""
    entries, start, size = message.entries, 0, 0
    for position, entry in enumerate(entries):
        size += len(entry.data)
        if size > APPEND_BYTES and position > start:
            yield _portion(message, start, position)
            start, size = position, len(entry.data)
    yield _portion(message, start, len(entries))


def _portion(message: Append, start: int, end: int) -> Append:
    if start == 0:
        return Append(message.commit, message.previous_index, message.previous_term, message.entries[:end])
    before = message.entries[start - 1]
    return Append(message.commit, before.index, before.term, message.entries[start:end])


def to_library(term: int, message: Message) -> dict[str, Any]:
    """Turn an admitted message into what the library reads."""
    if isinstance(message, Append):
        return {
            "type": "append_entries",
            "term": term,
            "commit_index": message.commit,
            "entries": message.entries,
            "prevLogIdx": message.previous_index,
            "prevLogTerm": message.previous_term,
        }
    if isinstance(message, SnapshotPart):
        piece = message.piece
        carried = None if piece is None else (piece, piece.offset == 0, piece.is_last)
        # R3: what was not compared with the own log commits nothing.
        return {"type": "append_entries", "term": term, "commit_index": 0, "serialized": carried}
    if isinstance(message, Reply):
        return {
            "type": "next_node_idx",
            "next_node_idx": message.next_index,
            "reset": message.reset,
            "success": message.success,
        }
    if isinstance(message, VoteRequest):
        return {
            "type": "request_vote",
            "term": term,
            "last_log_index": message.last_index,
            "last_log_term": message.last_term,
        }
    if isinstance(message, Vote):
        return {"type": "response_vote", "term": term}
    raise TypeError(f"{type(message).__name__} is not for the library")
