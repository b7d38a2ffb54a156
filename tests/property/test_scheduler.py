"""The scheduler's accounts and placements against slow twins, on random histories."""

from collections import Counter
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from swarmkit.api import messages as api
from swarmkit.manager.scheduler import generic
from swarmkit.manager.scheduler.decisions import Assignment
from swarmkit.manager.scheduler.filters import PASSES, Pipeline
from swarmkit.manager.scheduler.nodeinfo import NodeInfo
from swarmkit.manager.scheduler.profile import Profiles
from tests.unit.manager.scheduler.build import World, changed, host_port, node, resources, task, values

NODES = ("a", "b", "c", "d")
STATES = (api.TaskState.PENDING, api.TaskState.ASSIGNED, api.TaskState.RUNNING, api.TaskState.FAILED)

made_nodes = st.builds(
    lambda name, cpus, az, ready, apples: node(
        name,
        cpus=cpus,
        labels={"az": az} if az else {},
        state=api.NodeStatus.READY if ready else api.NodeStatus.DOWN,
        generic=resources(apple=apples, orange="red green"),
    ),
    st.sampled_from(NODES),
    st.integers(0, 4),
    st.sampled_from(["", "1", "2"]),
    st.integers(0, 4).map(bool),
    st.integers(1, 3),
)

made_tasks = st.builds(
    lambda name, service, version, on, state, alive, cpus, port, limit, spread, oranges: task(
        name,
        service,
        version=version,
        node_id=on if state != api.TaskState.PENDING or on == "d" else "",
        state=state,
        desired=api.TaskState.RUNNING if alive else api.TaskState.SHUTDOWN,
        cpus=cpus,
        ports=[host_port(80)] if port else [],
        max_replicas=limit,
        spread=["node.labels.az"] if spread else [],
        generic={"orange": 1} if oranges else None,
    ),
    st.integers(0, 9).map("t{}".format),
    st.sampled_from(["s1", "s2"]),
    st.sampled_from([None, 1]),
    st.sampled_from(NODES),
    st.sampled_from(STATES),
    st.integers(0, 5).map(bool),
    st.integers(0, 2),
    st.integers(0, 4).map(lambda number: number == 0),
    st.sampled_from([0, 0, 0, 1, 2]),
    st.booleans(),
    st.integers(0, 4).map(lambda number: number == 0),
)

steps = st.lists(
    st.one_of(
        st.tuples(st.just("node"), made_nodes),
        st.tuples(st.just("drop"), st.sampled_from(NODES)),
        st.tuples(st.just("task"), made_tasks),
        st.tuples(st.just("task"), made_tasks),
        st.tuples(st.just("delete"), st.integers(0, 9).map("t{}".format)),
        st.tuples(st.just("tick"), st.none()),
    ),
    max_size=40,
)


class History:
    """Plays random steps, as a store would announce them; keeps what a store would hold."""

    def __init__(self) -> None:
        self.world = World(services=[api.Service(id="s1"), api.Service(id="s2")])
        self.nodes: dict[str, api.Node] = {}
        self.tasks: dict[str, api.Task] = {}

    def play(self, kind: str, argument: object) -> None:
        if isinstance(argument, api.Node):
            announce = self.world.update if argument.id in self.nodes else self.world.create
            self.nodes[argument.id] = argument
            announce(argument)
        elif isinstance(argument, api.Task):
            announce = self.world.update if argument.id in self.tasks else self.world.create
            before = self.tasks.get(argument.id)
            if before is not None and before.status.state > api.TaskState.RUNNING:
                return  # states never go back
            if before is not None:
                # A task's spec and service never change.
                argument = changed(
                    before,
                    node_id=before.node_id or argument.node_id,
                    state=max(before.status.state, argument.status.state),
                    desired_state=max(before.desired_state, argument.desired_state),
                )
            self.tasks[argument.id] = argument
            announce(argument)
        elif kind == "drop" and argument in self.nodes:
            self.world.delete(self.nodes.pop(str(argument)))
        elif kind == "delete" and argument in self.tasks:
            self.world.delete(self.tasks.pop(str(argument)))
        elif kind == "tick":
            self.tick()

    def tick(self) -> None:
        self.world.tick()
        self.tasks.update(self.world.state.tasks)

    def verify_accounts(self) -> None:
        """Count everything anew from the stored objects."""
        for node_id, on in self.nodes.items():
            info = self.world.state.nodes.get(node_id)
            assert info is not None
            held = [
                one
                for one in self.tasks.values()
                if one.node_id == node_id
                and api.TaskState.ASSIGNED <= one.status.state <= api.TaskState.RUNNING
            ]
            reserved = sum(one.spec.resources.reservations.nano_cpus for one in held)
            assert info.nano_cpus == on.description.resources.nano_cpus - reserved
            active = Counter(one.service_id for one in held if one.desired_state <= api.TaskState.COMPLETE)
            assert info.services == active
            assert sum(info.ports.values()) == sum(len(one.endpoint.ports) for one in held)
            taken = [entry for one in held for entry in one.assigned_generic_resources]
            left = generic.consume(on.description.resources.generic, taken)
            assert sorted(values(info.generic)) == sorted(values(left))


