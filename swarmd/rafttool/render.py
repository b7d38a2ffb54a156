"""Records, snapshots and objects as text for people and as JSON lines for scripts; pure."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf import text_format
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError, Message

from swarmd.rafttool.redact import redacted
from swarmd.rafttool.walk import Item, Summary
from swarmkit.api import messages as api
from swarmkit.raft.entries import read_command
from swarmkit.raft.log_pb2 import MembershipChange
from swarmkit.raft.records import Batch, Entry, Replace, Term, Truncate
from swarmkit.raft.scan import ScannedSegment
from swarmkit.raft.snapshots import Image
from swarmkit.store.objects import SCHEMAS_BY_TABLE, StoreObject

#: Kinds as ``dump-object`` takes them. PARITY: the original lacks volumes.
KINDS = tuple(SCHEMAS_BY_TABLE)

Show = Callable[[Any], Any]
"""Prepares an object for printing: redacts it or leaves it."""


def show_as(redact: bool) -> Show:
    """Return what prepares objects for printing."""
    return redacted if redact else lambda message: message


def as_text(message: Message) -> str:
    """Return a message as protobuf text, each line with its end."""
    return text_format.MessageToString(message, as_utf8=True)


def as_data(message: Message) -> dict[str, Any]:
    """Return a message as plain data under the names of the wire.

    A payload of a type that is not known here makes it one text under the key ``protobuf_text``.
    """
    try:
        return MessageToDict(message, preserving_proto_field_name=True)
    except TypeError:
        return {"protobuf_text": as_text(message)}


def name_of(kind: str, stored: StoreObject) -> str:
    """Return an object's name; empty if it has none."""
    return SCHEMAS_BY_TABLE[kind].name(stored) or ""


def _quoted(text: str) -> str:
    return json.dumps(text)  # whatever is in a name, a terminal sees letters


# -- Records of the log -----------------------------------------------------------------------------------


def record_text(item: Item, show: Show) -> str:
    """Return a paragraph about one item of the log; it ends with an empty line."""
    return "\n".join(_record_lines(item, show)) + "\n"


def _record_lines(item: Item, show: Show) -> Iterator[str]:
    if isinstance(item, ScannedSegment):
        header = item.segment.header
        yield f"Segment {header.sequence} {item.path.name}: {item.size} bytes"
        yield f"  written by node {header.node_id}, raft id {header.raft_id:x}, format {header.format}"
        yield f"  begins with Batch={header.next_batch}, Index={header.next_index}, {_vote(header)}"
        yield f"  Commit={header.commit}"
    elif isinstance(item, Batch):
        yield f"Batch {item.number}: Commit={item.commit}"
    elif isinstance(item, Entry):
        yield from _entry_lines(item, show)
    elif isinstance(item, Truncate):
        yield f"Truncate: entries from Index={item.index} on are gone"
    elif isinstance(item, Term):
        yield _vote(item)
    elif isinstance(item, Replace):
        yield "Replace: a snapshot was installed, and the log consists of the last entries it covers"
        for entry in item.entries:
            yield f"  Index={entry.index}, Term={entry.term}"
    else:
        yield from _summary_lines(item)


def _vote(found: Any) -> str:
    return f"Term={found.term}, Vote={found.vote or 'none'}"


def _summary_lines(item: Summary) -> Iterator[str]:
    yield f"The log holds entries {item.first} to {item.last}; {_vote(item)}"
    if item.commit < item.last:
        yield f"Entries up to {item.commit} are known to be committed, those behind it are not"
    else:
        yield f"All entries up to {item.commit} are known to be committed"
    if item.torn is not None:
        yield torn_tail(item.torn)


def torn_tail(file: ScannedSegment) -> str:
    """Say what the end of a segment looks like."""
    segment = file.segment
    return (
        f"Torn tail: the last {file.size - segment.end} bytes, from byte {segment.end} on, are no whole"
        f" record ({segment.torn}); nobody was told that they are written, and the next start cuts them off"
    )


def _entry_lines(entry: Entry, show: Show) -> Iterator[str]:
    title = f"Entry Index={entry.index}, Term={entry.term}, Type="
    try:
        content = read_command(entry.data)
        if content is None:
            yield title + "NoOp"
        elif content.WhichOneof("content") == "membership":
            yield title + "EntryConfChange:"
            yield from _change_lines(content.membership)
        else:
            request = api.InternalRaftRequest.FromString(content.store)
            yield f"{title}EntryNormal, Request={request.id:x}:"
            for action in request.action:
                yield from _action_lines(action, show)
    except (ValueError, DecodeError) as error:
        yield f"{title}Unknown: {len(entry.data)} bytes that cannot be read ({error})"


def _change_lines(change: MembershipChange) -> Iterator[str]:
    member = change.member
    yield f"Conf change type: {_change_type(change)}"
    yield f"Node ID: {member.raft_id:x}"
    if member.node_id or member.addr:
        yield f"Member: NodeID={member.node_id}, Addr={member.addr}"


def _change_type(change: MembershipChange) -> str:
    return {
        MembershipChange.ADD: "ConfChangeAddNode",
        MembershipChange.REMOVE: "ConfChangeRemoveNode",
        MembershipChange.UPDATE: "ConfChangeUpdateNode",
        # PARITY: the original writes one removal for each of the others.
        MembershipChange.RESET: "ConfChangeReset (the only member from here on; all others are removed)",
    }.get(change.kind, f"unknown ({change.kind})")


