"""The store: ten tables, transactions on them, and the state machine that the replicated log drives."""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from swarmkit.clock import Clock
from swarmkit.store import codec
from swarmkit.store.batch import Batch
from swarmkit.store.errors import CompactedError, DivergenceError, VersionAheadError
from swarmkit.store.events import Action, Commit, Event, Watch
from swarmkit.store.objects import SCHEMAS, SCHEMAS_BY_TABLE, StoreObject
from swarmkit.store.proposer import LeadershipLostError, Proposer
from swarmkit.store.replacement import replacement
from swarmkit.store.table import Table, new_tables
from swarmkit.store.transaction import Change, Reader, Tables, Tx
from swarmkit.store.watch import Watcher, WatchHub, filtered

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _InFlight:
    """A transaction that was proposed and is not applied yet."""

    payload: bytes
    changes: Sequence[Change]


class Store:
    """Holds the swarm's objects. All methods are called on the event loop; nothing here blocks.

    Two sets of tables share their rows: ``committed`` is what readers and watchers see; ``newest`` has in
    addition what is in flight, and transactions run on it. So transactions need not wait for each other:
    each runs on the state that includes those before it, and takes effect if and only if those do.

    Implements ``proposer.StateMachine``. Without a proposer every transaction is committed at once, with
    versions counted here.
    """

    def __init__(
        self, clock: Clock, proposer: Proposer | None = None, rng: random.Random | None = None
    ) -> None:
        self._clock = clock
        self._proposer = proposer
        self._rng = rng or random.Random()
        self._committed = new_tables()
        self._newest = new_tables()
        self._reader = Reader(self._committed)
        self._in_flight: deque[_InFlight] = deque()
        self._open_batch: Batch | None = None
        self._running: Tx | None = None
        self._applied = 0
        self._hub = WatchHub()

    def attach(self, proposer: Proposer) -> None:
        """Connect the store to replication: from now on changes are proposed, and applied when committed."""
        self._proposer = proposer

    def close(self) -> None:
        """End all watchers."""
        self._hub.close()

    @property
    def version(self) -> int:
        """The log index of the last entry that was applied."""
        return self._applied

    # Reading and watching

    def view(self) -> Reader:
        """Return a reader of the committed state; do not keep it across an ``await``."""
        return self._reader

    def watch(self, *watches: Watch) -> Watcher:
        """Return a stream of later commits, filtered by ``watches``; without any, of everything."""
        return self._hub.subscribe(watches)

    def view_and_watch(self, callback: Callable[[Reader], T], *watches: Watch) -> tuple[T, Watcher]:
        """Read and subscribe in one step: every commit not seen by ``callback`` is announced, none twice."""
        return callback(self._reader), self._hub.subscribe(watches)

    def watch_from(self, version: int, *watches: Watch) -> Watcher:
        """Return a stream that begins with the logged changes behind ``version`` and goes on with later ones.

        Replayed events carry no predecessor. An object's version is below the index of its own entry, so a
        watch from there begins with the object's own change or an earlier one.

        Raises:
            VersionAheadError: the log has not reached ``version``.
            CompactedError: the log no longer reaches back to it, or there is none.
            StoppedError: the node is stopping, or is no member of the group.
        """
        if self._proposer is not None:
            entries = self._proposer.changes_since(version)
        else:
            entries = () if version == self._applied else None
        if entries is None:
            if version > self._applied:
                raise VersionAheadError(version, self._applied)
            raise CompactedError(version)
        return self._hub.subscribe(watches, _replay([*entries], watches))

    # Transactions

    async def update(self, callback: Callable[[Tx], T]) -> T:
        """Run ``callback`` at once on the newest state, commit its changes and return its result.

        No change: success without a proposal, on any manager. Cancelling the call does not take back the
        proposal.

        Raises:
            ProposalError: the changes were not confirmed; see there.
            Exception: whatever ``callback`` raises; its changes are undone.
        """
        self._send_open_part()
        tx = self._begin()
        try:
            result = self._run(tx, callback)
        finally:
            tx.close()
        if tx.changes:
            future = self._propose(tx, [codec.encode_change(change) for change in tx.changes])
            if future is not None:
                await future
        return result

    def batch(self) -> Batch:
        """Return a batch: many changes, independent of each other, in few proposals."""
        return Batch(self)

    def _begin(self) -> Tx:
        proposer, version = self._proposer, self._applied
        if proposer is not None and proposer.may_propose:  # if it may not, changes will be refused
            version = proposer.next_index() - 1
        return Tx(self._newest, version, self._clock.now())

    def _run(self, tx: Tx, callback: Callable[[Tx], T]) -> T:
        """Run ``callback``; if it raises, undo what it changed."""
        if self._running is not None:
            raise RuntimeError("a transaction cannot be started inside another")
        start = len(tx.changes)
        self._running = tx
        try:
            return callback(tx)
        except BaseException:
            tx.undo(start)
            raise
        finally:
            self._running = None

    def _open_part(self, batch: Batch) -> Tx:
        self._send_open_part()
        self._open_batch = batch
        return self._begin()

    def _close_part(self, batch: Batch) -> None:
        if self._open_batch is batch:
            self._open_batch = None

    def _send_open_part(self) -> None:
        """Propose what a batch has open: the next transaction sees it, so its entry must come first."""
        if self._open_batch is not None:
            self._open_batch._send()

    def _propose(self, tx: Tx, pieces: Sequence[bytes]) -> "asyncio.Future[int] | None":
        """Commit a transaction's changes, or propose them; if that is refused, undo them and raise."""
        if self._proposer is None:
            self._applied += 1
            self._commit(self._applied, tx.changes)
            return None
        payload = codec.entry(self._rng.getrandbits(64) or 1, pieces)
        in_flight = _InFlight(payload, tx.changes)
        self._in_flight.append(in_flight)
        try:
            return self._proposer.propose(payload)
        except BaseException:
            if self._in_flight and self._in_flight[-1] is in_flight:
                self._in_flight.pop()
                tx.undo()
            raise

    def _commit(self, version: int, changes: Sequence[Change]) -> None:
        for change in changes:
            change.apply(_table_of(self._committed, change))
        self._hub.publish(version, (change.event() for change in changes))

    # StateMachine

    def apply(self, index: int, data: bytes) -> None:
        """Apply a committed entry: the oldest in flight as it was executed here, any other by its content.

        Raises:
            DivergenceError: the entry does not fit the tables (D23), or comes between those in flight.
        """
        self._applied = index
        if self._in_flight:
            if self._in_flight[0].payload != data:
                raise DivergenceError(f"entry {index} overtook transactions that are in flight")
            self._commit(index, self._in_flight.popleft().changes)
            return
        self.leadership_lost()  # at most the open part of a batch on a manager that does not lead
        changes = []
        for action, table, stored in codec.decode_entry(data):
            change = self._foreign_change(index, action, table, stored)
            change.apply(_table_of(self._newest, change))
            changes.append(change)
        self._commit(index, changes)

    def _foreign_change(self, index: int, action: Action, table: str, stored: StoreObject) -> Change:
        schema = SCHEMAS_BY_TABLE[table]
        target = self._newest[schema.kind]
        old = target.rows.get(stored.id)
        if (old is None) != (action is Action.CREATE):
            state = "it does not exist" if old is None else "it exists"
            raise DivergenceError(f"entry {index}: no {action.name} of {table} {stored.id}: {state}")
        if action is Action.DELETE:
            assert old is not None
            return Change(table, action, old)
        row = schema.row(stored)
        if schema.unique_names and row.name is not None:
            if any(id != row.id for id in target.ids_named(row.name)):
                raise DivergenceError(f"entry {index}: the name of {table} {stored.id} is taken")
        return Change(table, action, row, old)

    def leadership_lost(self) -> None:
        """Drop what is in flight and what a batch has open: the newest state is the committed one again."""
        if self._open_batch is not None:
            self._open_batch._drop(LeadershipLostError())
        while self._in_flight:
            for change in reversed(self._in_flight.pop().changes):
                change.undo(_table_of(self._newest, change))

    def snapshot(self) -> Callable[[], bytes]:
        """Pin the committed state; the returned function serialises it and may run in a thread."""
        return codec.encode_snapshot(
            {kind: [row.object for row in table.rows.values()] for kind, table in self._committed.items()}
        )

    def prepare(self, data: bytes) -> Callable[[], None]:
        """Work out what a snapshot makes of the state; the returned function replaces it, as one commit.

        Raises:
            DivergenceError: ``data`` is not a snapshot.
        """
        made = replacement(self._committed, data)

        def replace() -> None:
            self.leadership_lost()
            self._committed.update(made.committed)
            self._newest.update(made.newest)
            self._applied = max(self._applied, made.version)
            self._hub.publish(self._applied, (change.event() for change in made.changes))

        return replace

    def check_invariants(self) -> None:
        """Assert that indexes match rows, and that newest is committed plus what is in flight."""
        newest: dict[type[Any], dict[str, object]] = {
            kind: dict(table.rows) for kind, table in self._committed.items()
        }
        open_part = self._open_batch._part if self._open_batch is not None else None
        parts: Iterable[Sequence[Change]] = [
            *(item.changes for item in self._in_flight),
            *([open_part.changes] if open_part is not None else []),
        ]
        for change in (change for part in parts for change in part):
            rows = newest[SCHEMAS_BY_TABLE[change.table].kind]
            if change.action is Action.DELETE:
                del rows[change.row.id]
            else:
                rows[change.row.id] = change.row
        for kind in SCHEMAS:
            assert self._newest[kind].rows == newest[kind], (
                f"newest {kind} differs from committed and in flight"
            )
            self._newest[kind].check_invariants()
            self._committed[kind].check_invariants()


def _replay(entries: list[tuple[int, bytes]], watches: tuple[Watch, ...]) -> Iterator[Commit]:
    """Parse one entry after the other as the reader asks for them, so that a long replay holds nobody up."""
    for index, data in entries:
        events = (Event(action, stored) for action, _, stored in codec.decode_entry(data))
        commit = filtered(watches, index, events)
        if commit is not None:
            yield commit


def _table_of(tables: Tables, change: Change) -> Table:
    return tables[SCHEMAS_BY_TABLE[change.table].kind]
