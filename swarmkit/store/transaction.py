"""Readers and transactions: what runs inside the callbacks of ``view``, ``update`` and ``batch``."""

import datetime
from typing import Any, NamedTuple, TypeAlias

from google.protobuf.timestamp_pb2 import Timestamp

from swarmkit.api import messages as api
from swarmkit.clock import timestamp
from swarmkit.store import by
from swarmkit.store.errors import (
    ExistsError,
    InUseError,
    InvalidObjectError,
    NameConflictError,
    NotExistError,
    SequenceError,
)
from swarmkit.store.events import Action, Event
from swarmkit.store.objects import SCHEMAS_BY_TABLE, O, Row, StoreObject
from swarmkit.store.table import Table


class Change(NamedTuple):
    """One change of one table.

    Attributes:
        table: the table's name.
        action: what happened.
        row: the row after the change; of a deletion, the one that was taken out.
        old: of an update, the row before it.
    """

    table: str
    action: Action
    row: Row
    old: Row | None = None

    def apply(self, table: Table) -> None:
        """Make the change in ``table``."""
        if self.action is Action.DELETE:
            table.remove(self.row.id)
        else:
            table.put(self.row)

    def undo(self, table: Table) -> None:
        """Take the change back in ``table``, where it was the last one."""
        if self.action is Action.CREATE:
            table.remove(self.row.id)
        else:
            table.put(self.old or self.row)

    def event(self) -> Event:
        """Return what watchers are told."""
        return Event(self.action, self.row.object, None if self.old is None else self.old.object)


Tables: TypeAlias = dict[type[Any], Table]


class Reader:
    """Looks up objects. What it returns is shared with the store: never change it, copy it.

    A reader looks at live tables: use it at once, do not keep it across an ``await``.
    """

    __slots__ = ("_tables",)

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def get(self, kind: type[O], id: str) -> O | None:
        """Return the object with this id, or None."""
        row = self._tables[kind].rows.get(id)
        if row is None:
            return None
        stored: O = row.object
        return stored

    def find(self, kind: type[O], *selectors: by.Selector) -> list[O]:
        """Return the objects that at least one selector selects, or all if none is given.

        Ascending by id; for name prefixes by name, then id; for several selectors each object once, in order
        of first appearance.

        Raises:
            InvalidSelectorError: the kind cannot be found by a selector.
        """
        table = self._tables[kind]
        rows = table.rows
        return [rows[id].object for id in table.select(selectors)]

    def count(self, kind: type[StoreObject], *selectors: by.Selector) -> int:
        """Return the number of objects that ``find`` would return."""
        table = self._tables[kind]
        return len(table.select(selectors)) if selectors else len(table.rows)


class Tx(Reader):
    """A transaction on the newest state: what is committed, what is in flight, and its own changes.

    ``create`` and ``update`` copy what they are given, stamp the copy's meta data and return it (D21: the
    caller's object stays as it is). To update an object twice in one transaction, go on with the copy.
    """

    __slots__ = ("_now", "_open", "_updated_at", "changes", "version")

    def __init__(self, tables: Tables, version: int, now: datetime.datetime) -> None:
        super().__init__(tables)
        self.version = version
        self.changes: list[Change] = []
        self._now = now
        self._updated_at: Timestamp | None = None
        self._open = True

    def create(self, new: O) -> O:
        """Store a new object and return what was stored.

        Raises:
            NameConflictError: names of its kind are unique and this one is taken; checked first.
            ExistsError: the id is taken.
            InvalidObjectError: a rule of its table forbids it.
        """
        table = self._table(type(new))
        stored = self._stamped(new)
        if not stored.meta.HasField("created_at"):
            stored.meta.created_at.CopyFrom(stored.meta.updated_at)
        row = table.schema.row(stored)
        self._check_name(table, row)
        if row.id in table.rows:
            raise ExistsError
        self._check_rules(stored)
        self._change(Change(table.schema.table, Action.CREATE, row), table)
        return stored

    def update(self, new: O) -> O:
        """Put an object in the place of the stored one with its id, and return what was stored.

        Raises:
            NotExistError: there is none.
            SequenceError: ``new`` is not based on the stored version.
            NameConflictError: names of its kind are unique and another object has this one.
            InvalidObjectError: a rule of its table forbids it.
        """
        table = self._table(type(new))
        old = table.rows.get(new.id)
        if old is None:
            raise NotExistError
        before = old.object.meta
        if new.meta.version.index != before.version.index:
            raise SequenceError
        stored = self._stamped(new)
        if before.HasField("created_at"):
            stored.meta.created_at.CopyFrom(before.created_at)
        row = table.schema.row(stored)
        self._check_name(table, row, row.id)
        if isinstance(stored, api.Extension):
            raise InvalidObjectError("extensions cannot be changed")
        self._check_rules(stored)
        self._change(Change(table.schema.table, Action.UPDATE, row, old), table)
        return stored

    def delete(self, kind: type[StoreObject], id: str) -> None:
        """Take out the object with this id.

        Raises:
            NotExistError: there is none.
            InUseError: it is an extension with resources.
        """
        table = self._table(kind)
        row = table.rows.get(id)
        if row is None:
            raise NotExistError
        if kind is api.Extension and self.count(api.Resource, by.kind(row.object.annotations.name)):
            raise InUseError("cannot delete extension because objects of this type exist in the data store")
        self._change(Change(table.schema.table, Action.DELETE, row), table)

    def undo(self, length: int = 0) -> None:
        """Take back all changes but the first ``length``, newest first."""
        while len(self.changes) > length:
            change = self.changes.pop()
            change.undo(self._tables[SCHEMAS_BY_TABLE[change.table].kind])

    def close(self) -> None:
        """Refuse changes from now on."""
        self._open = False

    def _table(self, kind: type[Any]) -> Table:
        if not self._open:
            raise RuntimeError("the transaction has ended")
        return self._tables[kind]

    def _change(self, change: Change, table: Table) -> None:
        change.apply(table)
        self.changes.append(change)

    def _stamped(self, new: O) -> O:
        if self._updated_at is None:
            self._updated_at = timestamp(self._now)
        stored: Any = type(new)()
        stored.CopyFrom(new)
        stored.meta.version.index = self.version
        stored.meta.updated_at.CopyFrom(self._updated_at)
        copy: O = stored
        return copy

    def _check_name(self, table: Table, row: Row, owner: str | None = None) -> None:
        if not table.schema.unique_names or row.name is None:
            return
        for id in table.ids_named(row.name):
            if id != owner:
                raise NameConflictError

    def _check_rules(self, stored: StoreObject) -> None:
        if isinstance(stored, api.Extension):
            name = stored.annotations.name
            if name.lower() in SCHEMAS_BY_TABLE:
                raise InvalidObjectError(f"extension cannot be named {name}: that is a built-in kind")
        elif isinstance(stored, api.Resource):
            if not self._tables[api.Extension].ids_named(stored.kind.lower()):
                raise InvalidObjectError(f"object kind {stored.kind} is unregistered")
        elif isinstance(stored, api.Volume) and not stored.spec.HasField("driver"):
            raise InvalidObjectError("volume must have a driver")
