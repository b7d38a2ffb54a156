"""One table: rows by id, and indexes that are kept with every change, so that no search scans."""

from bisect import bisect_left
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from typing import Any

from swarmkit.store import by
from swarmkit.store.errors import InvalidSelectorError
from swarmkit.store.objects import SCHEMAS, Row, Schema

#: A set of ids that makes up more than this part of its table is put in order along the table's own order.
_LARGE_PART = 1 / 8


class SortedKeys:
    """The keys of a mapping in order, kept from the first time somebody asks.

    Additions are remembered and merged at the next reading: a reading costs time linear in the number of keys
    if there were changes, and none otherwise.
    """

    __slots__ = ("_added", "_keys", "_removed", "_source")

    def __init__(self, source: Mapping[str, object]) -> None:
        self._source = source
        self._keys: list[str] | None = None
        self._added: set[str] = set()
        self._removed = False

    def added(self, key: str) -> None:
        """Note that ``key`` has come into the mapping."""
        if self._keys is not None:
            self._added.add(key)

    def removed(self, key: str) -> None:
        """Note that ``key`` has left the mapping."""
        if self._keys is not None:
            self._added.discard(key)
            self._removed = True

    def in_order(self) -> list[str]:
        """Return all keys, ascending; not to be changed or kept."""
        keys = self._keys
        if keys is None:
            keys = sorted(self._source)
        elif self._removed:
            keys = [key for key in keys if key in self._source and key not in self._added]
        if self._added:
            keys = keys + sorted(self._added)
            keys.sort()
            self._added = set()
        self._removed = False
        self._keys = keys
        return keys

    def with_prefix(self, prefix: str) -> Iterator[str]:
        """Yield the keys that start with ``prefix``, ascending."""
        keys = self.in_order()
        for position in range(bisect_left(keys, prefix), len(keys)):
            if not keys[position].startswith(prefix):
                return
            yield keys[position]


class Index:
    """Ids by value. A value with one id, the common case of names and slots, costs no set of its own."""

    __slots__ = ("_ids", "_sorted")

    def __init__(self, sortable: bool) -> None:
        self._ids: dict[Hashable, str | set[str]] = {}
        self._sorted = SortedKeys(self._ids) if sortable else None  # type: ignore[arg-type]

    def add(self, value: Hashable, id: str) -> None:
        """Enter ``id`` under ``value``."""
        ids = self._ids.get(value)
        if ids is None:
            self._ids[value] = id
            if self._sorted is not None:
                self._sorted.added(str(value))
        elif isinstance(ids, str):
            self._ids[value] = {ids, id}
        else:
            ids.add(id)

    def discard(self, value: Hashable, id: str) -> None:
        """Take out ``id`` from under ``value``; it must be there."""
        ids = self._ids[value]
        if isinstance(ids, set) and len(ids) > 1:
            ids.discard(id)
            return
        del self._ids[value]
        if self._sorted is not None:
            self._sorted.removed(str(value))

    def ids(self, value: Hashable) -> Collection[str]:
        """Return the ids under ``value``, in no order."""
        ids = self._ids.get(value, ())
        return (ids,) if isinstance(ids, str) else ids

    def with_prefix(self, prefix: str) -> Iterator[Collection[str]]:
        """Yield the ids of each value that starts with ``prefix``, by ascending value."""
        if self._sorted is not None:
            for value in self._sorted.with_prefix(prefix):
                yield self.ids(value)

    def content(self) -> dict[Hashable, set[str]]:
        """Return a copy of everything, for comparison."""
        return {value: {ids} if isinstance(ids, str) else set(ids) for value, ids in self._ids.items()}


class Table:
    """The objects of one kind."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.rows: dict[str, Row] = {}
        self._order = SortedKeys(self.rows)
        self._indexes = {index: Index(index in schema.prefixes) for index in schema.indexes}

    def put(self, row: Row) -> None:
        """Insert a row, or put it in the place of the one with its id."""
        old = self.rows.get(row.id)
        self.rows[row.id] = row
        if old is None:
            self._order.added(row.id)
            self._enter(row.entries, row.id)
        elif old.entries != row.entries:
            self._leave([entry for entry in old.entries if entry not in row.entries], row.id)
            self._enter([entry for entry in row.entries if entry not in old.entries], row.id)

    def remove(self, id: str) -> None:
        """Take out the row of ``id``; it must be there."""
        row = self.rows.pop(id)
        self._order.removed(id)
        self._leave(row.entries, id)

    def _enter(self, entries: Iterable[tuple[str, Hashable]], id: str) -> None:
        indexes = self._indexes
        for index, value in entries:
            indexes[index].add(value, id)

    def _leave(self, entries: Iterable[tuple[str, Hashable]], id: str) -> None:
        indexes = self._indexes
        for index, value in entries:
            indexes[index].discard(value, id)

    def ids_named(self, folded: str) -> Collection[str]:
        """Return the ids of the objects with this folded name."""
        return self._indexes["name"].ids(folded)

    def ids_in_order(self) -> list[str]:
        """Return all ids, ascending; not to be changed or kept."""
        return self._order.in_order()

    def select(self, selectors: tuple[by.Selector, ...]) -> Collection[str]:
        """Return the ids that at least one selector selects, each once; all of them if there are none.

        Raises:
            InvalidSelectorError: the table does not know a selector.
        """
        if not selectors:
            return self.ids_in_order()
        if len(selectors) == 1:
            return self._select(selectors[0])
        found: dict[str, None] = {}
        for selector in selectors:
            found.update(dict.fromkeys(self._select(selector)))
        return found

    def _select(self, selector: by.Selector) -> Collection[str]:
        match selector:
            case by.Exact(index, value):
                if index not in self.schema.indexes:
                    raise InvalidSelectorError(self.schema.table, index)
                return self._sorted(self._indexes[index].ids(value))
            case by.Prefix(index, prefix):
                return self._select_prefix(index, prefix)
            case by.AnyOf(selectors):
                return self.select(selectors) if selectors else ()
            case by.All():
                return self.ids_in_order()

    def _select_prefix(self, index: str, prefix: str) -> Collection[str]:
        if index not in self.schema.prefixes:
            raise InvalidSelectorError(self.schema.table, f"{index} prefix")
        if index == "id":
            return list(self._order.with_prefix(prefix))
        found: dict[str, None] = {}
        for ids in self._indexes[index].with_prefix(prefix):
            found.update(dict.fromkeys(sorted(ids)))
        return found

    def _sorted(self, ids: Collection[str]) -> Collection[str]:
        if len(ids) < 2:
            return ids
        if len(ids) > _LARGE_PART * len(self.rows):
            return [id for id in self.ids_in_order() if id in ids]
        return sorted(ids)

    def check_invariants(self) -> None:
        """Assert that every index holds exactly the entries of the rows, and the order exactly the ids."""
        expected: dict[str, dict[Hashable, set[str]]] = {index: {} for index in self._indexes}
        for id, row in self.rows.items():
            assert row.id == id == row.object.id, f"row {row.id} stands under {id}"
            for index, value in self.schema.row(row.object).entries:
                expected[index].setdefault(value, set()).add(id)
        actual = {index: entries.content() for index, entries in self._indexes.items()}
        assert actual == expected, f"indexes of {self.schema.table} differ from its rows"
        assert self.ids_in_order() == sorted(self.rows), f"order of {self.schema.table} is wrong"


def new_tables() -> dict[type[Any], Table]:
    """Make the ten tables, empty."""
    return {kind: Table(schema) for kind, schema in SCHEMAS.items()}
