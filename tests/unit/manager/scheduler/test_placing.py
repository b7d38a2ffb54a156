"""Where tasks go, and what those are told that go nowhere."""

from collections import Counter
from collections.abc import Iterable

import pytest

from swarmkit.api import messages as api
from swarmkit.manager.scheduler.decisions import ASSIGNED_TEXT, Assignment, Retirement
from swarmkit.manager.scheduler.generic import discrete
from swarmkit.manager.scheduler.nodeinfo import NodeInfo
from tests.unit.manager.scheduler.build import (
    GIB,
    World,
    changed,
    host_port,
    node,
    nodes,
    pending,
    resources,
    task,
    values,
)

RUNNING = api.TaskState.RUNNING
SHUTDOWN = api.TaskState.SHUTDOWN


def running(placed: dict[str, int], service_id: str = "service", **options: object) -> list[api.Task]:
    return [
        task(f"r-{service_id}-{on}-{number}", service_id, node_id=on, state=RUNNING, **options)  # type: ignore[arg-type]
        for on, count in placed.items()
        for number in range(count)
    ]


def sizes(world: World, service_id: str = "service") -> list[int]:
    return sorted(world.counts(service_id).values())


def service(service_id: str = "service", version: int | None = None) -> api.Service:
    made = api.Service(id=service_id)
    if version is not None:
        made.spec_version.index = version
    return made


def labelled(names: Iterable[str], **labels: str) -> list[api.Node]:
    return [node(name, labels=labels) for name in names]


# Spread and groups


def test_new_tasks_go_to_the_nodes_without_one() -> None:
    world = World(*nodes("abc"), *running({"a": 1}), *pending(2))
    assert sorted(world.tick().values()) == ["b", "c"]


def test_rewriting_nodes_does_not_change_where_tasks_go() -> None:
    world = World(*nodes("abc"), *running({"a": 1, "b": 1}))
    world.update(*nodes("abc"))
    world.create(*pending(1))
    assert world.tick() == {"p0": "c"}


def test_a_task_goes_where_one_was_deleted_and_a_returned_one_is_placed_again() -> None:
    world = World(*nodes("abc"), *running({"a": 1, "b": 1, "c": 1}))
    first = running({"a": 1})[0]
    world.delete(first)
    world.create(*pending(1))
    assert world.tick() == {"p0": "a"}
    world.update(task("r-service-b-0"))
    assert world.tick() == {"r-service-b-0": "b"}


@pytest.mark.parametrize("version", [None, 1])
def test_services_spread_by_their_own_tasks_first_and_by_all_then(version: int | None) -> None:
    world = World(*nodes("abcde"), services=[service("s1"), service("s2")])
    world.create(*pending(18, "s1", "a", version=version))
    world.tick()
    assert sizes(world, "s1") == [3, 3, 4, 4, 4]
    lighter = {on for on, count in world.counts("s1").items() if count == 3}
    world.create(*pending(2, "s2", "b", version=version))
    assert set(world.tick().values()) == lighter
    world.create(*pending(3, "s1", "c", version=version))
    assert set(world.tick().values()) > lighter
    assert sizes(world, "s1") == [4, 4, 4, 4, 5]
    five = next(on for on, count in world.counts("s1").items() if count == 5)
    world.create(*pending(1, "s2", "d", version=version))
    (chosen,) = world.tick().values()
    assert chosen not in lighter
    assert chosen != five


@pytest.mark.parametrize("version", [None, 1])
def test_an_emptied_node_is_filled_first(version: int | None) -> None:
    world = World(*nodes("abcde"), services=[service("s1"), service("s2")])
    world.create(*running({"a": 4, "b": 4, "c": 4, "d": 4, "e": 4}, "s1", version=version))
    world.create(*running({"b": 1, "c": 1, "d": 1}, "s2", version=version))
    world.delete(*running({"a": 4}, "s1"))
    world.create(*pending(4, "s1", "x", version=version), *pending(2, "s2", "y", version=version))
    placed = world.tick()
    assert {placed[f"x{number}"] for number in range(4)} == {"a"}
    assert [placed[f"y{number}"] for number in range(2)].count("a") == 1


