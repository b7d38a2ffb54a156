"""A snapshot's objects in the place of the store's: worked out aside, then put there at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from swarmkit.store import codec
from swarmkit.store.events import Action
from swarmkit.store.objects import SCHEMAS, SCHEMAS_BY_TABLE, StoreObject
from swarmkit.store.transaction import Change, Tables


@dataclass(frozen=True)
class Replacement:
    """What a snapshot makes of a store.

    Attributes:
        changes: what differs, deletions first (contract/raft-store-manager.md, D4).
        committed: the tables of the committed state.
        newest: the same once more, for transactions.
        version: the newest version among the objects that differ, or 0.
    """

    changes: Sequence[Change]
    committed: Tables
    newest: Tables
    version: int


def replacement(present: Tables, data: bytes) -> Replacement:
    """Work out what a snapshot makes of the present committed state, which stays as it is.

    It takes seconds for many objects and may run in a thread. Meanwhile ``present`` must not be changed; it
    may be read, for nothing is used here that reading changes (the orders of keys, which are kept lazily).

    Raises:
        DivergenceError: ``data`` is not a snapshot.
    """
    wanted = codec.decode_snapshot(data)
    changes = [*_deletions(present, wanted), *_replacements(present, wanted)]
    committed = {kind: table.copy() for kind, table in present.items()}
    for change in changes:
        change.apply(committed[SCHEMAS_BY_TABLE[change.table].kind])
    newest = {kind: table.copy() for kind, table in committed.items()}
    version = max((change.row.object.meta.version.index for change in changes), default=0)
    return Replacement(changes, committed, newest, version)


def _deletions(present: Tables, wanted: dict[str, dict[str, StoreObject]]) -> Iterator[Change]:
    for schema in SCHEMAS.values():
        for id, row in sorted(present[schema.kind].rows.items()):
            if id not in wanted[schema.table]:
                yield Change(schema.table, Action.DELETE, row)


def _replacements(present: Tables, wanted: dict[str, dict[str, StoreObject]]) -> Iterator[Change]:
    for schema in SCHEMAS.values():
        rows = present[schema.kind].rows
        for id, stored in sorted(wanted[schema.table].items()):
            old = rows.get(id)
            if old is None:
                yield Change(schema.table, Action.CREATE, schema.row(stored))
            elif old.object != stored:
                yield Change(schema.table, Action.UPDATE, schema.row(stored), old)
