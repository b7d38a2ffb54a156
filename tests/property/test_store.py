"""Random transactions, commits and losses of leadership against a store that is nothing but dictionaries."""

import asyncio
from functools import partial
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from swarmkit.api import messages as api
from swarmkit.store import (
    Action,
    ExistsError,
    LeadershipLostError,
    NameConflictError,
    NotExistError,
    Store,
    Tx,
    Watch,
    Watcher,
    by,
)
from swarmkit.store.objects import SCHEMAS
from tests.fakes.loop import VirtualClock, VirtualLoop
from tests.fakes.proposer import FakeProposer

IDS = ("a", "b", "c")
NAMES = ("x", "X", "y")
NODES = ("", "n1", "n2")

operations = st.one_of(
    st.tuples(st.just("service"), st.sampled_from(Action), st.sampled_from(IDS), st.sampled_from(NAMES)),
    st.tuples(st.just("task"), st.sampled_from(Action), st.sampled_from(IDS), st.sampled_from(NODES)),
)
transactions = st.tuples(st.lists(operations, max_size=5), st.booleans())
steps = st.one_of(
    transactions.map(lambda value: ("update", value)),
    st.lists(transactions, max_size=4).map(lambda value: ("batch", value)),
    st.integers(1, 3).map(lambda value: ("commit", value)),
    st.booleans().map(lambda value: ("lose", value)),
    st.just(("watch", None)),
)

Model = dict[tuple[str, str], str]
"""Table and id -> name of a service, node of a task."""


class GiveUp(Exception):
    """A callback that changes its mind."""


def make(table: str, id: str, value: str, version: int = 0) -> Any:
    stored: api.Service | api.Task
    if table == "service":
        stored = api.Service(id=id, spec=api.ServiceSpec(annotations=api.Annotations(name=value)))
    else:
        stored = api.Task(id=id, node_id=value)
    stored.meta.version.index = version
    return stored


def perform(tx: Tx, model: Model, operation: tuple[str, Action, str, str]) -> None:
    """Do one operation in the store and, if it is allowed there, in the model; both must agree."""
    table, action, id, value = operation
    kind: Any = api.Service if table == "service" else api.Task
    key = (table, id)
    owners = {k for k, v in model.items() if k[0] == table == "service" and v.lower() == value.lower()}
    stored = tx.get(kind, id)
    assert (stored is not None) == (key in model)
    if action is Action.DELETE:
        expected: Any = None if key in model else NotExistError
    elif action is Action.CREATE:
        expected = NameConflictError if owners else ExistsError if key in model else None
    else:
        expected = NotExistError if key not in model else NameConflictError if owners - {key} else None
    actual: Any = None
    try:
        if action is Action.DELETE:
            tx.delete(kind, id)
        elif action is Action.CREATE:
            tx.create(make(table, id, value))
        else:
            tx.update(make(table, id, value, stored.meta.version.index if stored is not None else 0))
    except (NotExistError, ExistsError, NameConflictError) as error:
        actual = type(error)
    assert actual is expected, operation
    if actual is not None:
        return
    if action is Action.DELETE:
        del model[key]
    else:
        model[key] = value


def content(reader: Any) -> Model:
    services = {("service", s.id): s.spec.annotations.name for s in reader.find(api.Service)}
    return services | {("task", t.id): t.node_id for t in reader.find(api.Task)}