@given(steps)
@settings(max_examples=300)
def test_accounts_are_what_the_stored_tasks_make_whatever_happened(history: list[tuple[str, object]]) -> None:
    played = History()
    for kind, argument in history:
        played.play(kind, argument)
        played.verify_accounts()


@given(steps)
@settings(max_examples=300)
def test_after_a_tick_no_waiting_task_fits_anywhere_and_each_is_told_the_state_it_is_in(
    history: list[tuple[str, object]],
) -> None:
    played = History()
    for kind, argument in history:
        played.play(kind, argument)
    played.tick()
    state = played.world.state
    for group in state.groups.values():
        verdicts = [group.pipeline.verdict(info) for info in state.nodes.slots if info is not None]
        assert PASSES not in verdicts
    fresh = World(services=played.world.services.values())
    fresh.create(*played.nodes.values())
    fresh.create(*(changed(one, err="") for one in played.tasks.values()))
    fresh.tick()
    for group in state.groups.values():
        for task_id, one in group.tasks.items():
            assert one.status.err == fresh.errors[task_id], "a retry says what a first attempt would"
    settled = played.world.writes
    played.tick()
    assert played.world.writes == settled, "what was told is not told again"


def reference(
    world: World, tasks: list[api.Task], key: Callable[[NodeInfo], tuple[int, ...]]
) -> Counter[str]:
    """Place one task at a time on the best of all nodes, looking at each node anew."""
    profiles = Profiles()
    placed: Counter[str] = Counter()
    for one in tasks:
        pipeline = Pipeline(profiles.of(one), one.service_id)
        fitting = [
            info for info in world.state.nodes.slots if info is not None and pipeline.verdict(info) == PASSES
        ]
        if not fitting:
            break
        best = min(fitting, key=key)
        placed[best.id] += 1
        world.create(changed(one, node_id=best.id, state=api.TaskState.ASSIGNED))
    return placed


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 12)), min_size=1, max_size=6),
    st.integers(0, 20),
)
@settings(max_examples=200)
def test_a_group_is_spread_as_by_placing_one_task_at_a_time_on_the_best_node(
    cluster: list[tuple[int, int, int]], count: int
) -> None:
    def build() -> World:
        world = World(services=[api.Service(id="service")])
        for number, (own, foreign, cpus) in enumerate(cluster):
            world.create(node(f"n{number}", cpus=cpus))
            for replica in range(own + foreign):
                service = "service" if replica < own else "other"
                name = f"r{number}-{replica}"
                world.create(task(name, service, node_id=f"n{number}", state=api.TaskState.RUNNING))
        return world

    tasks = [task(f"p{number:02}", cpus=1) for number in range(count)]
    slow = reference(build(), tasks, lambda info: (info.services.get("service", 0), info.active, info.slot))
    fast = build()
    fast.create(*tasks)
    placed = Counter(decision.node.id for decision in fast.decide() if isinstance(decision, Assignment))
    levels = [fast.counts("service")[on] for on in sorted(fast.counts())]
    twin = build().counts("service")
    assert sorted(levels) == sorted(twin[on] + slow[on] for on in twin)
    assert sum(placed.values()) == sum(slow.values())


@given(
    st.lists(st.tuples(st.sampled_from("xyz"), st.integers(0, 6), st.integers(0, 8)), min_size=1, max_size=6)
)
@settings(max_examples=200)
def test_branches_are_levelled_as_far_as_they_have_room(cluster: list[tuple[str, int, int]]) -> None:
    world = World(services=[api.Service(id="service")])
    for number, (az, own, room) in enumerate(cluster):
        world.create(node(f"n{number}", cpus=own + room, labels={"az": az}))
        for replica in range(own):
            name = f"r{number}-{replica}"
            world.create(task(name, cpus=1, node_id=f"n{number}", state=api.TaskState.RUNNING))
    world.create(*(task(f"p{number}", cpus=1, spread=["node.labels.az"]) for number in range(10)))
    placed = Counter(world.tick().values())
    zones: dict[str, list[int]] = {}
    for number, (az, own, room) in enumerate(cluster):
        got = placed[f"n{number}"]
        count, new, left = zones.get(az, [0, 0, 0])
        zones[az] = [count + own + got, new + got, left + room - got]
    assert sum(placed.values()) == min(10, sum(room for _, _, room in cluster))
    for count, new, _ in zones.values():
        for other, _, left in zones.values():
            assert not new or not left or count <= other + 1, (
                "a branch got a task that a lower one had room for"
            )
