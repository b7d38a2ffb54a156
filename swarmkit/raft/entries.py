"""Commands in the log: one byte that the consensus library reads, then our own envelope."""

from swarmkit.raft.log_pb2 import LogEntry, MembershipChange

#: First byte of a command. The library knows two more kinds, which are never written and never accepted: its
#: own membership changes and code versions (contract/pysyncobj-hazards.md, H21 and H24).
REGULAR = b"\x00"
NO_OP = b"\x01"

#: The entry every log of the library begins with, at index 1 in term 0.
FIRST_COMMAND = NO_OP


def store_command(data: bytes) -> bytes:
    """Wrap a transaction of the store."""
    return REGULAR + LogEntry(store=data).SerializeToString()


def membership_command(change: MembershipChange) -> bytes:
    """Wrap a change of the group."""
    return REGULAR + LogEntry(membership=change).SerializeToString()


def read_command(command: bytes) -> LogEntry | None:
    """Return the envelope in a command; None for a no-op.

    Raises:
        ValueError: a kind that is never used, or nothing in it.
        DecodeError: not an envelope.
    """
    kind = command[:1]
    if kind == NO_OP:
        return None
    if kind != REGULAR:
        raise ValueError(f"log entry of kind {kind.hex() or 'none'}")
    entry = LogEntry.FromString(command[1:])
    if entry.WhichOneof("content") is None:
        raise ValueError("empty log entry")
    return entry