@pytest.mark.parametrize(
    ("before", "count", "after"),
    [([0, 1, 5], 8, [4, 5, 5]), ([0, 0, 10], 10, [5, 5, 10]), ([3, 3, 3], 0, [3, 3, 3])],
)
@pytest.mark.parametrize("version", [None, 1])
def test_uneven_counts_are_filled_from_below(
    before: list[int], count: int, after: list[int], version: int | None
) -> None:
    world = World(*nodes("abc"), *running(dict(zip("abc", before, strict=True)), version=version))
    world.create(*pending(count, version=version))
    world.tick()
    assert sizes(world) == after


def test_without_nodes_the_error_is_bare_and_a_node_ends_the_wait() -> None:
    world = World(*pending(1))
    assert world.tick() == {}
    assert world.errors == {"p0": "no suitable node"}
    world.create(node("a"))
    assert world.tick() == {"p0": "a"}


def test_tasks_of_a_deleted_service_are_given_up_at_the_next_tick() -> None:
    world = World(*pending(1))
    world.tick()
    assert world.state.groups
    del world.services["service"]
    world.tick()
    assert not world.state.groups


def test_a_task_without_a_service_is_placed_but_not_kept() -> None:
    world = World(*pending(1, ""))
    assert world.tick() == {}
    assert not world.state.groups
    assert not world.errors
    world.create(node("a"), task("other", ""))
    assert world.tick() == {"other": "a"}


def test_a_placed_task_says_where_and_why_and_loses_its_error() -> None:
    world = World(node("a"), changed(task("t"), err="no suitable node"))
    (decision,) = world.decide()
    assert isinstance(decision, Assignment)
    written = changed(decision.task)
    decision.apply(written)
    assert written.node_id == "a"
    assert written.status.state == api.TaskState.ASSIGNED
    assert (written.status.message, written.status.err) == (ASSIGNED_TEXT, "")


# Preferences


@pytest.mark.parametrize("version", [None, 1])
def test_branches_share_equally_whatever_their_number_of_nodes(version: int | None) -> None:
    world = World(*labelled("a", az="1"), *labelled("bcde", az="2"))
    world.create(*pending(8, version=version, spread=["node.labels.az"]))
    world.tick()
    assert world.counts() == {"a": 4, "b": 1, "c": 1, "d": 1, "e": 1}


def test_two_levels_share_at_each_level_as_far_as_there_is_room() -> None:
    def placed(name: str, az: str, rack: str, cpus: float) -> api.Node:
        return node(name, cpus=cpus, labels={"az": az, "rack": rack})

    world = World(
        placed("small", "1", "1", 0.5),
        placed("five", "1", "1", 5),
        *(placed(f"r1-{number}", "2", "1", 100) for number in range(3)),
        *(placed(f"r2-{number}", "2", "2", 100) for number in range(2)),
    )
    world.create(*pending(12, version=1, cpus=1, spread=["node.labels.az", "node.labels.rack"]))
    world.tick()
    counts = world.counts()
    assert (counts["small"], counts["five"]) == (0, 5)
    racks = [sorted(count for on, count in counts.items() if on.startswith(rack)) for rack in ("r1", "r2")]
    assert sorted(map(sum, racks)) == [3, 4]
    assert all(rack[-1] - rack[0] <= 1 for rack in racks)


def test_full_racks_of_other_services_do_not_keep_the_spread_from_ending() -> None:
    world = World(
        node("a", labels={"dc": "1", "rack": "1"}),
        node("b", labels={"dc": "1", "rack": "2"}),
        node("c", labels={"dc": "2", "rack": "1"}),
        *running({"a": 3, "b": 1, "c": 3}),
    )
    world.create(*pending(2, spread=["node.labels.dc", "node.labels.rack"]))
    assert set(world.tick().values()) <= {"b", "c"}