def _action_lines(action: api.StoreAction, show: Show) -> Iterator[str]:
    kind = action.WhichOneof("target")
    verb = _action_name(action)
    if kind is None:
        yield f"{verb} of an object of unknown kind"
        return
    stored = getattr(action, kind)
    yield f"{verb} {kind} id={stored.id} name={_quoted(name_of(kind, stored))}"
    yield from ("  " + line for line in as_text(show(stored)).splitlines())


def _action_name(action: api.StoreAction) -> str:
    known = api.StoreActionKind.DESCRIPTOR.values_by_number.get(action.action)
    return f"STORE_ACTION_{action.action}" if known is None else known.name


def record_data(item: Item, show: Show) -> dict[str, Any]:
    """Return one item of the log as plain data; the key ``record`` says what it is."""
    if isinstance(item, ScannedSegment):
        return {
            "record": "segment",
            "file": item.path.name,
            "size": item.size,
            **as_data(item.segment.header),
        }
    if isinstance(item, Batch):
        return {"record": "batch", "number": item.number, "commit": item.commit}
    if isinstance(item, Entry):
        return {"record": "entry", "index": item.index, "term": item.term, **_entry_data(item, show)}
    if isinstance(item, Truncate):
        return {"record": "truncate", "index": item.index}
    if isinstance(item, Term):
        return {"record": "term", "term": item.term, "vote": item.vote}
    if isinstance(item, Replace):
        entries = [{"index": entry.index, "term": entry.term} for entry in item.entries]
        return {"record": "replace", "entries": entries}
    return _summary_data(item)


def _summary_data(item: Summary) -> dict[str, Any]:
    torn = item.torn
    return {
        "record": "summary",
        "first": item.first,
        "last": item.last,
        "term": item.term,
        "vote": item.vote,
        "commit": item.commit,
        "torn": None
        if torn is None
        else {
            "file": torn.path.name,
            "offset": torn.segment.end,
            "bytes": torn.size - torn.segment.end,
            "reason": torn.segment.torn,
        },
    }


def _entry_data(entry: Entry, show: Show) -> dict[str, Any]:
    try:
        content = read_command(entry.data)
        if content is None:
            return {"type": "no-op"}
        if content.WhichOneof("content") == "membership":
            return {"type": "membership", "change": as_data(content.membership)}
        request = api.InternalRaftRequest.FromString(content.store)
        actions = [_action_data(action, show) for action in request.action]
        return {"type": "store", "request": f"{request.id:x}", "actions": actions}
    except (ValueError, DecodeError) as error:
        return {"type": "unknown", "bytes": len(entry.data), "error": str(error)}


def _action_data(action: api.StoreAction, show: Show) -> dict[str, Any]:
    kind = action.WhichOneof("target")
    if kind is None:
        return {"action": _action_name(action), "kind": None}
    return {"action": _action_name(action), **object_data(kind, getattr(action, kind), show)}


# -- Objects and snapshots --------------------------------------------------------------------------------


def object_data(kind: str, stored: StoreObject, show: Show) -> dict[str, Any]:
    """Return an object with its kind, id and name."""
    return {
        "kind": kind,
        "id": stored.id,
        "name": name_of(kind, stored),
        "object": as_data(show(stored)),
    }


def object_text(kind: str, stored: StoreObject, show: Show) -> str:
    """Return an object as a paragraph; it ends with an empty line."""
    body = "".join(f"  {line}\n" for line in as_text(show(stored)).splitlines())
    return f"{kind} {{\n{body}}}\n"


def _stored(store: api.StoreSnapshot) -> Iterator[tuple[str, StoreObject]]:
    for kind, schema in SCHEMAS_BY_TABLE.items():
        for stored in getattr(store, schema.snapshot_field):
            yield kind, stored


def snapshot_text(
    image: Image, group: api.ClusterSnapshot, store: api.StoreSnapshot, show: Show
) -> Iterator[str]:
    """Yield a snapshot in paragraphs (contract/cli.md, 11)."""
    yield f"Snapshot Index={image.index}, Term={image.term}, {len(image.payload)} bytes\n"
    members = [
        f" NodeID={member.node_id}, RaftID={member.raft_id:x}, Addr={member.addr}\n"
        for member in group.members
    ]
    yield "Active members:\n" + "".join(members)
    yield "Removed members:\n" + "".join(f" RaftID={raft_id:x}\n" for raft_id in group.removed)
    yield "Objects:"
    for kind, stored in _stored(store):
        yield object_text(kind, stored, show)


def snapshot_data(
    image: Image, group: api.ClusterSnapshot, store: api.StoreSnapshot, show: Show
) -> Iterator[dict[str, Any]]:
    """Yield a snapshot as plain data: a head, then each member, removed raft id and object."""
    yield {"record": "snapshot", "index": image.index, "term": image.term, "bytes": len(image.payload)}
    for member in group.members:
        yield {"record": "member", **as_data(member)}
    for raft_id in group.removed:
        yield {"record": "removed", "raft_id": str(raft_id)}
    for kind, stored in _stored(store):
        yield {"record": "object", **object_data(kind, stored, show)}
