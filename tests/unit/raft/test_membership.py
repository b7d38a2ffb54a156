"""contract/raft-store-manager.md, 9, 12 and D18, D19, D24: the group as a state machine."""

import random

import pytest

from swarmkit.api import messages as api
from swarmkit.raft.errors import MembershipError
from swarmkit.raft.log_pb2 import MembershipChange
from swarmkit.raft.membership import MAX_RAFT_ID, Membership, pick_raft_id

ADD, REMOVE, UPDATE, RESET = (
    MembershipChange.ADD,
    MembershipChange.REMOVE,
    MembershipChange.UPDATE,
    MembershipChange.RESET,
)


def change(
    kind: "MembershipChange.Kind.ValueType", raft_id: int, node: str = "", addr: str = ""
) -> MembershipChange:
    member = api.RaftMember(raft_id=raft_id, node_id=node, addr=addr)
    return MembershipChange(kind=kind, member=member)


def group() -> Membership:
    membership = Membership()
    for number in (3, 1, 2):
        membership.apply(change(ADD, number, f"n{number}", f"a{number}"))
    return membership


def ids(membership: Membership) -> list[int]:
    return [member.raft_id for member in membership.members]


def test_members_are_listed_by_raft_id_without_status() -> None:
    assert ids(group()) == [1, 2, 3]
    added = change(ADD, 9, "n9", "a9")
    added.member.status.leader = True
    membership = group()
    membership.apply(added)
    assert not membership.members[-1].HasField("status")


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (change(ADD, 1, "n9", "a9"), "present already"),
        (change(ADD, 9, "n1", "a9"), "node n1 is a member already, as 1"),
        (change(ADD, 9, "n9", "a1"), "address a1 belongs to member 1"),
        (change(ADD, 0, "n9", "a9"), "out of range"),
        (change(ADD, MAX_RAFT_ID + 1, "n9", "a9"), "out of range"),
        (change(REMOVE, 9), "not found"),
        (change(UPDATE, 9, "n9", "a9"), "not found"),
        (change(UPDATE, 1, "n2", "a9"), "belongs to node n1"),
        (change(UPDATE, 1, "n1", "a2"), "address a2 belongs"),
        (change(MembershipChange.UNSPECIFIED, 1), "unknown kind"),
    ],
)
def test_an_invalid_change_changes_nothing(bad: MembershipChange, reason: str) -> None:
    membership = group()
    before = membership.snapshot()
    with pytest.raises(MembershipError, match=reason):
        membership.apply(bad)
    assert membership.snapshot() == before


def test_a_removed_id_never_returns_and_an_unknown_one_is_not_remembered() -> None:
    membership = group()
    membership.apply(change(REMOVE, 2))
    with pytest.raises(MembershipError, match="was removed"):
        membership.apply(change(ADD, 2, "n2", "a2"))
    with pytest.raises(MembershipError):
        membership.apply(change(REMOVE, 9))
    membership.apply(change(ADD, 9, "n2", "a2"))
    assert ids(membership) == [1, 3, 9]


def test_the_last_member_stays() -> None:
    membership = Membership()
    membership.apply(change(ADD, 1, "n1", "a1"))
    with pytest.raises(MembershipError, match="last one"):
        membership.apply(change(REMOVE, 1))


def test_several_members_may_lack_an_address() -> None:
    membership = Membership()
    membership.apply(change(ADD, 1, "n1"))
    membership.apply(change(ADD, 2, "n2"))
    membership.apply(change(UPDATE, 1, "n1", "a1"))
    assert [member.addr for member in membership.members] == ["a1", ""]


def test_a_reset_leaves_one_member_and_remembers_the_others_as_removed() -> None:
    membership = group()
    membership.apply(change(RESET, 2, "n2", "a2"))
    assert ids(membership) == [2]
    assert membership.removed == {1, 3}


def test_a_snapshot_restores_members_and_never_forgets_removed_ids() -> None:
    source, target = group(), group()
    source.apply(change(REMOVE, 1))
    target.apply(change(REMOVE, 3))
    target.restore(source.snapshot())
    assert ids(target) == [2, 3]
    assert target.removed == {1, 3}


def test_a_picked_id_is_new() -> None:
    class Loaded(random.Random):
        def randint(self, a: int, b: int) -> int:
            assert (a, b) == (1, MAX_RAFT_ID)
            return numbers.pop(0)

    numbers = [5, 6, 7]
    assert pick_raft_id(Loaded(), {5, 6}) == 7