def test_the_remainder_of_a_full_branch_goes_evenly_to_the_others() -> None:
    world = World(
        *(node(name, cpus=cpus, labels={"az": name}) for name, cpus in (("a", 1), ("b", 99), ("c", 99))),
        *running({"b": 4}, cpus=1),
    )
    world.create(*pending(9, cpus=1, spread=["node.labels.az"]))
    world.tick()
    assert world.counts() == {"a": 1, "b": 6, "c": 6}


def test_tasks_on_a_node_that_takes_no_more_count_for_its_branch() -> None:
    world = World(
        node("a1", labels={"az": "a"}), node("a2", labels={"az": "a"}), node("b", labels={"az": "b"})
    )
    world.create(*running({"a1": 4}))
    world.update(node("a1", labels={"az": "a"}, state=api.NodeStatus.DOWN))
    world.create(*pending(4, spread=["node.labels.az"]))
    assert set(world.tick().values()) == {"b"}


def test_an_unknown_descriptor_is_no_preference_and_a_missing_label_is_a_branch() -> None:
    world = World(*nodes("abcd"))
    world.create(*pending(4, spread=["node.hostname"]))
    world.tick()
    assert sizes(world) == [1, 1, 1, 1]
    world = World(*labelled("abc", az="1"), node("d"))
    world.create(*pending(6, spread=["node.labels.az"]))
    world.tick()
    assert world.counts() == {"a": 1, "b": 1, "c": 1, "d": 3}


def test_a_retry_goes_on_by_the_same_preferences() -> None:
    world = World(*labelled("a", az="1"), *running({"a": 3}, spread=["node.labels.az"]))
    world.update(node("a", availability=api.NodeSpec.PAUSE, labels={"az": "1"}))
    world.create(*pending(4, spread=["node.labels.az"]))
    world.tick()
    world.create(*labelled("bc", az="2"))
    world.update(*labelled("a", az="1"))
    assert Counter(world.tick().values()) == {"b": 2, "c": 2}, "three of az 1, so az 2 is to catch up"


# Failures


def fail(world: World, task_id: str, on: str, version: int | None = 1) -> None:
    world.update(task(task_id, version=version, node_id=on, state=api.TaskState.FAILED))


def test_a_node_on_which_tasks_keep_failing_is_chosen_last() -> None:
    world = World(*nodes("ab"), *running({"a": 1}, version=1))
    chosen = []
    for number in range(6):
        world.create(task(f"t{number}", version=1))
        (on,) = world.tick().values()
        chosen.append(on)
        fail(world, f"t{number}", on)
        world.create(task(f"g{number}", "global", node_id="a"))
        world.tick()
        world.update(task(f"g{number}", "global", node_id="a", state=api.TaskState.FAILED))
    assert chosen == ["b"] * 5 + ["a"]
    assert world.state.failures.faulty(("service", 1), world.now) == {"b": 5}
    assert world.state.failures.faulty(("global", 0), world.now) == {}


def test_a_new_version_of_the_service_starts_with_a_clean_record() -> None:
    world = World(*nodes("ab"), *running({"a": 1}, version=1))
    for number in range(5):
        world.create(task(f"t{number}", version=1))
        fail(world, f"t{number}", world.tick()[f"t{number}"])
    world.create(task("new", version=2))
    assert world.tick() == {"new": "b"}
    world.create(task("old", version=1))
    assert world.tick() == {"old": "a"}


def test_failures_are_forgotten_after_five_minutes() -> None:
    world = World(*nodes("ab"), *running({"a": 1}, version=1))
    for number in range(5):
        world.create(task(f"t{number}", version=1))
        fail(world, f"t{number}", world.tick()[f"t{number}"])
    world.now = 300.0
    world.create(task("t", version=1))
    assert world.tick() == {"t": "b"}


