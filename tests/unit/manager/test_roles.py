"""What is to be done for a node's role.

Sources: contract/raft-store-manager.md, 21; contract/security.md, cases 47 to 50.
"""

import pytest

from swarmkit.api import messages as api
from swarmkit.manager.roles import Evict, RoleAction, SetRole, decide

WORKER, MANAGER = api.NodeRole.WORKER, api.NodeRole.MANAGER
UP, DOWN = api.RaftMemberStatus.REACHABLE, api.RaftMemberStatus.UNREACHABLE


def node(id: str, role: int, wish: int) -> api.Node:
    return api.Node(id=id, role=role, spec=api.NodeSpec(desired_role=wish))  # type: ignore[arg-type]


def member(raft_id: int, node_id: str, reachability: int = UP) -> api.RaftMember:
    status = api.RaftMemberStatus(reachability=reachability)  # type: ignore[arg-type]
    return api.RaftMember(raft_id=raft_id, node_id=node_id, status=status)


def decided(nodes: list[api.Node], members: list[api.RaftMember], own: int = 1) -> list[RoleAction]:
    return decide({each.id: each for each in nodes}, members, own)


@pytest.mark.parametrize("role", [WORKER, MANAGER])
def test_a_role_as_wished_needs_nothing(role: int) -> None:
    members = [member(1, "n")] if role == MANAGER else []
    assert decided([node("n", role, role)], members) == []


def test_a_promotion_changes_the_role_at_once_and_adds_no_member() -> None:
    assert decided([node("n", WORKER, MANAGER)], []) == [SetRole("n", MANAGER)]


def test_a_demotion_removes_the_member_and_leaves_the_role() -> None:
    nodes = [node("a", MANAGER, MANAGER), node("b", MANAGER, WORKER)]
    assert decided(nodes, [member(1, "a"), member(2, "b")]) == [Evict(2, "b")]


def test_who_is_no_member_any_more_becomes_a_worker() -> None:
    nodes = [node("a", MANAGER, MANAGER), node("b", MANAGER, WORKER)]
    assert decided(nodes, [member(1, "a")]) == [SetRole("b", WORKER)]


def test_a_member_without_a_node_is_removed() -> None:
    assert decided([node("a", MANAGER, MANAGER)], [member(1, "a"), member(2, "b")]) == [Evict(2, "b")]


def test_a_worker_that_joined_all_the_same_is_removed() -> None:
    nodes = [node("a", MANAGER, MANAGER), node("b", WORKER, WORKER)]
    assert decided(nodes, [member(1, "a"), member(2, "b")]) == [Evict(2, "b")]


def test_a_new_manager_that_has_not_joined_yet_is_left_alone() -> None:
    nodes = [node("a", MANAGER, MANAGER), node("b", MANAGER, MANAGER)]
    assert decided(nodes, [member(1, "a")]) == []


def test_a_role_nobody_knows_is_not_set() -> None:
    assert decided([node("a", WORKER, 7)], []) == []


def test_promotions_come_first_the_dead_go_before_the_living_and_the_leader_goes_last() -> None:
    nodes = [node(id, MANAGER, WORKER) for id in "abcd"]
    nodes += [node("e", MANAGER, WORKER), node("f", WORKER, MANAGER)]
    members = [member(1, "a"), member(2, "b"), member(3, "c", DOWN), member(4, "d")]
    assert decided(nodes, members) == [
        SetRole("f", MANAGER),
        SetRole("e", WORKER),
        Evict(3, "c"),
        Evict(2, "b"),
        Evict(4, "d"),
        Evict(1, "a"),
    ]
