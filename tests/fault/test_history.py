"""The checker of histories accepts what a register can show, and nothing else."""

import random

import pytest

from tests.fault.history import NOTHING, History, NotLinearizableError, Operation, Outcome, check_register

OK, REFUSED, UNKNOWN = Outcome.OK, Outcome.REFUSED, Outcome.UNKNOWN
FOREVER = float("inf")


def write(old: str, new: str, called: float, ended: float, outcome: Outcome = OK) -> Operation:
    return Operation("r", old, new, called, ended, outcome)


def read(value: str, called: float, ended: float, outcome: Outcome = OK) -> Operation:
    return Operation("r", None, value, called, ended, outcome)


CREATED = write(NOTHING, "a", 0, 1)

GOOD = {
    "nothing happened": [],
    "reads see the newest write": [CREATED, read("a", 2, 3), write("a", "b", 4, 5), read("b", 6, 7)],
    "a read before the creation": [read(NOTHING, -2, -1), CREATED],
    "a read beside a write sees it or not": [
        CREATED, write("a", "b", 2, 9), read("a", 3, 4), read("b", 5, 6), read("a", 2.5, 7),
    ],
    "a write of unknown outcome never took effect": [
        CREATED, write("a", "b", 2, 3, UNKNOWN), read("a", 4, 5),
    ],
    "a write of unknown outcome took effect late": [
        CREATED, write("a", "b", 2, 3, UNKNOWN), read("a", 4, 5), read("b", 6, 7), read("b", 8, 9),
    ],
    "a write of unknown outcome shows by what follows it": [
        CREATED, write("a", "b", 2, 3, UNKNOWN), write("b", "c", 4, 5), read("c", 6, 7),
    ],
    "a refused write": [CREATED, write("a", "b", 2, 3, REFUSED), read("a", 4, 5)],
    "a read of unknown outcome counts for nothing": [CREATED, read("x", 2, 3, UNKNOWN), read("a", 4, 5)],
    "writes under way at once, in the order that their reads demand": [
        CREATED, write("b", "c", 2, 9), write("a", "b", 2, 9), read("c", 3, 8), read("b", 3, 8),
    ],
    "call and answer at the same moment overlap": [CREATED, write("a", "b", 2, 3), read("a", 3, 4)],
}  # fmt: skip

BAD = {
    "a stale read": [CREATED, write("a", "b", 2, 3), read("a", 4, 5)],
    "a stale read after another client's newer one": [
        CREATED, write("a", "b", 2, 9), read("b", 3, 4), read("a", 5, 6),
    ],
    "a lost write: two that found the same": [CREATED, write("a", "b", 2, 3), write("a", "c", 4, 5)],
    "two acknowledged at once that found the same": [CREATED, write("a", "b", 2, 9), write("a", "c", 2, 9)],
    "an acknowledged write that vanishes": [CREATED, write("a", "b", 2, 3), read("b", 4, 5), read("a", 6, 7)],
    "an acknowledged creation that vanishes": [CREATED, read(NOTHING, 2, 3)],
    "a value from nowhere": [CREATED, read("x", 2, 3)],
    "a value before it was written": [CREATED, read("b", 2, 3), write("a", "b", 4, 5)],
    "a refused write that took effect": [CREATED, write("a", "b", 2, 3, REFUSED), read("b", 4, 5)],
    "a write of unknown outcome that took effect twice": [
        CREATED, write("a", "b", 2, 3, UNKNOWN), write("b", "c", 4, 5), read("c", 6, 7), read("b", 8, 9),
    ],
    "a write of unknown outcome that is undone": [
        CREATED, write("a", "b", 2, 3, UNKNOWN), read("b", 4, 5), read("a", 6, 7),
    ],
    "an effect before the call": [CREATED, read("b", 2, 3), write("a", "b", 4, 5, UNKNOWN)],
    "two creations of one name": [CREATED, write(NOTHING, "b", 2, 3)],
    "reads that disagree about the order": [
        CREATED, write("a", "b", 2, 20), write("b", "c", 2, 20), read("c", 3, 4), read("b", 5, 6),
    ],
}  # fmt: skip


@pytest.mark.parametrize("operations", GOOD.values(), ids=GOOD.keys())
def test_what_a_register_can_show_is_accepted(operations: list[Operation]) -> None:
    check_register(operations)


@pytest.mark.parametrize("operations", BAD.values(), ids=BAD.keys())
def test_what_no_register_can_show_is_refused(operations: list[Operation]) -> None:
    with pytest.raises(NotLinearizableError, match="nothing explains"):
        check_register(operations)


def test_what_a_register_may_hold_in_the_end_includes_writes_of_unknown_outcome() -> None:
    assert check_register([CREATED, write("a", "b", 2, 3)]) == {"b"}
    assert check_register([CREATED, write("a", "b", 2, 3, UNKNOWN)]) == {"a", "b"}
    assert check_register([CREATED, write("a", "b", 2, 3, UNKNOWN), write("b", "c", 4, 5, UNKNOWN)]) == {
        "a",
        "b",
        "c",
    }
    assert check_register([]) == {NOTHING}


def test_the_report_names_the_operation_and_what_the_register_held() -> None:
    with pytest.raises(NotLinearizableError) as caught:
        check_register(BAD["a stale read"])
    assert "4.0000 to 5.0000 r read 'a' OK" in str(caught.value)
    assert "held one of ['b']" in str(caught.value)


def test_a_value_that_is_written_twice_is_a_mistake_of_the_test() -> None:
    with pytest.raises(ValueError, match="written more than once"):
        check_register([CREATED, write("a", "a", 2, 3)])


def test_registers_are_checked_each_by_itself() -> None:
    history = History()
    for operation in (CREATED, Operation("other", NOTHING, "a", 2, 3), read("a", 4, 5)):
        history.add(operation)
    assert history.check() == {"r": {"a"}, "other": {"a"}}
    history.add(Operation("other", None, NOTHING, 6, 7))
    with pytest.raises(NotLinearizableError, match="other read ''"):
        history.check()


def recorded(rng: random.Random, clients: int, length: int) -> list[Operation]:
    """Let clients use a true register at random; some answers never come."""
    value, now, operations = NOTHING, 0.0, list[Operation]()
    free_at = [0.0] * clients
    for number in range(length):
        client = rng.randrange(clients)
        now = max(now, free_at[client]) + rng.random()
        called = rng.uniform(free_at[client], now)
        ended = free_at[client] = now + rng.random() * clients
        outcome = UNKNOWN if rng.random() < 0.1 else OK
        if rng.random() < 0.5:
            operations.append(read(value, called, ended, outcome))
        elif outcome is UNKNOWN and rng.random() < 0.5:
            operations.append(write(value, f"v{number}", called, ended, UNKNOWN))
        else:
            operations.append(write(value, f"v{number}", called, ended, outcome))
            value = f"v{number}"
    return operations


@pytest.mark.parametrize("seed", range(20))
def test_random_histories_of_a_true_register_are_accepted_and_broken_ones_are_not(seed: int) -> None:
    rng = random.Random(seed)
    operations = recorded(rng, clients=8, length=300)
    check_register(operations)
    values = [op.value for op in operations if op.outcome is OK and not op.is_read]
    stale = read(values[len(values) // 2], FOREVER, FOREVER)
    with pytest.raises(NotLinearizableError):
        check_register([*operations, stale])