def test_the_least_faulty_node_is_used_if_all_are() -> None:
    world = World(*nodes("ab"))
    for on, count in (("a", 6), ("b", 5)):
        for number in range(count):
            world.create(task(f"{on}{number}", version=1, node_id=on, state=RUNNING))
            fail(world, f"{on}{number}", on)
    world.create(task("t", version=1))
    assert world.tick() == {"t": "b"}


def test_a_task_that_completes_or_is_shut_down_is_no_failure() -> None:
    world = World(*nodes("ab"))
    for number in range(6):
        for state in (api.TaskState.COMPLETE, SHUTDOWN):
            world.create(task("t", version=1, node_id="a", state=RUNNING))
            world.update(task("t", version=1, node_id="a", state=state))
        assert world.state.failures.faulty(("service", 1), world.now) == {}, number


# Resources


def test_the_reasons_of_all_nodes_are_told_the_most_frequent_first() -> None:
    big = [node(name, cpus=8, memory=8 * GIB, state=api.NodeStatus.UNKNOWN) for name in "bc"]
    world = World(node("a", cpus=1, memory=GIB), *big, *pending(1, cpus=2, memory=2 * GIB))
    world.tick()
    text = "no suitable node (2 nodes not available for new tasks; insufficient resources on 1 node)"
    assert world.errors == {"p0": text}
    world.create(node("d", cpus=8, memory=8 * GIB))
    assert world.tick() == {"p0": "d"}


def test_a_node_with_room_for_one_gets_one() -> None:
    world = World(node("a", cpus=2), node("b", cpus=9), *running({"a": 1, "b": 3}, cpus=1))
    world.create(*pending(2, cpus=1))
    assert sorted(world.tick().values()) == ["a", "b"]


def test_resources_come_free_when_a_task_has_ended() -> None:
    world = World(node("a", cpus=4), *pending(1, cpus=3))
    world.tick()
    world.create(task("second", cpus=3))
    world.tick()
    assert world.errors == {"second": "no suitable node (insufficient resources on 1 node)"}
    world.update(task("p0", node_id="a", state=SHUTDOWN, desired=SHUTDOWN, cpus=3))
    assert world.state.tick_wanted
    assert world.tick() == {"second": "a"}


def test_a_set_of_values_is_handed_out_one_by_one() -> None:
    world = World(node("a", generic=resources(orange="red green", apple=4)))
    world.create(*pending(3, generic={"orange": 1, "apple": 1}))
    assigned = [decision for decision in world.decide() if isinstance(decision, Assignment)]
    held = [values(decision.generic) for decision in assigned]
    assert sorted(held) == [[("orange", "green"), ("apple", 1)], [("orange", "red"), ("apple", 1)]]


def test_a_task_placed_again_records_only_what_it_gets_now() -> None:
    world = World(node("a", generic=resources(orange="red green")))
    world.create(task("t", generic={"orange": 1}, held=[*resources(orange="green"), discrete("apple", 1)]))
    (decision,) = world.decide()
    written = changed(decision.task)
    decision.apply(written)
    assert values(written.assigned_generic_resources) == [("orange", "red")]


# Other filters, through a whole tick


def test_host_ports_keep_tasks_apart() -> None:
    udp = api.PortConfig.UDP
    world = World(*nodes("ab"), task("t", "s1", ports=[host_port(58)]))
    world.create(task("u", "s2", ports=[host_port(58, udp)]))
    assert sorted(world.tick()) == ["t", "u"]
    assert len(set(world.counts().values())) == 1
    world.create(task("both", ports=[host_port(58), host_port(58, udp)]))
    world.tick()
    assert world.errors == {"both": "no suitable node (host-mode port already in use on 2 nodes)"}


def test_the_limit_of_replicas_on_a_node_is_held_within_a_batch() -> None:
    world = World(*nodes("ab"), *pending(3, max_replicas=1))
    assert sorted(world.tick().values()) == ["a", "b"]
    assert set(world.errors.values()) == {"no suitable node (max replicas per node limit reached)"}
    world.create(node("c"))
    assert set(world.tick().values()) == {"c"}


