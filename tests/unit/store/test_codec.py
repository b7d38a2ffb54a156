"""Entries and snapshots are the wire contract's messages, byte for byte."""

from typing import Any

import pytest

from swarmkit.api import messages as api
from swarmkit.store import Action, DivergenceError
from swarmkit.store.codec import decode_entry, decode_snapshot, encode_change, encode_snapshot, entry
from swarmkit.store.objects import SCHEMAS
from swarmkit.store.transaction import Change
from tests.unit.store.builders import new


@pytest.mark.parametrize("kind", list(SCHEMAS))
@pytest.mark.parametrize("action", list(Action))
def test_an_entry_is_one_request_with_its_id_and_actions(kind: Any, action: Action) -> None:
    schema = SCHEMAS[kind]
    changes = [Change(schema.table, action, schema.row(new(kind, id))) for id in ("a", "b")]
    data = entry(7, [encode_change(change) for change in changes])
    request = api.InternalRaftRequest.FromString(data)
    assert request.id == 7
    assert [(item.action, getattr(item, schema.table).id) for item in request.action] == [
        (action.value, "a"),
        (action.value, "b"),
    ]
    assert data == request.SerializeToString()
    assert list(decode_entry(data)) == [(action, schema.table, new(kind, id)) for id in ("a", "b")]


def test_a_snapshot_is_one_store_snapshot_whatever_its_length() -> None:
    objects: dict[Any, list[Any]] = {kind: [new(kind, f"{n:03}") for n in range(130)] for kind in SCHEMAS}
    data = encode_snapshot(objects)()
    snapshot = api.StoreSnapshot.FromString(data)
    for kind, schema in SCHEMAS.items():
        assert list(getattr(snapshot, schema.snapshot_field)) == objects[kind]
        assert list(decode_snapshot(data)[schema.table].values()) == objects[kind]


def test_every_kind_has_its_field_in_actions_and_snapshots() -> None:
    targets = {field.name for field in api.StoreAction.DESCRIPTOR.oneofs_by_name["target"].fields}
    assert targets == {schema.table for schema in SCHEMAS.values()}
    fields = set(api.StoreSnapshot.DESCRIPTOR.fields_by_name)
    assert fields == {schema.snapshot_field for schema in SCHEMAS.values()}
    assert {action.name for action in Action} == {"CREATE", "UPDATE", "DELETE"}


def test_garbage_is_refused() -> None:
    with pytest.raises(DivergenceError):
        list(decode_entry(b"\x08"))
    with pytest.raises(DivergenceError):
        decode_snapshot(b"\x0a\xff")
