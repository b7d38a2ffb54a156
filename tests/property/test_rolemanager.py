"""Whatever is wished, whoever is away and whatever fails: the quorum stays, and wishes are met in the end."""

import asyncio
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from swarmkit.api import messages as api
from swarmkit.manager.rolemanager import RoleManager
from swarmkit.raft.errors import MembershipError
from swarmkit.store import Store, Tx
from tests.fakes.group import FakeGroup
from tests.fakes.loop import VirtualClock, VirtualLoop
from tests.fakes.proposer import FakeProposer

WORKER, MANAGER = api.NodeRole.WORKER, api.NodeRole.MANAGER
NODES = [f"n{number}" for number in range(6)]
#: Seconds from a promotion until the node has its certificate and joins, if it still may.
JOIN_SECONDS = 0.5

#: What happens, to which node, how, and how many seconds pass until the next step.
Step = tuple[str, Any, Any, float]
PAUSES = st.sampled_from([0.3, 0.0, 0.005, 1.0, 6.0])
STEPS = st.one_of(
    st.tuples(st.just("wish"), st.sampled_from(NODES), st.sampled_from([WORKER, MANAGER]), PAUSES),
    st.tuples(st.just("away"), st.none(), st.sets(st.sampled_from(NODES[1:5]), max_size=3), PAUSES),
    st.tuples(st.just("delete"), st.sampled_from(NODES), st.none(), PAUSES),
    st.tuples(st.just("fail"), st.none(), st.integers(1, 3), PAUSES),
    st.tuples(st.just("hang"), st.none(), st.none(), PAUSES),
)


class Play:
    """A swarm whose leader's role manager runs anew whenever the leadership moves."""

    def __init__(self, managers: int) -> None:
        clock = VirtualClock()
        self.store = Store(clock)
        self.store.attach(FakeProposer(self.store))
        self.managers = NODES[:managers]
        self.group = FakeGroup(*self.managers)
        self.group.on_moved = self.lead
        self.manager = RoleManager(self.store, clock, self.group)
        self.running: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        def create(tx: Tx) -> None:
            for id in NODES:
                role = MANAGER if id in self.managers else WORKER
                tx.create(api.Node(id=id, role=role, spec=api.NodeSpec(desired_role=role)))

        await self.store.update(create)
        self.lead()

    def lead(self) -> None:
        """Run the role manager of a new leader; that of the old one ends."""
        for task in self.running:
            task.cancel()
        old = list(self.running)

        async def run() -> None:
            if old:
                await asyncio.wait(old)
            await self.manager.run()

        self.running.append(asyncio.ensure_future(run()))

    async def end(self) -> None:
        for task in self.running:
            task.cancel()
        for outcome in await asyncio.gather(*self.running, return_exceptions=True):
            assert isinstance(outcome, asyncio.CancelledError), outcome

    def wished_members(self) -> set[str]:
        return {
            node.id for node in self.store.view().find(api.Node) if node.spec.desired_role == MANAGER
        } & set(self.group.nodes.values())

    async def step(self, kind: str, node_id: Any, value: Any, pause: float) -> None:
        group = self.group
        node = self.store.view().get(api.Node, node_id) if node_id else None
        if kind == "wish" and node is not None:
            # The control API refuses to demote the last one.
            if value == MANAGER or self.wished_members() - {node_id}:
                await self.store.update(lambda tx: _wish(tx, node_id, value))
        elif kind == "away":
            for id in group.nodes.values():
                group.reach(id, id not in value)
        elif kind == "delete" and node is not None and node.spec.desired_role == WORKER:
            await self.store.update(lambda tx: tx.delete(api.Node, node_id))
        elif kind == "fail":
            group.failures = [MembershipError("another change of the group is under way")] * value
        elif kind == "hang":
            group.hang = True
        await asyncio.sleep(pause)
        group.hang = False
        if pause >= JOIN_SECONDS:
            self.join()

    def join(self) -> None:
        """Have the nodes that became managers join, as their certificates allow."""
        for node in self.store.view().find(api.Node):
            if node.role == MANAGER and self.group.member(node.id) is None:
                self.group.join(node.id)


def _wish(tx: Tx, node_id: str, role: api.NodeRole.ValueType) -> None:
    node = api.Node()
    stored = tx.get(api.Node, node_id)
    assert stored is not None
    node.CopyFrom(stored)
    node.spec.desired_role = role
    tx.update(node)


async def play(managers: int, steps: list[Step]) -> None:
    swarm = Play(managers)
    await swarm.begin()
    for step in steps:
        await swarm.step(*step)
        assert swarm.group.violations == []
    swarm.group.unreachable.clear()
    swarm.group.failures.clear()
    # A step that hangs is given up, and one that failed is tried again.
    await asyncio.sleep(20)
    swarm.join()
    await asyncio.sleep(20)
    assert swarm.group.violations == []
    nodes = {node.id: node for node in swarm.store.view().find(api.Node)}
    wished = {id for id, node in nodes.items() if node.spec.desired_role == MANAGER}
    assert set(swarm.group.nodes.values()) == wished
    assert {id for id, node in nodes.items() if node.role == MANAGER} == wished
    await swarm.end()


@settings(max_examples=100)
@given(st.sampled_from([3, 5, 4, 2, 1]), st.lists(STEPS, min_size=5, max_size=25))
@example(3, [("away", None, {"n1"}, 0.3), ("wish", "n2", WORKER, 0.3)])
def test_the_quorum_stays_and_wishes_are_met_in_the_end(managers: int, steps: list[Step]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(play(managers, steps))
