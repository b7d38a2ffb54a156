"""Log entries and snapshots as bytes: ``InternalRaftRequest`` and ``StoreSnapshot`` of the wire contract."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from google.protobuf.message import DecodeError

from swarmkit.api import messages as api
from swarmkit.store.errors import DivergenceError
from swarmkit.store.events import Action
from swarmkit.store.objects import SCHEMAS, SCHEMAS_BY_TABLE, StoreObject
from swarmkit.store.transaction import Change

_ACTIONS = {action.value: action for action in Action}

#: Objects serialised in one piece: a thread that writes a snapshot must not hold the interpreter long.
_SNAPSHOT_PIECE = 64


def encode_change(change: Change) -> bytes:
    """Serialise one change as an entry with that change alone.

    Serialised messages that follow each other are one message with their repeated fields joined, so that an
    entry is put together from pieces whose sizes are known, each serialised once.
    """
    request = api.InternalRaftRequest()
    action = request.action.add()
    action.action = change.action.value  # type: ignore[assignment]
    getattr(action, change.table).CopyFrom(change.row.object)
    return request.SerializeToString()


def entry(request_id: int, pieces: Sequence[bytes]) -> bytes:
    """Put an entry together: the id of the request, which must not be zero, and its changes."""
    return api.InternalRaftRequest(id=request_id).SerializeToString() + b"".join(pieces)


def decode_entry(data: bytes) -> Iterator[tuple[Action, str, StoreObject]]:
    """Yield action, table and object of each change of an entry.

    Each object is copied out of the entry, which would otherwise stay in memory as long as any of them.

    Raises:
        DivergenceError: not an entry, or one with changes this version does not know.
    """
    try:
        request = api.InternalRaftRequest.FromString(data)
    except DecodeError as error:
        raise DivergenceError(f"log entry cannot be parsed: {error}") from error
    for item in request.action:
        table = item.WhichOneof("target")
        action = _ACTIONS.get(item.action)
        if table is None or action is None:
            raise DivergenceError(f"log entry has an action of unknown kind {item.action} on {table}")
        yield action, table, copy_of(getattr(item, table))


def copy_of(message: Any) -> Any:
    """Return a message of its own with the same content."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def encode_snapshot(objects: dict[type[Any], list[StoreObject]]) -> Callable[[], bytes]:
    """Return a function that serialises ``objects``; it may run in a thread."""

    def serialise() -> bytes:
        pieces = []
        for kind, stored in objects.items():
            field = SCHEMAS[kind].snapshot_field
            for start in range(0, len(stored), _SNAPSHOT_PIECE):
                piece = api.StoreSnapshot()
                getattr(piece, field).extend(stored[start : start + _SNAPSHOT_PIECE])
                pieces.append(piece.SerializeToString())
        return b"".join(pieces)

    return serialise


def decode_snapshot(data: bytes) -> dict[str, dict[str, StoreObject]]:
    """Return the objects of a snapshot by table and id, each copied out of it.

    Raises:
        DivergenceError: not a snapshot.
    """
    try:
        snapshot = api.StoreSnapshot.FromString(data)
    except DecodeError as error:
        raise DivergenceError(f"snapshot cannot be parsed: {error}") from error
    return {
        table: {stored.id: copy_of(stored) for stored in getattr(snapshot, schema.snapshot_field)}
        for table, schema in SCHEMAS_BY_TABLE.items()
    }
