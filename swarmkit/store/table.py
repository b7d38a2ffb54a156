"""One table: rows by id, and indexes that are kept with every change, so that no search scans."""

from bisect import bisect_left
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from functools import partial
from typing import Any

from swarmkit.store import by
from swarmkit.store.errors import InvalidSelectorError
from swarmkit.store.objects import SCHEMAS, IndexEntry, Row, Schema

#: A set of ids that makes up more than this part of its table is put in order along the table's own order.
_LARGE_PART = 1 / 8


class SortedKeys:
    """A changing set of strings in order, kept from the first time somebody asks.

    Changes are remembered and merged at the next reading: a reading costs time linear in the number of keys
    if there were changes, and none otherwise.
    """

    __slots__ = ("_added", "_all", "_keys", "_removed")

    def __init__(self, all: Callable[[], Iterable[str]]) -> None:
        self._all = all
        self._keys: list[str] | None = None
        self._added: set[str] = set()
        self._removed: set[str] = set()

    def added(self, key: str) -> None:
        """Note that ``key`` has come into the set."""
        if self._keys is None:
            return
        if key in self._removed:
            self._removed.discard(key)
        else:
            self._added.add(key)

    def removed(self, key: str) -> None:
        """Note that ``key`` has left the set."""
        if self._keys is None:
            return
        if key in self._added:
            self._added.discard(key)
        else:
            self._removed.add(key)

    def in_order(self) -> list[str]:
        """Return all keys, ascending; not to be changed or kept."""
        if self._keys is None:
            self._keys = sorted(self._all())
        if self._removed:
            self._keys = [key for key in self._keys if key not in self._removed]
            self._removed = set()
        if self._added:
            self._keys = self._keys + sorted(self._added)
            self._keys.sort()  # two ascending runs: a merge
            self._added = set()
        return self._keys

    def with_prefix(self, prefix: str) -> Iterator[str]:
        """Yield the keys that start with ``prefix``, ascending."""
        keys = self.in_order()
        for position in range(bisect_left(keys, prefix), len(keys)):
            if not keys[position].startswith(prefix):
                return
            yield keys[position]


class Table:
    """The objects of one kind."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.rows: dict[str, Row] = {}
        # Ids by index entry. One id, the common case of names and slots, costs no set of its own.
        self._ids: dict[IndexEntry, str | set[str]] = {}
        self._order = SortedKeys(lambda: self.rows)
        self._values = {index: SortedKeys(partial(self._all, index)) for index in schema.prefixes - {"id"}}

    def copy(self) -> "Table":
        """Return another table with the same rows. Changes nothing here, not even an order that is kept."""
        made = Table(self.schema)
        made.rows = dict(self.rows)
        made._ids = {entry: ids if isinstance(ids, str) else set(ids) for entry, ids in self._ids.items()}
        return made

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

    def _enter(self, entries: Iterable[IndexEntry], id: str) -> None:
        for entry in entries:
            ids = self._ids.get(entry)
            if ids is None:
                self._ids[entry] = id
                index, value = entry
                if index in self._values:
                    self._values[index].added(str(value))
            elif isinstance(ids, str):
                self._ids[entry] = {ids, id}
            else:
                ids.add(id)

    def _leave(self, entries: Iterable[IndexEntry], id: str) -> None:
        for entry in entries:
            ids = self._ids[entry]
            if isinstance(ids, set) and len(ids) > 1:
                ids.remove(id)
                continue
            del self._ids[entry]
            index, value = entry
            if index in self._values:
                self._values[index].removed(str(value))

    def _all(self, index: str) -> Iterator[str]:
        return (str(entry[1]) for entry in self._ids if entry[0] == index)

    def _ids_of(self, index: str, value: Hashable) -> Collection[str]:
        ids = self._ids.get((index, value), ())
        return (ids,) if isinstance(ids, str) else ids

    def ids_named(self, folded: str) -> Collection[str]:
        """Return the ids of the objects with this folded name."""
        return self._ids_of("name", folded)

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
                return self._sorted(self._ids_of(index, value))
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
        for value in self._values[index].with_prefix(prefix):
            found.update(dict.fromkeys(sorted(self._ids_of(index, value))))
        return found

    def _sorted(self, ids: Collection[str]) -> Collection[str]:
        if len(ids) < 2:
            return ids
        if len(ids) > _LARGE_PART * len(self.rows):
            return [id for id in self.ids_in_order() if id in ids]
        return sorted(ids)

    def check_invariants(self) -> None:
        """Assert that every index holds exactly the entries of the rows, and the order exactly the ids."""
        expected: dict[IndexEntry, set[str]] = {}
        for id, row in self.rows.items():
            assert row.id == id == row.object.id, f"row {row.id} stands under {id}"
            for entry in self.schema.row(row.object).entries:
                expected.setdefault(entry, set()).add(id)
        actual = {entry: {ids} if isinstance(ids, str) else ids for entry, ids in self._ids.items()}
        assert actual == expected, f"indexes of {self.schema.table} differ from its rows"
        for index, values in self._values.items():
            assert values.in_order() == sorted(self._all(index)), f"order of {index} is wrong"
        assert self.ids_in_order() == sorted(self.rows), f"order of {self.schema.table} is wrong"


def new_tables() -> dict[type[Any], Table]:
    """Make the ten tables, empty."""
    return {kind: Table(schema) for kind, schema in SCHEMAS.items()}
