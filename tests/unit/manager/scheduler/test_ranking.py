from swarmkit.api import messages as api
from swarmkit.manager.scheduler.filters import Refusals
from swarmkit.manager.scheduler.nodes import NodeSet
from swarmkit.manager.scheduler.profile import Profiles
from swarmkit.manager.scheduler.ranking import Branch, Preference, ranked
from tests.unit.manager.scheduler.build import node, pipeline, task

PROFILES = Profiles()


def nodes_with(loads: dict[str, tuple[int, int]]) -> NodeSet:
    """Nodes with numbers of tasks of the service, and of another one."""
    nodes = NodeSet()
    for name, (own, foreign) in loads.items():
        nodes.put(node(name))
        for number in range(own + foreign):
            service = "service" if number < own else "other"
            one = task(f"{name}{number}", service, node_id=name, state=api.TaskState.RUNNING)
            nodes.track(one, name, PROFILES.of(one))
    return nodes


def take(nodes: NodeSet, count: int, of: api.Task | None = None, faulty: dict[str, int] | None = None) -> str:
    of = of or task("new")
    preference = Preference("service", faulty or {}, pipeline(of), Refusals())
    special = [info for info in nodes.by_load() if preference.is_special(info)]
    taken = ""
    for number, info in enumerate(ranked(preference, special, nodes.by_load())):
        assert info is not None
        taken += info.id
        one = task(f"placed{number}", node_id=info.id, state=api.TaskState.ASSIGNED)
        nodes.track(one, info.id, PROFILES.of(of))
        if len(taken) == count:
            break
    return taken


def test_fewer_tasks_of_the_service_come_before_fewer_tasks() -> None:
    assert take(nodes_with({"a": (1, 0), "b": (0, 5), "c": (0, 4)}), 3) == "cba"


def test_nodes_are_levelled_one_task_at_a_time() -> None:
    assert take(nodes_with({"a": (2, 0), "b": (0, 0), "c": (1, 0)}), 6) == "bbcabc"


def test_many_failures_outweigh_everything_and_fewer_of_them_win() -> None:
    nodes = nodes_with({"a": (0, 0), "b": (0, 0), "c": (3, 3)})
    assert take(nodes, 1, faulty={"a": 5, "b": 6}) == "c"
    nodes = nodes_with({"a": (0, 0), "b": (0, 0)})
    assert take(nodes, 2, faulty={"a": 6, "b": 5}) == "bb"


def test_a_node_that_does_not_pass_is_left_out_and_one_that_is_full_takes_no_more() -> None:
    nodes = NodeSet()
    for name, cpus in (("a", 1.0), ("b", 2.0), ("c", 0.5)):
        nodes.put(node(name, cpus=cpus))
    assert sorted(take(nodes, 10, task("new", cpus=1))) == ["a", "b", "b"]


def test_many_refusing_nodes_are_walked_with_pauses() -> None:
    nodes = NodeSet()
    for number in range(600):
        nodes.put(node(f"n{number:03}"))
    preference = Preference("service", {}, pipeline(task("new", cpus=1)), Refusals())
    assert list(ranked(preference, [], nodes.by_load())) == [None, None]


def tree_of(nodes: NodeSet, *descriptors: str) -> Branch:
    levels = PROFILES.of(task("t", spread=descriptors)).spread
    assert levels is not None
    root = Branch()
    for info in nodes.by_load():
        root.descend(info.path(levels), info.services.get("service", 0)).nodes.append(info)
    return root


def test_a_branch_counts_the_tasks_of_all_its_nodes_and_a_missing_label_is_a_branch() -> None:
    nodes = NodeSet()
    placed = {"a": 3, "b": 2, "c": 4, "d": 2, "e": 1}
    labels = {"a": ("dc1", "r1"), "b": ("dc1", "r2"), "c": ("dc2", "r2")}
    for name, count in placed.items():
        dc, rack = labels.get(name, ("", ""))
        nodes.put(node(name, labels={"dc": dc, "rack": rack} if dc else {}))
        for number in range(count):
            one = task(f"{name}{number}", node_id=name, state=api.TaskState.RUNNING)
            nodes.track(one, name, PROFILES.of(one))
    root = tree_of(nodes, "node.labels.dc", "node.labels.rack")
    assert root.count == 12
    assert {name: branch.count for name, branch in root.branches.items()} == {"dc1": 5, "dc2": 4, "": 3}
    assert {name: branch.count for name, branch in root.branches["dc1"].branches.items()} == {
        "r1": 3,
        "r2": 2,
    }
    assert root.branches["dc2"].branches["r2"].count == 4
    assert root.branches[""].branches[""].count == 3


def test_a_branch_without_room_is_left_out() -> None:
    nodes = NodeSet()
    nodes.put(node("a", labels={"az": "1"}))
    nodes.put(node("b", cpus=9, labels={"az": "2"}))
    preference = Preference("service", {}, pipeline(task("new", cpus=1)), Refusals())
    order = tree_of(nodes, "node.labels.az").spread(preference)
    taken = [next(order) for _ in range(3)]
    assert [info.id for info in taken if info is not None] == ["b", "b", "b"]