def test_an_unmet_constraint_is_told_before_the_limit_of_replicas() -> None:
    world = World(*nodes("abc"), *pending(1, max_replicas=1, constraints=["node.hostname == nowhere"]))
    world.tick()
    assert world.errors == {"p0": "no suitable node (scheduling constraints not satisfied on 3 nodes)"}


# Explanations


def test_an_unchanged_reason_is_not_written_again() -> None:
    world = World(node("a", cpus=1), *pending(3, cpus=2))
    world.tick()
    assert world.writes == 3
    world.update(node("a", cpus=1))
    world.tick()
    assert world.writes == 3
    world.create(*pending(1, cpus=2, prefix="q"))
    world.tick()
    assert world.writes == 4, "only the new one has not been told"


def test_the_reasons_of_a_partly_placed_group_describe_the_final_state() -> None:
    world = World(*nodes("ab", cpus=2), node("c", availability=api.NodeSpec.PAUSE))
    world.create(*pending(6, version=1, cpus=1))
    assert len(world.tick()) == 4
    text = "no suitable node (insufficient resources on 2 nodes; 1 node not available for new tasks)"
    assert set(world.errors.values()) == {text}


def test_a_retry_asks_only_nodes_that_changed_and_forgets_deleted_ones() -> None:
    world = World(*nodes("abc", cpus=1), *pending(2, cpus=2))
    world.tick()
    world.delete(node("b"))
    world.update(node("c", cpus=1, availability=api.NodeSpec.DRAIN))
    world.tick()
    text = "no suitable node (1 node not available for new tasks; insufficient resources on 1 node)"
    assert set(world.errors.values()) == {text}
    world.create(node("d", cpus=2))
    assert list(world.tick().values()) == ["d"]
    assert "insufficient resources on 2 nodes" in world.errors["p1"]


def test_a_retry_does_not_ask_a_node_again_that_did_not_change(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(*nodes("abcdefgh", cpus=1), *pending(1, cpus=2))
    world.tick()
    (group,) = world.state.groups.values()
    asked = []
    verdict = group.pipeline.verdict

    def note(info: NodeInfo) -> int:
        asked.append(info.id)
        return verdict(info)

    monkeypatch.setattr(group.pipeline, "verdict", note)
    world.update(node("c", cpus=1))
    world.tick()
    assert set(asked) == {"c"}


# Tasks of an old version


def test_a_stuck_task_of_an_old_version_is_shut_down_once_it_shall_stop() -> None:
    world = World(node("a"), *pending(2, version=1, max_replicas=1))
    world.tick()
    stuck = "p1"
    world.services["service"] = service(version=2)
    world.update(changed(world.state.tasks[stuck], desired_state=SHUTDOWN))
    (decision,) = world.decide()
    assert isinstance(decision, Retirement)
    written = changed(decision.task)
    decision.apply(written)
    assert (written.status.state, written.status.err) == (SHUTDOWN, "")
    assert not world.state.groups


def test_a_stuck_task_of_an_old_version_that_shall_run_is_neither_explained_nor_kept() -> None:
    world = World(*pending(1, version=1), services=[service(version=2)])
    assert world.decide() == []
    assert not world.state.groups


@pytest.mark.parametrize(("task_version", "service_version"), [(None, 2), (1, None), (2, 2), (3, 2)])
def test_a_task_that_is_not_known_to_be_old_stays(
    task_version: int | None, service_version: int | None
) -> None:
    world = World(*pending(1, version=task_version), services=[service(version=service_version)])
    world.tick()
    assert world.errors == {"p0": "no suitable node"}


# One for another


def test_one_bad_task_does_not_keep_the_others_from_being_placed(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(node("a"), *pending(1), *pending(1, prefix="bad", max_replicas=7))
    bad = next(group for group in world.state.groups.values() if "bad0" in group.tasks)

    def broken(_: object) -> int:
        raise ValueError("broken")

    monkeypatch.setattr(bad.pipeline, "verdict", broken)
    assert world.tick() == {"p0": "a"}
