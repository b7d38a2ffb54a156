"""The node table and its deadline heap under arbitrary histories, against plain models."""

import random

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from swarmkit.manager.dispatcher.config import DispatcherConfig
from swarmkit.manager.dispatcher.deadlines import Deadlines
from swarmkit.manager.dispatcher.errors import DispatcherError
from swarmkit.manager.dispatcher.nodes import NodeTable

NODES = st.sampled_from(("n1", "n2", "n3"))
SESSIONS = st.sampled_from(("", "s1", "s2"))


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("set"), st.sampled_from("abc"), st.integers(0, 20)),
            st.tuples(st.just("discard"), st.sampled_from("abc"), st.just(0)),
            st.tuples(st.just("pop"), st.just(""), st.integers(0, 20)),
        )
    )
)
def test_the_heap_does_what_a_dictionary_does(steps: list[tuple[str, str, int]]) -> None:
    deadlines, model = Deadlines(), dict[str, int]()
    for what, key, moment in steps:
        if what == "set":
            deadlines.set(key, moment)
            model[key] = moment
        elif what == "discard":
            deadlines.discard(key)
            model.pop(key, None)
        else:
            due = sorted((at, name) for name, at in model.items() if at <= moment)
            assert deadlines.pop_due(moment) == [name for _, name in due]
            for _, name in due:
                del model[name]
        deadlines.check_invariants()
        soonest = deadlines.next()
        assert (soonest is None) == (not model)
        assert soonest is None or soonest <= min(model.values())


class NodeTableHistory(RuleBasedStateMachine):
    """Nodes register, beat, fall silent and come back in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.config = DispatcherConfig(orphan_seconds=100.0)
        self.table = NodeTable(self.config, random.Random(0))
        self.now = 0.0
        self.known: set[str] = set()
        self.sessions: dict[str, str] = {}
        self.heard: dict[str, float] = {}

    @rule(seconds=st.floats(0, 40))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        for expiry in self.table.expire(self.now):
            silent = self.now - self.heard.pop(expiry.node_id)
            assert silent >= 13.5
            assert expiry.unknown == (self.sessions.pop(expiry.node_id) == "")
            self.table.add_down(expiry.node_id, self.now)
        for node_id, moment in self.heard.items():
            assert self.now - moment < (33.0 if self.sessions[node_id] == "" else 16.5)
        for node_id in self.table.orphaned(self.now):
            assert node_id not in self.sessions

    @rule(node_id=NODES)
    def lead(self, node_id: str) -> None:
        if node_id not in self.known:  # a table begins with the nodes of the store, each once
            self.known.add(node_id)
            self.table.add_unknown(node_id, self.now)
            self.sessions[node_id], self.heard[node_id] = "", self.now

    @rule(node_id=NODES, session_id=st.sampled_from(("s1", "s2")))
    def register(self, node_id: str, session_id: str) -> None:
        self.known.add(node_id)
        try:
            self.table.count_attempt(node_id, self.now)
        except DispatcherError:
            assert node_id in self.sessions
            return
        self.table.register(node_id, session_id, self.now)
        self.sessions[node_id], self.heard[node_id] = session_id, self.now

    @rule(node_id=NODES, session_id=SESSIONS)
    def beat(self, node_id: str, session_id: str) -> None:
        valid = session_id != "" and self.sessions.get(node_id) == session_id
        try:
            period = self.table.heartbeat(node_id, session_id, self.now)
        except DispatcherError:
            assert not valid
            return
        assert valid
        assert 4.5 <= period < 5.5
        self.heard[node_id] = self.now

    @invariant()
    def consistent(self) -> None:
        self.table.check_invariants()


TestNodeTableHistory = NodeTableHistory.TestCase