class Machine:
    """The store, its model, and the states that the transactions in flight will lead to."""

    def __init__(self) -> None:
        self.store = Store(VirtualClock())
        self.proposer = FakeProposer(self.store, automatic=False)
        self.store.attach(self.proposer)
        self.states: list[Model] = [{}]
        self.running: list[asyncio.Task[None]] = []
        self.follower = Store(VirtualClock())
        self.watched: list[tuple[Model, Watcher]] = []

    @property
    def newest(self) -> Model:
        return self.states[-1]

    def callback(self, tx: Tx, value: tuple[Any, bool], model: Model) -> None:
        operations, give_up = value
        before = dict(model)
        for operation in operations:
            perform(tx, model, operation)
        if give_up:
            model.clear()
            model.update(before)
            raise GiveUp

    async def update(self, value: tuple[Any, bool]) -> None:
        model = dict(self.newest)
        waiting = self.proposer.waiting

        async def run() -> None:
            try:
                await self.store.update(lambda tx: self.callback(tx, value, model))
            except (GiveUp, LeadershipLostError):
                pass

        self.running.append(asyncio.ensure_future(run()))
        await asyncio.sleep(0)
        if self.proposer.waiting > waiting:
            self.states.append(model)
        else:
            assert model == self.newest

    async def batch(self, parts: list[tuple[Any, bool]]) -> None:
        model = dict(self.newest)
        waiting = self.proposer.waiting

        async def run() -> None:
            try:
                async with self.store.batch() as batch:
                    for part in parts:
                        try:
                            batch.update(partial(self.callback, value=part, model=model))
                        except GiveUp:
                            self.store.check_invariants()
            except LeadershipLostError:
                pass

        self.running.append(asyncio.ensure_future(run()))
        await asyncio.sleep(0)
        if self.proposer.waiting > waiting:
            self.states.append(model)

    async def commit(self, count: int) -> None:
        for _ in range(min(count, self.proposer.waiting)):
            self.proposer.commit()
            self.states.pop(0)
            index, data = self.proposer.log[-1]
            self.follower.apply(index, data)

    async def lose(self, commits_elsewhere: bool) -> None:
        entries = self.proposer.lose_leadership()
        if commits_elsewhere and entries:
            index = self.proposer.append_foreign(entries[0])
            self.follower.apply(index, entries[0])
            self.states = [self.states[1]]
        else:
            self.states = [self.states[0]]
        await asyncio.gather(*self.running)
        self.proposer.gain_leadership()

    async def watch(self, _: None) -> None:
        self.watched.append(self.store.view_and_watch(content, Watch(api.Service), Watch(api.Task)))

    async def check(self) -> None:
        self.store.check_invariants()
        assert content(self.store.view()) == self.states[0]
        assert await self.store.update(content) == self.newest
        for node in NODES:
            found = [task.id for task in self.store.view().find(api.Task, by.node(node))]
            assert found == sorted(
                id for (table, id), v in self.states[0].items() if (table, v) == ("task", node)
            )
        for name in NAMES:
            for service in self.store.view().find(api.Service, by.name(name)):
                assert service.spec.annotations.name.lower() == name.lower()

    def check_watchers(self) -> None:
        """What was seen at first plus all events is what is there now; each event fits what was before it."""
        for seen, watcher in self.watched:
            state: Model = dict(seen)
            versions = [0]
            while (commit := watcher.next_nowait()) is not None:
                versions.append(commit.version)
                for event in commit.events:
                    stored: Any = event.object
                    is_task = isinstance(stored, api.Task)
                    key = ("task", stored.id) if is_task else ("service", stored.id)
                    assert (key in state) == (event.action is not Action.CREATE)
                    assert (event.old is not None) == (event.action is Action.UPDATE)
                    state[key] = stored.node_id if is_task else stored.spec.annotations.name
                    if event.action is Action.DELETE:
                        del state[key]
            assert versions == sorted(set(versions))
            assert state == content(self.store.view())

    def check_copies(self) -> None:
        """A follower, a restored snapshot and a replay of the log hold the same objects."""
        restored = Store(VirtualClock())
        restored.prepare(self.store.snapshot()())()
        replayed = Store(VirtualClock())
        for index, data in self.proposer.log:
            replayed.apply(index, data)
        for other in (self.follower, restored, replayed):
            other.check_invariants()
            for kind in SCHEMAS:
                assert other.view().find(kind) == self.store.view().find(kind)


async def run(script: list[tuple[str, Any]]) -> None:
    machine = Machine()
    for step, value in script:
        await getattr(machine, step)(value)
        await machine.check()
    await machine.lose(False)
    await machine.check()
    machine.check_watchers()
    machine.check_copies()
    machine.store.close()


@settings(max_examples=150)
@given(st.lists(steps, max_size=25))
def test_the_store_agrees_with_a_naive_model(script: list[tuple[str, Any]]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run(script))
